"""A distinct mark in every DICOM attribute that can hold text, and where marks turn up again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from tests.dicoms import as_bytes, head, mr_slice

FILES = 6
DAYS = 300
"""Dates of one kind are marked with consecutive days, fewer than this."""
_TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_BYTES = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}
_FIRST_DAY = date(2101, 1, 1)
# What the file is or how it is read: with anything else in it this is no MR image.
_NOT_MARKED = {
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "Modality",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "SOPClassUID",
    "SpecificCharacterSet",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
}
_HOLDER = "AnatomicRegionSequence"  # of what lies deeper
# Of these tests/unit/webapp/deidentification/test_pixels.py takes care.
_PIXELS = re.compile(r"PixelData|PaletteColor|OffsetTable|LUTData|LUTSequence")
# The same in all files of a study.
_SHARED = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
)
_META = (
    "ImplementationVersionName",
    "SourceApplicationEntityTitle",
    "SendingApplicationEntityTitle",
    "ReceivingApplicationEntityTitle",
    "SourcePresentationAddress",
    "SendingPresentationAddress",
    "ReceivingPresentationAddress",
    "PrivateInformationCreatorUID",
    "PrivateInformation",
)
# One run of letters, of which no two are alike in sound: what names a patient goes wherever it
# turns up, and no other mark must go with it.
_DIGITS = "BCDFGHJKLM"
_AS_DIGITS = bytes.maketrans(_DIGITS.encode(), b"0123456789")
# Nothing is asked of what follows: in a file, that is the next element's tag, which can read like
# a digit. What comes before a number must not make it a piece of a UID or of a hash.
_FOUND = re.compile(
    rb"ZQ([B-M]{5})XV|1\.2\.826\.0\.1\.4711\.(\d{5})|(?<![\da-f.-])17(\d{5})7|101112\.0(\d{5})",
    re.IGNORECASE,
)
# In a file, in ISO 8601, and as Python writes it.
_DAY = re.compile(
    rb"(?<![\da-f.-])(210[12])(\d\d)(\d\d)|(210[12])-(\d\d)-(\d\d)|\((210[12]), (\d+), (\d+)[,)]"
)


def word(number: int) -> str:
    """The mark of a number as text: nine letters, which fit every kind."""
    return "ZQ" + "".join(_DIGITS[int(digit)] for digit in f"{number:05d}") + "XV"


@dataclass
class Planted:
    """Files of one study and what is hidden in them.

    Attributes:
        marks: what each mark stands in, by its number: a keyword, or a path of them.
        days: the same by the day that the mark is.
    """

    first: int
    marks: dict[int, str] = field(default_factory=dict)
    days: dict[date, str] = field(default_factory=dict)
    shared: Dataset = field(default_factory=Dataset)

    def text(self, where: str) -> str:
        """A new mark as text."""
        return word(self._number(where))

    def value(self, vr: str, where: str) -> str | bytes:
        """A new mark that a value of this kind may be (PS3.5 6.2)."""
        if vr in _TEXTS:
            return self.text(where)
        if vr in _BYTES:
            return self.text(where).encode() + b"  " * 3
        if vr == "UI":
            return f"1.2.826.0.1.4711.{self._number(where)}"
        if vr in {"DS", "IS"}:
            return f"17{self._number(where)}7"
        if vr == "TM":
            return f"101112.0{self._number(where)}"
        day = _FIRST_DAY + timedelta(days=len(self.days))
        assert len(self.days) < DAYS
        self.days[day] = where
        return f"{day:%Y%m%d}" + ("101112" if vr == "DT" else "")

    def _number(self, where: str) -> int:
        number = self.first + len(self.marks)
        self.marks[number] = where
        return number


def planted(first: int, *, patient_id: int) -> tuple[Planted, list[bytes]]:
    """Files of one study that have a mark wherever text can be.

    Args:
        first: number of the first mark, of five digits.
        patient_id: number of the mark that is the patient's identifier.
    """
    marks = Planted(first)
    for keyword in _SHARED:
        _add(marks, marks.shared, tag_for_keyword(keyword) or 0, dictionary_VR(keyword))
    marks.marks[patient_id] = "PatientID"
    marks.shared.PatientID = word(patient_id)
    slices = [_slice(number, marks) for number in range(FILES)]
    for position, (tag, vr) in enumerate(_attributes()):
        _add(marks, slices[position % FILES], tag, vr)
    for number, dataset in enumerate(slices):
        _add_private(marks, dataset)
        _add_meta(marks, dataset)
        dataset.preamble = marks.text(f"preamble {number}").encode().ljust(128)
    return marks, [as_bytes(dataset) for dataset in slices]


def found_in(content: bytes, planted: Planted) -> set[str]:
    """Where the marks were planted that are in ``content``."""
    numbers = {
        int(next(filter(None, match.groups())).upper().translate(_AS_DIGITS))
        for match in _FOUND.finditer(content)
    }
    days = {tuple(int(part) for part in match.groups() if part) for match in _DAY.finditer(content)}
    return {planted.marks[number] for number in numbers & planted.marks.keys()} | {
        where for day, where in planted.days.items() if (day.year, day.month, day.day) in days
    }


def _slice(number: int, marks: Planted) -> FileDataset:
    dataset = mr_slice(head(number, FILES, 64), number=number + 1, position=(0, 0, 3.0 * number))
    del dataset[0x00290010], dataset[0x00291010]
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name in ("StudyDate", "SeriesDate", "ContentDate", "StudyTime", "StudyID", "PatientSex"):
        delattr(dataset, name)
    dataset.update(marks.shared)
    return dataset


def _attributes() -> Iterator[tuple[int, str]]:
    """Tags and kinds of all that can hold text, those of repeating groups once each.

    But ages: three digits and a letter are not to be found again.
    """
    for tag, (kind, *_rest, keyword) in DicomDictionary.items():
        if tag >> 16 in {0, 2, 4} or keyword in {"", _HOLDER, *_SHARED, *_NOT_MARKED}:
            continue
        if not _PIXELS.search(keyword) and _can_hold_text(vr := kind.split(" or ")[-1]):
            yield tag, vr
    for mask, (kind, *_rest) in RepeatersDictionary.items():
        if mask[:2] in {"50", "60"} and _can_hold_text(vr := kind.split(" or ")[-1]):
            yield int(mask.replace("x", "0"), 16), vr


def _can_hold_text(vr: str) -> bool:
    return vr in _TEXTS | _BYTES | {"UI", "DS", "IS", "TM", "DA", "DT", "SQ"}


def _add(marks: Planted, dataset: Dataset, tag: int, vr: str) -> None:
    where = keyword_for_tag(tag) or f"{tag:08X}"
    if vr == "SQ":
        item = Dataset()
        item.TextValue = marks.text(f"{where}.TextValue")
        item.ReferencedSOPInstanceUID = marks.value("UI", f"{where}.ReferencedSOPInstanceUID")
        dataset.add_new(tag, vr, Sequence([item]))
    else:
        dataset.add_new(tag, vr, marks.value(vr, where))


def _add_private(marks: Planted, dataset: Dataset) -> None:
    """Elements that no dictionary knows, in the file itself and deep inside of sequences."""
    inner, outer = Dataset(), Dataset()
    inner.PatientName = marks.text("inside.PatientName")
    outer.AnatomicRegionModifierSequence = Sequence([inner])
    setattr(dataset, _HOLDER, Sequence([outer]))
    for holder in (dataset, inner):
        creator = marks.text("private creator")
        block = holder.private_block(0x0029, creator, create=True)
        for number, vr in enumerate(sorted(_TEXTS | _BYTES | {"UI", "DS", "TM", "DA", "DT"})):
            block.add_new(number, vr, marks.value(vr, f"private {vr}"))
        holder.add_new(0x00185555, "UN", marks.text("unknown").encode())


def _add_meta(marks: Planted, dataset: FileDataset) -> None:
    for name in _META:
        value = marks.value(dictionary_VR(name), f"meta.{name}")
        setattr(dataset.file_meta, name, value)
