"""Whether a patient code looks as if it named somebody: rules that question and never forbid.

A pseudonym such as ``P-7KQ2``, ``STUDY 12`` or ``MRN 0012345`` passes; names and dates of birth
are what people type by habit, and they must not stay by accident.
"""

import re
from datetime import date
from enum import StrEnum

from webapp.database import now

_OLDEST = 1900
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Words that stand beside a number or for nobody in particular.
_NOBODY = re.compile(
    "anon|anonym|anonymous|anonymi[sz]ed|arm|case|cohort|control|demo|group|mrn|no|nr|number|pat|"
    "patient|phantom|pid|scan|site|study|sub|subject|test|trial|unknown|visit|volunteer",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_PIECES = re.compile(r"[\s._+:/,;^=-]+")
_SEPARATED = re.compile(r"(?<!\d)(\d{1,4})([./ -])(\d{1,2})\2(\d{1,4})(?!\d)")
_SPELT = re.compile(r"(?<!\d)(\d{1,2})[./ -]?([^\W\d_]{3,9})[./ -]?(\d{4}|\d{2})(?!\d)")
_EIGHT = re.compile(r"(?<!\d)(\d{8})(?!\d)")
# Numbers that several countries give people at birth: six digits of a date, four more.
_PERSONAL = re.compile(r"(?<!\d)(\d{2})(\d{2})(\d{2})[-+]\d{4}(?!\d)")
_FIRST_IDEOGRAPH = 0x3040


class CodeDoubt(StrEnum):
    """What a patient code looks like."""

    NAME = "name"
    DATE = "date"


def doubt_about(code: str) -> CodeDoubt | None:
    """What speaks against ``code`` as a pseudonym; None where nothing does."""
    if _holds_date(code):
        return CodeDoubt.DATE
    return CodeDoubt.NAME if _looks_like_name(code) else None


def _looks_like_name(code: str) -> bool:
    pieces = [piece for piece in _PIECES.split(code.strip()) if piece]
    numbered = any(character.isdigit() for character in code)
    words = [piece for piece in pieces if _WORD.fullmatch(piece) and not _NOBODY.fullmatch(piece)]
    if any(len(word) >= 2 and ord(word[0]) >= _FIRST_IDEOGRAPH for word in words):
        return True
    if numbered:  # "Jane Doe 2", but not "STUDY 12"
        return len([word for word in words if len(word) >= 3]) >= 2
    if len(words) >= 2:
        apart = bool(re.search(r"[\s,^]", code.strip()))  # "Li Wu" is a name, "AB-CD" is none
        return any(len(word) >= (2 if apart else 3) for word in words)
    return len(words) == 1 and len(words[0]) > 3


def _holds_date(code: str) -> bool:
    for match in _SEPARATED.finditer(code):
        first, _separator, middle, last = match.groups()
        if _is_date(first, middle, last) or _is_date(last, middle, first):
            return True
        if _is_date(last, first, middle):  # month first
            return True
    for match in _SPELT.finditer(code):
        day, month, year = match.groups()
        known = [n for n, name in enumerate(_MONTHS, 1) if month.casefold().startswith(name)]
        if known and _is_date(year, str(known[0]), day):
            return True
    for match in _EIGHT.finditer(code):
        digits = match[1]
        if _is_date(digits[:4], digits[4:6], digits[6:]):
            return True
        if _is_date(digits[4:], digits[2:4], digits[:2]):
            return True
    return any(
        _is_date(match[1], match[2], match[3]) or _is_date(match[3], match[2], match[1])
        for match in _PERSONAL.finditer(code)
    )


def _is_date(year: str, month: str, day: str) -> bool:
    """Whether these digits are a day on which somebody alive may have been born."""
    if len(year) not in {2, 4} or len(month) > 2 or len(day) > 2:
        return False
    years = [int(year)] if len(year) == 4 else [1900 + int(year), 2000 + int(year)]
    today = now().date()
    for candidate in years:
        try:
            born = date(candidate, int(month), int(day))
        except ValueError:
            continue
        if date(_OLDEST, 1, 1) <= born <= today:
            return True
    return False
