"""Find the names, numbers and birth dates of a dataset's people in text, in any spelling."""

import re
import unicodedata
from collections.abc import Iterator
from datetime import date

import pydicom

_IDENTIFIERS = (
    "PatientID",
    "AccessionNumber",
    "StudyID",
    "AdmissionID",
    "OtherPatientIDs",
    "PatientTelephoneNumbers",
    "RequestedProcedureID",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
)
_TITLES = "mr mrs ms miss dr prof med phd md herr frau sir jr sr ii iii iv"
_PARTICLES = "von vom van der den de di da del della la le du dos das al el bin ibn zu zum und"
# Parts of names that identify nobody; a particle counts if it is the whole name.
_NOBODY, _NOT_ALONE = frozenset(_TITLES.split()), frozenset(_PARTICLES.split())
# Letters that Unicode does not decompose. Below: vowels written as two letters.
_LETTERS = str.maketrans(
    {"ø": "o", "æ": "a", "œ": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ŋ": "n"}
)
_WRITTEN_OUT = re.compile(r"(?:ae|oe|ue|aa)")
_LETTER_RUN = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"\d+")
_LONG, _LEAST_DIGITS = 4, 5
_MONTHS = (
    ("jan", "gen", "ene"),
    ("feb", "fev"),
    ("mar", "mrz"),
    ("apr", "avr", "abr"),
    ("mai", "may", "mag"),
    ("jun", "juin", "giu"),
    ("jul", "juil", "lug"),
    ("aug", "aou", "ago"),
    ("sep", "set"),
    ("okt", "oct", "ott"),
    ("nov",),
    ("dez", "dec", "dic"),
)
# Short defined terms of the standard, allowed even if a patient has such a name.
_SHORT_TERMS = (
    "mr ot sc m p r i no yes se ir gr ep rm sk mtc ss trs sp mp osp nd ffe ax cor sag pd fl tr te "
    "us cm br hfs hfp ffs mip mpr adc fa eco"
)
_CODES = frozenset(_SHORT_TERMS.split())


def folded(text: str) -> str:
    """Fold the spellings of a name into one: Müller, MUELLER and mueller become the same."""
    plain = unicodedata.normalize("NFKD", text.casefold()).translate(_LETTERS)
    plain = "".join(one for one in plain if not unicodedata.combining(one))
    return _WRITTEN_OUT.sub(lambda pair: pair[0][0], plain)


class Identifiers:
    """Names, numbers and birth dates of all people in a dataset."""

    def __init__(self, dataset: pydicom.Dataset) -> None:
        long: set[str] = set()
        short: set[str] = set()
        self._numbers: set[str] = set()
        born: set[date] = set()
        for text in _texts(dataset, born):
            for part in re.split(r"[\^=\\]", folded(text)):
                words = {*_WORD.findall(part), *_LETTER_RUN.findall(part)}
                for word in words if len(words) == 1 else words - _NOT_ALONE:
                    self._note(word, long, short)
        self._long = tuple(sorted(long))
        self._short = frozenset(short)
        self._dates = [_date_pattern(day) for day in sorted(born)]
        self._numbers |= {day.strftime("%Y%m%d") for day in born}

    def _note(self, word: str, long: set[str], short: set[str]) -> None:
        if word.isdigit():
            if len(word) >= _LEAST_DIGITS:
                self._numbers.add(word)
        elif word in _NOBODY:
            pass
        elif len(word) >= _LONG or not word.isascii():
            long.add(word)  # in syllabic scripts one character can be a name
        elif len(word) > 1:
            short.add(word)

    def in_text(self, text: str) -> bool:
        """Whether a free text contains any of them; short names only as whole words."""
        return any(self._in(folded(one)) for one in _readings(text))

    def _in(self, text: str) -> bool:
        if any(word in text for word in self._long):
            return True
        if not self._short.isdisjoint(_LETTER_RUN.findall(text)):
            return True
        if not self._short.isdisjoint(_WORD.findall(text)):
            return True
        if not self._numbers.isdisjoint(_NUMBER.findall(text)):
            return True
        return any(pattern.search(text) for pattern in self._dates)

    def in_code(self, text: str) -> bool:
        """Whether a code string is one of them or contains one as a whole word."""
        plain = folded(text)
        words = {*_WORD.findall(plain), *_LETTER_RUN.findall(plain)}
        if not words.isdisjoint(self._long) or not words.isdisjoint(self._numbers):
            return True
        return not (words - _CODES).isdisjoint(self._short)

    def in_number(self, text: str) -> bool:
        """Whether a whole number is one of them: "0.10000" does not match the patient 10000."""
        return not self._numbers.isdisjoint(one.strip(" \0") for one in text.split("\\"))


def _readings(text: str) -> Iterator[str]:
    """The text, and its UTF-8 decoding if it looks like UTF-8 read as Latin-1."""
    yield text
    if not text.isascii():
        try:
            yield text.encode("latin-1").decode()
        except UnicodeError:
            return


def _texts(dataset: pydicom.Dataset, born: set[date]) -> Iterator[str]:
    """Names and numbers, also those in sequences; birth dates are added to ``born``."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _texts(item, born)
        elif element.keyword == "PatientBirthDate":
            day = _day(str(element.value or "").strip())
            if day is not None:
                born.add(day)
        elif (element.VR == "PN" or element.keyword in _IDENTIFIERS) and element.value:
            several = not isinstance(element.value, str) and element.VM > 1
            for one in element.value if several else [element.value]:
                yield from _readings(str(one))


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _date_pattern(day: date) -> re.Pattern[str]:
    """Matches a date in digits or with the name of its month, in any usual order."""
    month = rf"(?:0?{day.month}|(?:{'|'.join(_MONTHS[day.month - 1])})[^\W\d_]*)"
    number, year = rf"0?{day.day}(?:st|nd|rd|th)?", rf"(?:{day.year}|'?{day.year % 100:02d})"
    between = r"[\W_]+"
    apart = "|".join(
        between.join(parts)
        for parts in (
            (number, month, year),
            (month, number, year),
            (year, month, number),
        )
    )
    together = "|".join(
        day.strftime(form)
        for form in ("%Y%m%d", "%d%m%Y", "%m%d%Y", "%y%m%d", "%d%m%y", "%d%b%Y", "%d%b%y")
    ).lower()
    return re.compile(rf"(?<!\d)(?:{apart}|{together})(?!\d)")
