"""Keyed pseudonyms: a patient always gets the same one, irreversible without the key."""

import hmac
import uuid
from hashlib import sha256

# Without letters and digits that are easily confused.
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
_LENGTH = 10
_MOST_DAYS = 3650


class Pseudonymiser:
    """Pseudonyms of one organisation, unlinkable to those of others.

    HMAC with SHA-256 (RFC 2104) of the original value, with a key derived for the organisation
    from the installation's key.
    """

    def __init__(self, key: bytes, organisation_id: uuid.UUID) -> None:
        self._key = hmac.digest(key, organisation_id.bytes, sha256)

    def patient(self, identifier: str, issuer: str = "") -> str:
        """``P-`` and ten letters or digits for a patient identifier; case and spacing ignored."""
        number = int.from_bytes(self._digest("patient", _alike(identifier), _alike(issuer)), "big")
        letters = []
        for _ in range(_LENGTH):
            number, digit = divmod(number, len(_ALPHABET))
            letters.append(_ALPHABET[digit])
        return "P-" + "".join(letters)

    def uid(self, original: str) -> str:
        """A UID below 2.25 (PS3.5 B.2) that replaces ``original``."""
        return f"2.25.{int.from_bytes(self._digest('uid', original)[:16], 'big')}"

    def days(self, identifier: str, issuer: str = "") -> int:
        """The shift of the patient's dates, from -3650 to -1 days."""
        digest = self._digest("days", _alike(identifier), _alike(issuer))
        return -1 - int.from_bytes(digest, "big") % _MOST_DAYS

    def _digest(self, *parts: str) -> bytes:
        return hmac.digest(self._key, "\0".join(parts).encode(), sha256)


def _alike(text: str) -> str:
    return " ".join(text.upper().split())
