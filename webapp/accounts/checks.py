"""Validation and normalisation of e-mail addresses, names, languages and other texts."""

from email_validator import EmailNotValidError, validate_email
from flask_babel import gettext as _

from webapp.errors import InvalidInput
from webapp.languages import LANGUAGES


def checked_email(email: str) -> str:
    """The normalised address; raises :class:`InvalidInput`."""
    address = address_or_none(email)
    if address is None:
        message = _("This is not an e-mail address.")
        raise InvalidInput(message, fields={"email": message})
    return address


def address_or_none(email: str) -> str | None:
    """The normalised address, or None if it is not valid."""
    try:
        found = validate_email(
            email.strip(), check_deliverability=False, globally_deliverable=False
        )
    except EmailNotValidError:
        return None
    return found.normalized.lower()


def checked_name(name: str, *, field: str = "name", longest: int = 120) -> str:
    """The name without control characters and extra spaces; raises :class:`InvalidInput`."""
    checked = " ".join("".join(sign if sign.isprintable() else " " for sign in name).split())
    message = None
    if not checked:
        message = _("This must not be empty.")
    elif len(checked) > longest:
        message = _("This can have at most %(n)d characters.", n=longest)
    if message:
        raise InvalidInput(message, fields={field: message})
    return checked


def checked_language(locale: str) -> str:
    """``locale``; raises :class:`InvalidInput` if the portal is not available in it."""
    if locale not in LANGUAGES:
        message = _("The portal is not available in this language.")
        raise InvalidInput(message, fields={"locale": message})
    return locale


def storable(text: str) -> str:
    """Text in a form that every database stores, with line breaks of one character."""
    # JSON can contain lone surrogates, which no database stores.
    whole = text.encode(errors="replace").decode()
    # Browsers count a line break as one character and send two.
    return whole.replace("\r\n", "\n").replace("\0", "")


def checked_reason(reason: str, *, longest: int) -> str:
    """The reason that somebody gives for an act, as it is kept.

    Args:
        longest: characters that it may have.

    Raises:
        InvalidInput: it is missing or too long.
    """
    text = storable(reason).strip()
    if not text:
        raise InvalidInput.of_field("reason", _("Please give a reason."))
    if len(text) > longest:
        message = _("This may have at most %(n)d characters.", n=longest)
        raise InvalidInput.of_field("reason", message)
    return text
