"""Rewrite a stored DICOM file as part of another study.

PS3.4 B.4.1.3 lets an archive correct an instance's Patient ID, Study and Series Instance UID; the
SOP Instance UID stays, so that a file that is sent again is recognised. The original UIDs are kept
in Original Attributes (PS3.3 C.12.1.1.9), so that moving the file back undoes the move.
"""

import uuid
from dataclasses import dataclass

import pydicom
from pydicom.sequence import Sequence

from ml.imaging import NO_LIMITS, parse_dicom
from ml.imaging.discretion import discreet
from webapp.database import now
from webapp.deidentification.dicom import as_file

_DAMAGED = ("truncated", "The DICOM file is damaged or incomplete.")
# Attributes that are the same in all instances of a study (PS3.3 C.7.1, C.7.2).
_OF_THE_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "StudyDescription", "ReferringPhysicianName",
)  # fmt: skip
_SYSTEM = "Sulcus"


@dataclass(frozen=True)
class Reassigned:
    """The rewritten file and its Series Instance UID."""

    content: bytes
    series_uid: str


def reassign(
    content: bytes, *, study_uid: str, patient_code: str | None, sample: bytes | None
) -> Reassigned:
    """Rewrite a file as part of the study ``study_uid``; the pixel data are unchanged.

    Args:
        patient_code: the pseudonym of the study's patient; None if the patient is the same.
        sample: another file of the study, from which its patient and study attributes are copied.

    Raises:
        UnreadableImage: one of the files is damaged.
    """
    dataset = parse_dicom(content, NO_LIMITS)
    like = parse_dicom(sample, NO_LIMITS) if sample is not None else None
    with discreet(*_DAMAGED):
        if patient_code is not None:
            dataset.PatientID = dataset.PatientName = patient_code
            if not patient_code.isascii():
                dataset.SpecificCharacterSet = "ISO_IR 192"
        if like is not None:
            _take_over(dataset, like)
        original_study, original_series = _origin(dataset)
        if original_study == study_uid:  # moved back
            series_uid = original_series
            dataset.pop("OriginalAttributesSequence", None)
        else:
            series_uid = _series_uid(study_uid, original_series)
            dataset.OriginalAttributesSequence = Sequence([_note(original_study, original_series)])
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        return Reassigned(as_file(dataset), series_uid)


def _take_over(dataset: pydicom.Dataset, like: pydicom.Dataset) -> None:
    if like.get("SpecificCharacterSet"):
        dataset.SpecificCharacterSet = like.SpecificCharacterSet
    for name in _OF_THE_STUDY:
        if name in like:
            dataset[name] = like[name]
        else:
            dataset.pop(name, None)


def _origin(dataset: pydicom.Dataset) -> tuple[str, str]:
    """Original Study and Series Instance UID of the file."""
    for item in dataset.get("OriginalAttributesSequence") or []:
        if item.get("ModifyingSystem") == _SYSTEM:
            for values in item.get("ModifiedAttributesSequence") or []:
                return str(values.StudyInstanceUID), str(values.SeriesInstanceUID)
    return str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID)


def _note(study_uid: str, series_uid: str) -> pydicom.Dataset:
    """An Original Attributes item with the UIDs only: the patient may have been the wrong one."""
    values, item = pydicom.Dataset(), pydicom.Dataset()
    values.StudyInstanceUID, values.SeriesInstanceUID = study_uid, series_uid
    item.SourceOfPreviousValues = ""
    item.AttributeModificationDateTime = now().strftime("%Y%m%d%H%M%S+0000")
    item.ModifyingSystem = _SYSTEM
    item.ReasonForTheAttributeModification = "CORRECT"
    item.ModifiedAttributesSequence = Sequence([values])
    return item


def _series_uid(study_uid: str, original: str) -> str:
    """The same UID for all slices of an original series, however they were moved here."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{study_uid}/{original}').int}"
