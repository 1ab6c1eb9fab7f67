"""Passwords: rules for new ones, hashing with Argon2id, and verification."""

import unicodedata
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from flask_babel import gettext as _

from webapp.errors import InvalidInput

SHORTEST = 10
LONGEST = 200

# The most common passwords that are long enough for the first rule.
_COMMON_WORDS = """
    0123456789 0987654321 1111111111 1122334455 123123123123 123321123321 1234512345 123456123456
    1234567890 12345678900 12345678910 123456789a 123456789q 1234567891 12345qwert 1q2w3e4r5t
    1q2w3e4r5t6y 1qaz2wsx3edc 9876543210 abcdefghij abcd123456 administrator adminadmin changeme123
    football123 iloveyou123 letmein123 liverpool1 manchester michelle12 password12 password123
    password1234 password12345 passwordpassword p@ssw0rd123 passw0rd123 princess123 qwerty12345
    qwerty123456 qwertyuiop qwertyuiop123 q1w2e3r4t5 q1w2e3r4t5y6 secret1234 sunshine123 sulcus1234
    superman123 welcome123 welcome1234 zaqwsxcde zxcvbnm123 zxcvbnmasd
"""
_COMMONEST = frozenset(_COMMON_WORDS.split())

_hasher = PasswordHasher()  # Argon2id with the library's parameters (RFC 9106, low memory)


def check_rules(password: str, *, email: str, name: str, field: str = "password") -> None:
    """Refuse a new password that is easily guessed.

    Args:
        field: the form field that the message belongs to.

    Raises:
        InvalidInput: the password breaks a rule.
    """
    plain = password.casefold()
    message = None
    if len(password) < SHORTEST:
        message = _("The password must have at least %(n)d characters.", n=SHORTEST)
    elif len(password) > LONGEST:
        message = _("The password can have at most %(n)d characters.", n=LONGEST)
    elif plain in {email.casefold(), email.partition("@")[0].casefold(), name.casefold()}:
        message = _("The password must not be your name or e-mail address.")
    elif plain in _COMMONEST or len(set(plain)) < 3:
        message = _("This password is very common and would be guessed at once.")
    if message:
        raise InvalidInput(message, fields={field: message})


def hash_password(password: str) -> str:
    """Hash with Argon2id, the current parameters and a new salt."""
    return _hasher.hash(_same_form(password))


def matches(password: str, password_hash: str | None) -> bool:
    """Whether the password matches the hash.

    Without a hash (no such user) the result is False, after the same time.
    """
    try:
        _hasher.verify(password_hash or _nobodys_hash(), _same_form(password))
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with outdated parameters."""
    return _hasher.check_needs_rehash(password_hash)


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    return _hasher.hash("nobody has this password")


def _same_form(password: str) -> str:
    # Some keyboards send é as one character, others as two.
    return unicodedata.normalize("NFKC", password)
