"""STOW-RS (PS3.18 10.5): receive instances, one part at a time."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from sqlalchemy import select

from ml.errors import MemoryBusy, UnreadableImage
from ml.imaging import footprint, parse_dicom, sniff
from ml.imaging.discretion import hushed
from webapp.accounts.models import User
from webapp.database import db
from webapp.deidentification import pseudonymiser_for
from webapp.dicomweb.addresses import instance_url, is_uid, study_url
from webapp.dicomweb.media import DICOM
from webapp.dicomweb.multipart import Part
from webapp.extensions import current_room
from webapp.intake.arrival import upload_limits
from webapp.pacs.receiving import (
    CANNOT_UNDERSTAND,
    NOT_OF_THIS_KIND,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SUCCESS,
    receive,
)
from webapp.studies.models import Instance

Json = dict[str, Any]


@dataclass(frozen=True)
class SenderIdentity:
    """The UIDs that the sender uses for an instance; None if one is invalid."""

    sop_class: str | None = None
    sop_instance: str | None = None
    study: str | None = None


@dataclass
class Outcome:
    """The outcome of all parts, as items of the response (PS3.18 10.5.3.3.1)."""

    study_url: str | None = None
    stored: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)

    @property
    def status(self) -> int:
        """200 if all are stored, 202 if some are, 409 if none is."""
        if not self.failed:
            return 200
        return 202 if self.stored else 409

    def as_json(self) -> Json:
        """The Store Instances Response Module.

        Items have the sender's own UIDs, so that it can match them; their URLs have the
        pseudonymous UIDs of the stored instances.
        """
        answer: Json = {}
        if self.study_url:
            answer["00081190"] = {"vr": "UR", "Value": [self.study_url]}
        if self.failed:
            answer["00081198"] = {"vr": "SQ", "Value": self.failed}
        if self.stored:
            answer["00081199"] = {"vr": "SQ", "Value": self.stored}
        return answer


def store(parts: Iterable[Part], *, actor: User, study_uid: str | None = None) -> Outcome:
    """Store the parts.

    Args:
        study_uid: the study to which all must belong, by the sender's UID.
    """
    outcome = Outcome()
    for part in parts:
        _store(part, outcome, actor=actor, study_uid=study_uid)
    return outcome


def _store(part: Part, outcome: Outcome, *, actor: User, study_uid: str | None) -> None:
    identity, reason = SenderIdentity(), PROCESSING_FAILURE  # exceeds the limit of one file
    if part.size is not None:
        try:
            with current_room().taken(part.size):
                content = part.content
                identity = _identity(content)
                reason = _reason_against(part, identity, study_uid)
                if reason == SUCCESS:
                    receipt = receive(content, received_by=actor)
                    reason = receipt.status
        except UnreadableImage:  # exceeds the memory budget
            reason = CANNOT_UNDERSTAND
        except MemoryBusy:
            reason = OUT_OF_RESOURCES
    if reason != SUCCESS:
        outcome.failed.append(_item(identity) | {"00081197": {"vr": "US", "Value": [reason]}})
        return
    item = _item(identity)
    if (instance := receipt.instance or _earlier(identity, actor)) is not None:
        outcome.study_url = study_url(instance.study_uid)
        url = instance_url(instance.study_uid, instance.series_uid, instance.uid)
        item["00081190"] = {"vr": "UR", "Value": [url]}
    outcome.stored.append(item)


def _reason_against(part: Part, identity: SenderIdentity, study_uid: str | None) -> int:
    media_type = part.headers.get("content-type", DICOM).partition(";")[0].strip().lower()
    if media_type != DICOM or identity.sop_instance is None:
        return CANNOT_UNDERSTAND
    if study_uid is not None and identity.study != study_uid:
        return NOT_OF_THIS_KIND
    return SUCCESS


def _earlier(identity: SenderIdentity, actor: User) -> Instance | None:
    """The row of an instance that was stored before."""
    uid = pseudonymiser_for(actor.organisation_id).uid(identity.sop_instance or "")
    return db.session.scalar(select(Instance).where(Instance.uid == uid))


def _identity(content: bytes) -> SenderIdentity:
    try:
        if sniff(content).format != "DICOM":
            return SenderIdentity()
        with current_room().taken(footprint(content).reading):
            dataset = parse_dicom(content, upload_limits())
    except UnreadableImage:
        return SenderIdentity()
    meta = getattr(dataset, "file_meta", Dataset())
    return SenderIdentity(
        sop_class=_uid(dataset, "SOPClassUID") or _uid(meta, "MediaStorageSOPClassUID"),
        sop_instance=_uid(dataset, "SOPInstanceUID") or _uid(meta, "MediaStorageSOPInstanceUID"),
        study=_uid(dataset, "StudyInstanceUID"),
    )


def _uid(dataset: Dataset, name: str) -> str | None:
    with hushed():
        try:
            text = str(dataset.get(name) or "").strip(" \0")
        except Exception:  # a damaged element can raise any exception
            return None
    return text if is_uid(text) else None


def _item(identity: SenderIdentity) -> Json:
    item: Json = {}
    if identity.sop_class:
        item["00081150"] = {"vr": "UI", "Value": [identity.sop_class]}
    if identity.sop_instance:
        item["00081155"] = {"vr": "UI", "Value": [identity.sop_instance]}
    return item
