"""The installation's own signature: a row written past the portal is noticed.

The database does not hold the key (:mod:`ml.release.signing`).
"""

from collections.abc import Mapping
from typing import Any

from ml.release import signing
from webapp.extensions import current_settings


def sign(facts: Mapping[str, Any]) -> str:
    """The signature of ``facts``, 64 hexadecimal digits."""
    return str(signing.sign(facts, _key())[signing.SIGNATURE])


def is_signed(facts: Mapping[str, Any], signature: str | None) -> bool:
    """Whether ``signature`` is that of ``facts``."""
    return signing.verify({**facts, signing.SIGNATURE: signature}, _key())


def _key() -> bytes:
    return current_settings().model_key.encode()
