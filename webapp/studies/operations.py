"""What a user can do with studies: one function a verb, one transaction and audit entry each."""

import hashlib
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from ml.errors import UnreadableImage
from webapp import audit
from webapp.accounts.models import User
from webapp.database import db
from webapp.deidentification import pseudonymiser_for
from webapp.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    QuestionableUpload,
    RefusedUpload,
    TooLarge,
)
from webapp.extensions import current_blobs
from webapp.pacs.models import PacsNode
from webapp.queueing import send_classification
from webapp.storage import Keeper
from webapp.studies.analyses import request_analysis
from webapp.studies.arrival import (
    Arrival,
    BurnedIn,
    Delivered,
    ReceivedFile,
    UploadedFile,
    take_in,
    take_in_file,
    upload_limits,
)
from webapp.studies.assembly import (
    Source,
    arrange,
    attach,
    patient_with,
    sources_of,
    study_holding,
    study_with_uid,
)
from webapp.studies.models import (
    Analysis,
    IdempotencyKey,
    Image,
    Instance,
    Priority,
    Status,
    Study,
)
from webapp.studies.refusals import refusal

__all__ = [
    "MAX_FILES",
    "PLANES",
    "BurnedIn",
    "Handling",
    "Idempotency",
    "UploadedFile",
    "find_image",
    "find_study",
    "receive_instance",
    "retry_study",
    "submit_study",
]

MAX_FILES = 2000
PLANES = ("auto", "axial", "coronal", "sagittal")
_CODE = re.compile(r"[\w][\w .:/+-]{0,63}")
# Without letters and digits that are taken for one another when read aloud.
_CODE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


@dataclass(frozen=True)
class Idempotency:
    """The key that an API caller chose, so that a repeated request makes no second study."""

    key: str


@dataclass(frozen=True)
class Handling:
    """How the files of an upload are to be treated.

    Attributes:
        burned_in: what to do with letters in the pixels.
        plane: in which plane NIfTI volumes are cut, one of ``PLANES``.
        forgiving: pass over files that are no MR images, as on a disc from a hospital.
    """

    burned_in: BurnedIn = BurnedIn.ASK
    plane: str = "auto"
    forgiving: bool = False


def submit_study(
    *,
    actor: User,
    files: Sequence[ReceivedFile],
    patient_code: str = "",
    description: str = "",
    priority: Priority = Priority.ROUTINE,
    idempotency: Idempotency | None = None,
    handling: Handling | None = None,
) -> Study:
    """Check and keep the files, record study and analysis in one transaction, then ask the workers.

    A DICOM study that the organisation has already gets the new slices and is analysed again;
    where nothing is new, it is returned as it is.

    Raises:
        RefusedUpload: at least one file is not acceptable; nothing was recorded. ``fields`` holds
            a sentence for each such file.
        QuestionableUpload: there is text in the pixels; nothing was recorded.
        TooLarge, InvalidInput: limits and values.
        Conflict: ``idempotency`` was used before for another upload.
    """
    _check_amount(files)
    given = _checked_code(patient_code)
    text = _checked_description(description)
    fingerprint = _fingerprint(files, patient_code, text, priority) if idempotency else ""
    if idempotency and (earlier := _earlier_study(actor, idempotency, fingerprint)):
        return earlier
    # Blobs first: a crash from here on leaves at most content that no row names.
    with current_blobs().batch() as blobs:
        delivered = _take_in_all(actor, files, handling or Handling(), blobs)
        uid = _only_study_uid(delivered.arrivals)
        found = _patient_code_of(delivered.arrivals)
    code = given or found
    sop_uids = [a.facts.sop_uid for a in delivered.arrivals if a.dicom and a.facts.sop_uid]
    dates = [arrival.dicom.acquired_on for arrival in delivered.arrivals if arrival.dicom]

    def record() -> tuple[Study, Analysis | None]:
        study = study_with_uid(uid) if uid else None
        if study is None and uid and len(sop_uids) == len(delivered.arrivals):
            study = study_holding(sop_uids)  # they were moved out of a study that is gone
        if study is None:
            study = Study(
                patient=patient_with(code),
                uploaded_by_id=actor.id,
                description=text,
                priority=priority,
                uid=uid,
                acquired_on=next(iter(dates), None),
                left_out=dict(delivered.left_out),
            )
            db.session.add(study)
            db.session.flush()
        analysis = _place(study, actor, delivered.arrivals)
        audit.record("submit_study", subject=study, actor_id=actor.id, images=len(study.images))
        if idempotency:
            _remember(idempotency, actor, fingerprint, study)
        db.session.commit()
        return study, analysis

    try:
        study, analysis = record()
    except IntegrityError:
        # A twin of this request was faster: with the same key, patient, or DICOM study.
        db.session.rollback()
        if idempotency and (earlier := _earlier_study(actor, idempotency, fingerprint)):
            return earlier
        study, analysis = record()
    if analysis is not None:
        send_classification(analysis.id)
    return study


def receive_instance(
    *, content: bytes, received_by: User, node: PacsNode | None = None
) -> Instance | None:
    """Keep one DICOM file that another system sent; its study is put together once it is quiet.

    Args:
        received_by: in whose name it is kept.
        node: the archive that sent it, where one is known.

    Returns:
        None where the organisation has this SOP instance already: it is ignored.

    Raises:
        UnreadableImage: the file is not acceptable, or its pixels may name the patient.
    """
    arrival = take_in(
        content,
        blobs=current_blobs(),
        pseudonymiser=pseudonymiser_for(received_by.organisation_id),
        limits=upload_limits(),
    )
    known = select(Instance.id).where(Instance.uid == arrival.facts.sop_uid)
    if db.session.scalar(known) is not None:
        db.session.rollback()
        return None
    instance = _instance(arrival, received_by, node)
    try:
        db.session.add(instance)
        db.session.commit()
    except IntegrityError:  # the same file on a second association at the same moment
        db.session.rollback()
        return None
    return instance


def retry_study(*, actor: User, study_id: uuid.UUID) -> Study:
    """Queue a failed study again.

    Raises:
        NotFound: there is no such study.
        Conflict: it has not failed.
    """
    study = find_study(study_id)
    refusal = Conflict(_("Only a study whose analysis failed can be analysed again."))
    if study.status is not Status.FAILED:
        raise refusal
    try:
        analysis = request_analysis(study)
        audit.record("retry_study", subject=study, actor_id=actor.id)
        db.session.commit()
    except IntegrityError as error:  # a double click: its twin was faster
        db.session.rollback()
        raise refusal from error
    send_classification(analysis.id)
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


def _check_amount(files: Sequence[ReceivedFile]) -> None:
    if not files:
        raise InvalidInput(_("Choose at least one image file."))
    if len(files) > MAX_FILES:
        raise TooLarge(
            _("These are %(n)d files; at most %(limit)d at once.", n=len(files), limit=MAX_FILES)
        )


def _checked_code(patient_code: str) -> str:
    code = " ".join(patient_code.split())
    if code and not _CODE.fullmatch(code):
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


def _patient_code_of(arrivals: Sequence[Arrival]) -> str:
    """The pseudonym that the files carry; for files that name nobody, one is made up.

    Raises:
        InvalidInput: the files belong to several patients.
    """
    codes = {arrival.dicom.patient_code for arrival in arrivals if arrival.dicom}
    if len(codes) > 1:
        message = _(
            "These files belong to %(n)d patients. Upload the files of each patient by themselves.",
            n=len(codes),
        )
        raise InvalidInput(message, fields={"files": message})
    return next(iter(codes), None) or "P-" + "".join(
        secrets.choice(_CODE_ALPHABET) for _n in range(8)
    )


def _only_study_uid(arrivals: Sequence[Arrival]) -> str | None:
    uids = {arrival.facts.study_uid for arrival in arrivals if arrival.dicom}
    if len(uids) > 1:
        message = _(
            "These files belong to %(n)d studies. Upload the files of each study by themselves.",
            n=len(uids),
        )
        raise InvalidInput(message, fields={"files": message})
    return next(iter(uids), None)


def _fingerprint(
    files: Sequence[ReceivedFile], patient_code: str, description: str, priority: Priority
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


def _take_in_all(
    actor: User, files: Sequence[ReceivedFile], handling: Handling, blobs: Keeper
) -> Delivered:
    """Take in every file before anything is recorded: one bad file leaves no half a study."""
    delivered = Delivered()
    pseudonymiser = pseudonymiser_for(actor.organisation_id)
    for file in files:
        take_in_file(
            file,
            delivered,
            blobs=blobs,
            pseudonymiser=pseudonymiser,
            burned_in=handling.burned_in,
            plane=handling.plane,
            forgiving=handling.forgiving,
        )
    limits = upload_limits()
    refused = {_shown(name): refusal(code, limits) for name, code in delivered.refused.items()}
    if not refused and not delivered.questions and not delivered.arrivals:
        code = next((code for code, _n in delivered.left_out.most_common(1)), "empty")
        refused = {_shown(files[0].name): refusal(code, limits)}
    if refused:
        name, sentence = next(iter(refused.items()))
        raise RefusedUpload(f"{name}: {sentence}", fields=refused)
    if delivered.questions:
        raise QuestionableUpload(
            _(
                "There is text in the pixels of at least one image, and it may name the patient. "
                "Say whether it is to be blacked out or whether it names nobody."
            ),
            regions={_shown(name): found for name, found in delivered.questions.items()},
        )
    if sum(len(arrival.facts.frames) for arrival in delivered.arrivals) > limits.max_slices:
        raise TooLarge(_("A study may have at most %(limit)d slices.", limit=limits.max_slices))
    return delivered


def _shown(name: str) -> str:
    """A file name fit for a message: its last part, printable, of bounded length."""
    base = re.split(r"[/\\]", name)[-1]
    printable = "".join(character for character in base if character.isprintable())
    return printable[:80] or _("unnamed file")


def _place(study: Study, actor: User, arrivals: Sequence[Arrival]) -> Analysis | None:
    """Add what is new to the study; None where nothing is."""
    pictures = [Source(a.facts, a.blob_key) for a in arrivals if a.dicom is None]
    uids = [arrival.facts.sop_uid for arrival in arrivals if arrival.dicom]
    known = {
        instance.uid: instance
        for instance in db.session.scalars(select(Instance).where(Instance.uid.in_(uids)))
    }
    new: list[Source] = []
    waiting = False
    for arrival in arrivals:
        if arrival.dicom is None:
            continue
        uid = arrival.facts.sop_uid or ""
        if uid in known:
            waiting = waiting or known[uid].study_id is None
            continue
        known[uid] = _instance(arrival, actor, None)
        db.session.add(known[uid])
        new.append(Source(arrival.facts, arrival.blob_key, known[uid]))
    if not new and not pictures and not waiting:
        return None
    if study.series or waiting or len(new) < len(uids):
        db.session.flush()
        new = sources_of(study.uid or "")
    attach(study, new)
    arrange(study, [*new, *pictures])
    return request_analysis(study)


def _instance(arrival: Arrival, actor: User, node: PacsNode | None) -> Instance:
    facts, dicom = arrival.facts, arrival.dicom
    if dicom is None or not (facts.sop_uid and facts.study_uid and facts.series_uid):
        raise UnreadableImage("unsupported", "This is not a complete DICOM instance.")
    return Instance(
        uid=facts.sop_uid,
        study_uid=facts.study_uid,
        series_uid=facts.series_uid,
        sop_class_uid=facts.sop_class or "",
        transfer_syntax_uid=facts.transfer_syntax or "",
        modality=facts.modality or "",
        number=facts.instance_number,
        rows=facts.frames[0].rows,
        columns=facts.frames[0].columns,
        frames=len(facts.frames),
        patient_code=dicom.patient_code,
        acquired_on=dicom.acquired_on,
        blob_key=arrival.blob_key,
        node_id=node.id if node else None,
        received_by_id=actor.id,
    )


def _remember(idempotency: Idempotency, actor: User, fingerprint: str, study: Study) -> None:
    db.session.add(
        IdempotencyKey(
            user_id=actor.id, key=idempotency.key, fingerprint=fingerprint, study_id=study.id
        )
    )
