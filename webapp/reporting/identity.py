"""Patient, study, equipment and UIDs shared by all DICOM objects of one result.

Patient and study modules are copied from the study's files, so that a PACS with the study files
the result under it. UIDs are derived from the answer (version 5 UUIDs, PS3.5 B.2): sending the
same result twice makes no duplicates.
"""

import io
import uuid
from dataclasses import dataclass
from datetime import UTC

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from webapp.reporting.content import ReportContent, ReportedSlice, uid_of
from webapp.storage import BlobStore

MANUFACTURER = "Sulcus"
_NAMESPACE = uuid.UUID("8d5f0b0e-2a7c-5d53-9a61-4f4f1c0e7a25")
# Implementation Class UID; must never change.
_IMPLEMENTATION_UID = UID(uid_of(uuid.uuid5(_NAMESPACE, "sulcus implementation")))

# Type 2 attributes of the patient and general study modules (PS3.3 C.7.1.1 and C.7.2.1).
_NEVER_MISSING = (
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_TAKEN_OVER = (*_NEVER_MISSING, "PatientIdentityRemoved", "DeidentificationMethod")


@dataclass(frozen=True)
class ResultIdentity:
    """Patient and study of a result.

    Attributes:
        shared: dataset with the patient and general study modules.
        digest: hash of the answer; part of every generated UID.
    """

    shared: Dataset
    digest: str
    model: str
    model_version: str
    content_date: str
    content_time: str

    def made_uid(self, kind: str, part: object = "") -> str:
        """A generated UID for this answer; equal ``kind`` and ``part`` give the same UID."""
        return uid_of(uuid.uuid5(_NAMESPACE, f"{self.digest}/{kind}/{part}"))


def identity_of(content: ReportContent, blobs: BlobStore) -> ResultIdentity:
    """Read patient and study modules from the study's files, or generate them.

    Raises:
        MissingBlob: the file of the first key slice is gone.
    """
    shared = Dataset()
    for keyword in _NEVER_MISSING:
        setattr(shared, keyword, "")
    header = _header(content.key_slices[0], blobs)
    if header is None:
        shared.PatientName = f"{content.dicom_patient_id}^"  # only a family name
        shared.PatientIdentityRemoved = "YES"
        shared.DeidentificationMethod = "Pseudonymous code chosen by the sender"
    for keyword in _TAKEN_OVER:
        if header is not None and keyword in header:
            shared[keyword] = header[keyword]
    shared.PatientID = content.dicom_patient_id
    shared.StudyInstanceUID = content.uid
    if content.acquired_on and not shared.StudyDate:
        shared.StudyDate = content.acquired_on.strftime("%Y%m%d")
    moment = content.finished_at.astimezone(UTC)
    return ResultIdentity(
        shared=shared,
        digest=content.answer_digest,
        model=content.model_name,
        model_version=content.model_version,
        content_date=moment.strftime("%Y%m%d"),
        content_time=moment.strftime("%H%M%S"),
    )


def new_object(identity: ResultIdentity, *, class_uid: str, uid: str) -> FileDataset:
    """A DICOM file with patient, study, equipment and SOP common modules.

    Non-ASCII text is encoded as UTF-8.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(class_uid)
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.update(identity.shared)
    mark_as_ours(made, identity)
    made.SOPClassUID = class_uid
    made.SOPInstanceUID = uid
    return made


def mark_as_ours(made: Dataset, identity: ResultIdentity) -> None:
    """Fill in equipment and times; the answer's time makes repeated objects identical."""
    if not (str(identity.shared).isascii() and identity.model.isascii()):
        made.SpecificCharacterSet = "ISO_IR 192"
    made.Manufacturer = MANUFACTURER
    made.ManufacturerModelName = identity.model[:64]
    made.SoftwareVersions = identity.model_version
    made.ContentDate = made.SeriesDate = made.InstanceCreationDate = identity.content_date
    made.ContentTime = made.SeriesTime = made.InstanceCreationTime = identity.content_time
    for equipment in made.get("ContributingEquipmentSequence", ()):
        equipment.ContributionDateTime = identity.content_date + identity.content_time
    made.file_meta.ImplementationClassUID = _IMPLEMENTATION_UID
    made.file_meta.ImplementationVersionName = "SULCUS"


def as_file(made: Dataset) -> bytes:
    """Encode the object as a DICOM file (PS3.10)."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def _header(key: ReportedSlice, blobs: BlobStore) -> Dataset | None:
    if key.source is None:
        return None
    return pydicom.dcmread(
        io.BytesIO(blobs.get(key.source.blob_key)), stop_before_pixels=True, force=True
    )
