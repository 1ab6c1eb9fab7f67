"""Check whether a patient code looks like a name or a birth date; this only asks, never forbids.

A pseudonym such as ``P-7KQ2``, ``STUDY 12`` or ``MRN 0012345`` passes. Names and dates of birth
are typed out of habit, and must not be stored by accident.
"""

import re
from datetime import date
from enum import StrEnum

from webapp.database import now

_OLDEST = 1900
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Words that accompany a number or mean no particular person.
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
# National identity numbers with the date of birth: six digits of a date, then four more.
_PERSONAL = re.compile(r"(?<!\d)(\d{2})(\d{2})(\d{2})[-+]\d{4}(?!\d)")
_FIRST_IDEOGRAPH = 0x3040


class CodeDoubt(StrEnum):
    """What a patient code looks like."""

    NAME = "name"
    DATE = "date"


def doubt_about(code: str) -> CodeDoubt | None:
    """Why ``code`` may not be a pseudonym; None if it looks like one."""
    if _holds_date(code):
        return CodeDoubt.DATE
    return CodeDoubt.NAME if _looks_like_name(code) else None


def _looks_like_name(code: str) -> bool:
    pieces = [piece for piece in _PIECES.split(code.strip()) if piece]
    numbered = any(character.isdigit() for character in code)
    words = [piece for piece in pieces if _WORD.fullmatch(piece) and not _NOBODY.fullmatch(piece)]
    if any(len(word) >= 2 and ord(word[0]) >= _FIRST_IDEOGRAPH for word in words):
        return True
    if numbered:  # a name such as "Jane Doe 2", but not "STUDY 12"
        return len([word for word in words if len(word) >= 3]) >= 2
    if len(words) >= 2:
        apart = bool(re.search(r"[\s,^]", code.strip()))  # "Li Wu" is a name, "AB-CD" is not
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
    """Whether these digits are a date between 1900 and today, so possibly a date of birth."""
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
