"""De-identify a DICOM file in memory: PS3.15 Annex E, basic profile with modified dates.

The action for each attribute is in :mod:`webapp.deidentification.profile`. Elements are checked as
the raw bytes in the file, so that a misplaced value or one of the wrong type is noticed before it
is converted.
"""

import io
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID_dictionary

from ml.errors import UnreadableImage
from ml.imaging.discretion import discreet, hushed
from webapp.deidentification.identifiers import Identifiers
from webapp.deidentification.pixel_data import keep_only_pixels
from webapp.deidentification.profile import (
    ACTIONS,
    BYTES_VRS,
    HARMLESS_TEXT,
    LUT_DATA,
    LUT_SEQUENCES,
    PICTURE_BYTES,
    TEXT_VRS,
    Action,
)
from webapp.deidentification.pseudonyms import Pseudonymiser

# PS3.5 6.2: the characters of code strings, numbers as text, and times.
_CODE = re.compile(r"[A-Z0-9_ \\\0]*")
_NUMBER = re.compile(r"[0-9eE+\-. \\\0]*")
_TIME = re.compile(r"[0-9.: \\\0]*")
# Code strings with few defined values, which are checked elsewhere (:mod:`ml.imaging.dicom`).
_DEFINED = frozenset(
    tag_for_keyword(keyword) for keyword in ("Modality", "PhotometricInterpretation")
)
_UID = re.compile(r"[0-9.]{1,64}")
_SHAPES = {"CS": _CODE, "DS": _NUMBER, "IS": _NUMBER, "TM": _TIME}
_FRAME_OF_REFERENCE = Tag("FrameOfReferenceUID")
_IMPLEMENTATION_UID = "2.25.243879174961402378136527216047251139466"
_REMOVED_GROUPS = {0x0004, 0x0010}  # media directory, patient
_ACTIONS_OF_PS3_15 = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)


@dataclass(frozen=True)
class Deidentified:
    """A de-identified file.

    Attributes:
        content: a DICOM file in the original transfer syntax.
        dataset: the same as a pydicom dataset.
        patient_code: the patient's pseudonym; made from the study if the file names no patient.
        burned_in: what the file says about identifiers in its pixels: yes, no or unknown.
    """

    content: bytes
    dataset: pydicom.Dataset
    patient_code: str
    burned_in: str


def deidentify(dataset: pydicom.Dataset, pseudonymiser: Pseudonymiser) -> Deidentified:
    """Remove everything from ``dataset`` that could identify the patient; changes it in place.

    Raises:
        UnreadableImage: ``truncated`` if the file is damaged or lacks a study, series or SOP
            instance UID.
    """
    with discreet("truncated", "The DICOM header is damaged."):
        return _deidentify(dataset, pseudonymiser)


def _deidentify(dataset: pydicom.Dataset, pseudonymiser: Pseudonymiser) -> Deidentified:
    _demand_identity(dataset)
    identity = _identity(dataset)
    code = pseudonymiser.patient(*identity)
    burned_in = {"YES": "yes", "NO": "no"}.get(_text(dataset, "BurnedInAnnotation"), "unknown")
    cleaner = _Cleaner(pseudonymiser, pseudonymiser.days(*identity), Identifiers(dataset))
    cleaner.clean(dataset)
    _demand_identity(dataset)  # again: invalid UIDs were removed
    _say_so(dataset, code)
    _new_meta(dataset)
    keep_only_pixels(dataset)
    return Deidentified(as_file(dataset), dataset, code, burned_in)


def as_file(dataset: pydicom.Dataset) -> bytes:
    """Encode as a DICOM file, in the transfer syntax of its file meta information."""
    buffer = io.BytesIO()
    with hushed():
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _demand_identity(dataset: pydicom.Dataset) -> None:
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    if not all(_text(dataset, name) for name in names):
        raise UnreadableImage("truncated", "The DICOM file does not say what it belongs to.")


def _identity(dataset: pydicom.Dataset) -> tuple[str, str]:
    """(identifier, issuer) of the patient, or of the study if the file names no patient."""
    if identifier := _text(dataset, "PatientID"):
        return identifier, _text(dataset, "IssuerOfPatientID")
    if name := _text(dataset, "PatientName"):
        return name, _text(dataset, "PatientBirthDate")
    return _text(dataset, "StudyInstanceUID"), "study"


def _text(dataset: pydicom.Dataset, name: str) -> str:
    return str(dataset.get(name) or "").strip().strip("\0")


class _Cleaner:
    """Applies the rules for one patient."""

    def __init__(self, pseudonymiser: Pseudonymiser, days: int, names: Identifiers) -> None:
        self._pseudonymiser = pseudonymiser
        self._shift = timedelta(days=days)
        self._names = names

    def clean(self, dataset: pydicom.Dataset, inside: int | None = None) -> None:
        """Clean all elements, also those in sequences.

        Args:
            inside: tag of the sequence that contains ``dataset`` as an item, or None.
        """
        for tag in list(dataset.keys()):
            element = dataset.get_item(tag)
            if not self._stays(dataset, tag, element, inside):
                del dataset[tag]

    def _stays(
        self,
        dataset: pydicom.Dataset,
        tag: BaseTag,
        element: DataElement | RawDataElement,
        inside: int | None,
    ) -> bool:
        """Apply the rules to one element; False if it must be removed."""
        if tag.is_private or tag.group in _REMOVED_GROUPS or _is_overlay(tag):
            return False
        vr = _vr(tag, element)
        if vr in {"DA", "DT"}:
            return self._moved(dataset, tag)
        if vr == "UI":
            return self._replaced(dataset, tag)
        action = ACTIONS.get(int(tag))
        if action is Action.REMOVE or action is Action.REPLACE_UID:
            return False
        if action is Action.EMPTY:
            dataset[tag] = DataElement(tag, vr, Sequence() if vr == "SQ" else "")
            return vr != "SQ"
        if vr == "SQ":
            return self._cleaned(dataset, tag)
        if int(tag) == LUT_DATA:
            return inside in LUT_SEQUENCES
        if vr in BYTES_VRS:
            return inside is None and int(tag) in PICTURE_BYTES
        if vr in TEXT_VRS and int(tag) not in HARMLESS_TEXT:
            return False
        return self._is_plain(vr, element)

    def _is_plain(self, vr: str, element: DataElement | RawDataElement) -> bool:
        """Whether the value is valid for its VR and identifies nobody."""
        if vr not in _SHAPES and vr not in TEXT_VRS:
            return _is_as_many(element)
        value = _as_text(element.value)
        shape = _SHAPES.get(vr)
        if shape and not shape.fullmatch(value):
            return False
        if vr == "CS":
            return int(element.tag) in _DEFINED or not self._names.in_code(value)
        if vr in _SHAPES:
            return not self._names.in_number(value)
        return not self._names.in_text(value)

    def _cleaned(self, dataset: pydicom.Dataset, tag: BaseTag) -> bool:
        items = dataset[tag].value
        if not isinstance(items, Sequence):
            return False
        for item in items:
            self.clean(item, int(tag))
        return True

    def _moved(self, dataset: pydicom.Dataset, tag: BaseTag) -> bool:
        """Shift dates back by the patient's number of days; an invalid date is removed."""
        element = dataset[tag]
        values = [element.value] if element.VM <= 1 else list(element.value)
        if not element.value:
            return True
        moved = [self._earlier(str(value)) for value in values]
        if any(value is None for value in moved):
            return False
        element.value = moved[0] if len(moved) == 1 else moved
        return True

    def _earlier(self, value: str) -> str | None:
        """Shift ``YYYYMMDD`` and keep the time after it; None if it is not a full date."""
        text = value.strip()
        if not re.fullmatch(r"\d{8}[\d.+-]{0,18}", text):
            return None
        try:
            day = datetime.strptime(text[:8], "%Y%m%d")  # noqa: DTZ007
            return (day + self._shift).strftime("%Y%m%d") + text[8:]
        except (ValueError, OverflowError):
            return None

    def _replaced(self, dataset: pydicom.Dataset, tag: BaseTag) -> bool:
        element = dataset[tag]
        if not element.value:
            return True
        values = [element.value] if isinstance(element.value, str) else list(element.value)
        texts = [str(value).strip() for value in values]
        if not all(_UID.fullmatch(text) for text in texts):
            return False
        new = [
            text if _is_well_known(tag, text) else self._pseudonymiser.uid(text) for text in texts
        ]
        element.value = new[0] if len(new) == 1 else new
        return True


def _is_well_known(tag: BaseTag, uid: str) -> bool:
    """Whether a UID is registered in PS3.6 and the attribute may hold such a UID.

    Not for instance UIDs: a sender may have invented one below DICOM's root.
    """
    if uid not in UID_dictionary:
        return False
    if tag == _FRAME_OF_REFERENCE:
        return UID_dictionary[uid][1] == "Well-known frame of reference"  # of an atlas
    return ACTIONS.get(int(tag)) is not Action.REPLACE_UID


def _is_overlay(tag: BaseTag) -> bool:
    """Whether it is an overlay or curve (groups 60xx and 50xx), which can contain drawn text."""
    return tag.group & 0xFF00 in {0x5000, 0x6000}


def _vr(tag: BaseTag, element: DataElement | RawDataElement) -> str:
    """The VR in the standard's dictionary; the VR in the file cannot override it."""
    try:
        known = dictionary_VR(tag)
    except KeyError:
        return "UN"  # not in the standard: it could contain anything
    first = known.split(" or ")[0]
    if " or " not in known:
        return first
    said = element.VR
    return said if said in known.split(" or ") else first


def _is_as_many(element: DataElement | RawDataElement) -> bool:
    """Whether binary numbers are not more than the dictionary allows: others could encode text."""
    try:
        allowed = dictionary_VM(element.tag)
    except KeyError:
        return False
    if not allowed.isdigit() or not isinstance(element, DataElement):
        return True
    return int(allowed) >= element.VM


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    try:
        return "\\".join(str(one) for one in value)
    except TypeError:
        return str(value)


def _say_so(dataset: pydicom.Dataset, code: str) -> None:
    """Mark the file as de-identified (PS3.15 E.1.1) and fill attributes that every image needs."""
    dataset.PatientName = dataset.PatientID = code
    dataset.PatientBirthDate = dataset.PatientSex = ""
    for name in ("AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(dataset, name, "")
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Sulcus: basic profile, modified dates, text by list"
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    dataset.DeidentificationMethodCodeSequence = Sequence(
        [_coded(value, meaning) for value, meaning in _ACTIONS_OF_PS3_15]
    )


def _coded(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, "DCM"
    item.CodeMeaning = meaning[:64]
    return item


def _new_meta(dataset: pydicom.Dataset) -> None:
    """Write new file meta information and preamble; keep only the transfer syntax."""
    old = getattr(dataset, "file_meta", None) or FileMetaDataset()
    syntax = old.get("TransferSyntaxUID")
    if syntax is None:
        implicit, little = dataset.original_encoding
        name = "ImplicitVRLittleEndian" if implicit else "ExplicitVRLittleEndian"
        syntax = getattr(pydicom.uid, name if little else "ExplicitVRBigEndian")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or old.get("MediaStorageSOPClassUID")
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = pydicom.uid.UID(_IMPLEMENTATION_UID)
    meta.ImplementationVersionName = "SULCUS"
    dataset.file_meta = meta
    if not dataset.get("SOPClassUID"):
        dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.preamble = b"\0" * 128
