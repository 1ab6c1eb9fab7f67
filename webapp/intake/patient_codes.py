"""The patient code of a study: validated, questioned, numbered or generated."""

import re
import secrets
from collections.abc import Sequence

from flask_babel import gettext as _

from webapp.errors import InvalidInput, QuestionableCode
from webapp.intake.codes import CodeDoubt, doubt_about
from webapp.intake.parcels import Parcel

LONGEST_CODE = 64
_CODE = re.compile(r"[\w][\w .:/+-]{0,63}")
# Without letters and digits that are easily confused.
_CODE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


def checked_code(patient_code: str, *, confirmed: bool) -> str:
    """The normalised patient code.

    Raises:
        InvalidInput: it contains characters that are not allowed.
        QuestionableCode: it looks like a name or a date of birth and is not ``confirmed``.
    """
    code = " ".join(patient_code.split())
    doubt = doubt_about(code)
    if code and not _CODE.fullmatch(code):
        message = _(
            "The patient code can have up to 64 letters, digits, spaces and the characters "
            ". : / + - _"
        )
        if doubt is not None:
            message = f"{code_question(doubt)} {message}"
        raise InvalidInput(message, fields={"patient_code": message})
    if doubt is not None and not confirmed:
        message = code_question(doubt)
        raise QuestionableCode(message, fields={"patient_code": message})
    return code


def code_question(doubt: CodeDoubt) -> str:
    """The message for a questionable patient code."""
    if doubt is CodeDoubt.DATE:
        return str(
            _(
                "This patient code appears to contain a date of birth. Use a pseudonym that does "
                "not reveal who the patient is."
            )
        )
    return str(
        _(
            "This patient code looks like a name. Use a pseudonym that does not reveal who the "
            "patient is."
        )
    )


def codes_for(parcels: Sequence[Parcel], given: str) -> list[str]:
    """A patient code for each parcel: the given one, numbered if there are several patients.

    Without a given code, the pseudonym in the files, or a generated one if they have none.
    """
    whose = list(dict.fromkeys(parcel.whose for parcel in parcels))
    if given and len(whose) == 1:
        return [given] * len(parcels)
    if given:
        suffixes = {one: f"-{number}" for number, one in enumerate(whose, start=1)}
        return [
            given[: LONGEST_CODE - len(suffixes[parcel.whose])] + suffixes[parcel.whose]
            for parcel in parcels
        ]
    return [parcel.patient or _made_up() for parcel in parcels]


def _made_up() -> str:
    return "P-" + "".join(secrets.choice(_CODE_ALPHABET) for _n in range(8))
