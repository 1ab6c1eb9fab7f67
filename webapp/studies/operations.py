"""What a user can do with studies: one function a verb, one transaction and audit entry each."""

import hashlib
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from flask import current_app
from flask_babel import gettext as _
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from config import Settings
from ml.errors import UnreadableImage
from ml.imaging import PICTURE_FORMATS, Limits, Slice, sniff
from ml.imaging.pictures import encode_png
from webapp import audit
from webapp.accounts.models import User
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotFound, RefusedUpload, TooLarge
from webapp.queueing import send_classification
from webapp.storage import BlobStore
from webapp.studies.models import (
    IdempotencyKey,
    Image,
    InferenceJob,
    Patient,
    Priority,
    Status,
    Study,
)
from webapp.studies.refusals import refusal

MAX_FILES = 200
_CODE = re.compile(r"[\w][\w .:/+-]{0,63}")
# Without letters and digits that are taken for one another when read aloud.
_CODE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


@dataclass(frozen=True)
class UploadedFile:
    """One file as it arrived. ``name`` serves in messages alone and is never kept."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Idempotency:
    """The key that an API caller chose, so that a repeated request makes no second study."""

    key: str


@dataclass(frozen=True)
class _Accepted:
    """A slice that was decoded, and the format of the file that it came in."""

    slice: Slice
    source_format: str


def submit_study(
    *,
    actor: User,
    files: Sequence[UploadedFile],
    patient_code: str = "",
    description: str = "",
    priority: Priority = Priority.ROUTINE,
    idempotency: Idempotency | None = None,
) -> Study:
    """Check and keep the files, record study and job in one transaction, then ask the workers.

    Raises:
        RefusedUpload: at least one file is not acceptable; nothing was kept. ``fields`` holds a
            sentence for each such file.
        TooLarge, InvalidInput: limits and values.
        Conflict: ``idempotency`` was used before for another upload.
    """
    _check_amount(files)
    code = _checked_code(patient_code)
    text = _checked_description(description)
    fingerprint = _fingerprint(files, patient_code, text, priority)
    if idempotency and (earlier := _earlier_study(actor, idempotency, fingerprint)):
        return earlier
    accepted = _decode_all(files)
    # Blobs first: a crash from here on leaves at most content that no row names.
    blobs: BlobStore = current_app.extensions["blobs"]
    keys = [blobs.put(encode_png(item.slice.pixels)) for item in accepted]

    def record() -> Study:
        study = Study(
            patient=_patient(code),
            uploaded_by_id=actor.id,
            description=text,
            priority=priority,
            images=_images(accepted, keys),
            jobs=[InferenceJob(images_total=len(accepted))],
        )
        db.session.add(study)
        audit.record("submit_study", subject=study, actor_id=actor.id, images=len(accepted))
        if idempotency:
            _remember(idempotency, actor, fingerprint, study)
        db.session.commit()
        return study

    try:
        study = record()
    except IntegrityError:
        # A twin of this request was faster: with the same key, or with the same new patient.
        db.session.rollback()
        if idempotency and (earlier := _earlier_study(actor, idempotency, fingerprint)):
            return earlier
        study = record()
    send_classification(study.jobs[-1].id)
    return study


def retry_study(*, actor: User, study_id: uuid.UUID) -> Study:
    """Queue a failed study again.

    Raises:
        NotFound: there is no such study.
        Conflict: it has not failed.
    """
    study = find_study(study_id)
    # One UPDATE decides, so that a double click queues one job.
    reopened = db.session.scalar(
        update(Study)
        .where(Study.id == study_id, Study.status == Status.FAILED)
        .values(status=Status.QUEUED, reason=None, finished_at=None)
        .returning(Study.id)
    )
    if reopened is None:
        db.session.rollback()
        raise Conflict(_("Only a study whose analysis failed can be analysed again."))
    job = InferenceJob(study_id=study_id, images_total=len(study.images))
    db.session.add(job)
    audit.record("retry_study", subject=study, actor_id=actor.id)
    db.session.commit()
    send_classification(job.id)
    return study


def find_study(study_id: uuid.UUID) -> Study:
    """The study of the organisation acted for; raises :class:`NotFound`."""
    study = db.session.scalar(select(Study).where(Study.id == study_id))
    if study is None:
        raise NotFound(_("There is no such study."))
    return study


def find_image(image_id: uuid.UUID) -> Image:
    """The image of the organisation acted for; raises :class:`NotFound`."""
    image = db.session.scalar(select(Image).where(Image.id == image_id))
    if image is None:
        raise NotFound(_("There is no such image."))
    return image


def _check_amount(files: Sequence[UploadedFile]) -> None:
    if not files:
        raise InvalidInput(_("Choose at least one image file."))
    if len(files) > MAX_FILES:
        raise TooLarge(
            _("These are %(n)d files; at most %(limit)d at once.", n=len(files), limit=MAX_FILES)
        )


def _checked_code(patient_code: str) -> str:
    code = " ".join(patient_code.split())
    if not code:
        return "P-" + "".join(secrets.choice(_CODE_ALPHABET) for _n in range(8))
    if not _CODE.fullmatch(code):
        message = _(
            "The patient code may have up to 64 letters, digits, spaces and the signs . : / + - _"
        )
        raise InvalidInput(message, fields={"patient_code": message})
    return code


def _checked_description(description: str) -> str:
    text = " ".join(description.replace("\0", "").split())
    if len(text) > 200:
        message = _("The description may have at most 200 characters.")
        raise InvalidInput(message, fields={"description": message})
    return text


def _fingerprint(
    files: Sequence[UploadedFile], patient_code: str, description: str, priority: Priority
) -> str:
    digest = hashlib.sha256(f"{patient_code}\0{description}\0{priority}".encode())
    for file in files:
        digest.update(hashlib.sha256(file.content).digest())
    return digest.hexdigest()


def _earlier_study(actor: User, idempotency: Idempotency, fingerprint: str) -> Study | None:
    known = db.session.scalar(
        select(IdempotencyKey).where(
            IdempotencyKey.user_id == actor.id, IdempotencyKey.key == idempotency.key
        )
    )
    if known is None:
        return None
    if known.fingerprint != fingerprint:
        raise Conflict(_("This Idempotency-Key was used before for another upload."))
    return find_study(known.study_id)


def _decode_all(files: Sequence[UploadedFile]) -> list[_Accepted]:
    """Decode every file before anything is kept, so that one bad file leaves no half a study."""
    settings: Settings = current_app.extensions["settings"]
    limits = Limits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)
    accepted: list[_Accepted] = []
    refused: dict[str, str] = {}
    for file in files:
        try:
            if len(file.content) > limits.max_bytes:
                raise UnreadableImage("too_large", "The file is larger than the limit.")
            reader = sniff(file.content)
            if reader.format not in PICTURE_FORMATS:
                # Other formats name patients in their headers; they wait for de-identification.
                raise UnreadableImage("unsupported", "Only pictures are accepted here.")
            slices = reader.decode(file.content, limits, "auto")
            accepted += [_Accepted(one, reader.format) for one in slices]
        except UnreadableImage as error:
            refused[_shown(file.name)] = refusal(error.code, limits)
    if refused:
        name, sentence = next(iter(refused.items()))
        raise RefusedUpload(f"{name}: {sentence}", fields=refused)
    return accepted


def _shown(name: str) -> str:
    """A file name fit for a message: its last part, printable, of bounded length."""
    base = re.split(r"[/\\]", name)[-1]
    printable = "".join(character for character in base if character.isprintable())
    return printable[:80] or _("unnamed file")


def _patient(code: str) -> Patient:
    known = db.session.scalar(select(Patient).where(Patient.code == code))
    return known or Patient(code=code)


def _images(accepted: list[_Accepted], keys: list[str]) -> list[Image]:
    return [
        Image(
            position=position,
            blob_key=key,
            source_format=item.source_format,
            width=item.slice.pixels.shape[1],
            height=item.slice.pixels.shape[0],
        )
        for position, (item, key) in enumerate(zip(accepted, keys, strict=True))
    ]


def _remember(idempotency: Idempotency, actor: User, fingerprint: str, study: Study) -> None:
    db.session.add(
        IdempotencyKey(
            user_id=actor.id, key=idempotency.key, fingerprint=fingerprint, study_id=study.id
        )
    )
