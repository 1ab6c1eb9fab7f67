"""Turn an upload into studies in one transaction, after raising any question to the user."""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from flask_babel import gettext as _
from flask_babel import ngettext
from sqlalchemy import select

from ml.errors import UnreadableImage
from webapp import audit
from webapp.accounts.models import User
from webapp.database import db, one_at_a_time, retried
from webapp.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    TooLarge,
)
from webapp.extensions import current_blobs
from webapp.inference.analyses import request_analysis
from webapp.inference.sending import send_analyses, waiting_analysis
from webapp.intake.admission import instances_with, take_in_all
from webapp.intake.arrival import (
    Arrival,
    Handling,
    ReceivedFile,
    upload_limits,
)
from webapp.intake.assembly import (
    Source,
    arrange,
    attach,
    patient_with,
    sources_of,
    study_lock,
)
from webapp.intake.destinations import Destination, destination_of
from webapp.intake.filenames import NamedFile, named
from webapp.intake.grouping import patients_by_name
from webapp.intake.known import (
    Known,
    KnownStudy,
)
from webapp.intake.parcels import Parcel, Split, parcels_of, patients_in
from webapp.intake.patient_codes import checked_code, codes_for
from webapp.studies.models import IdempotencyKey, Instance, Priority, Study
from webapp.tracing import traced

MAX_FILES = 2000
LONGEST_DESCRIPTION = 200
_PIECE = 2**20  # bytes hashed at once
PLANES = ("auto", "axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Idempotency:
    """A key chosen by the API client, so that a repeated request creates no second study."""

    key: str


@dataclass(frozen=True)
class Choices:
    """The uploader's decisions about the whole upload.

    Attributes:
        split: what to do with files of several patients or studies.
        known: what to do with content that is already stored.
        code_confirmed: the patient code identifies nobody, although it looks like a name.
    """

    split: Split = Split.NO
    known: Known = Known.NEW
    code_confirmed: bool = False


@dataclass
class Submission:
    """The outcome of an upload.

    Attributes:
        studies: never empty, in the order of the files.
        labels: the common part of each study's file names; empty if there is only one study.
        already_known: earlier studies that contain some of the content.
        left_out: (name, reason code) of files that were not stored.
        notes: sentences about what was not done as requested.
        files: file names for messages.
        analysis_ids: the analyses to send to the workers.
        new_ids: ids of those ``studies`` that were created.
    """

    studies: list[Study] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    already_known: list[KnownStudy] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: tuple[str, ...] = ()
    analysis_ids: list[uuid.UUID] = field(default_factory=list)
    new_ids: set[uuid.UUID] = field(default_factory=set)

    @property
    def study(self) -> Study:
        """The first study, usually the only one."""
        return self.studies[0]

    @property
    def stored(self) -> int:
        """Number of stored files; an archive counts as one, even if it has files left out."""
        left_out = {name for name, _code in self.left_out}
        return sum(name not in left_out for name in self.files)


@dataclass(frozen=True)
class _Wish:
    """The validated request."""

    actor: User
    code: str
    description: str
    priority: Priority
    choices: Choices


@traced("take in")
def submit_files(
    *,
    actor: User,
    files: Sequence[ReceivedFile],
    patient_code: str = "",
    description: str = "",
    priority: Priority = Priority.ROUTINE,
    idempotency: Idempotency | None = None,
    handling: Handling | None = None,
    choices: Choices | None = None,
) -> Submission:
    """Check and store the files, record studies and analyses in one transaction, send the jobs.

    If the organisation already has the DICOM study, it gets the new slices and is analysed again;
    without new slices it is returned unchanged. It keeps its description unless that was empty,
    and becomes urgent if requested; ``notes`` says so.

    Raises:
        RefusedUpload: at least one file is not acceptable; nothing was recorded. ``fields`` has
            a message for each such file.
        QuestionableUpload: there is text in the pixels; nothing was recorded.
        QuestionableCode: the patient code looks like a name or a date of birth.
        SeveralStudies: the files belong to several patients or studies, and the user has not
            decided what to do.
        KnownContent: the content is already stored, and the user has to decide.
        CodeConflict: the study exists under another patient code.
        OtherPatient: the study exists for another patient.
        TooLarge, InvalidInput: a limit is exceeded or a value is invalid.
        Conflict: ``idempotency`` was used before for another upload.
    """
    handling, choices = handling or Handling(), choices or Choices()
    _check_amount(files)
    wish = _Wish(
        actor,
        checked_code(patient_code, confirmed=choices.code_confirmed),
        checked_description(description),
        priority,
        choices,
    )
    received = named(files)
    fingerprint = _fingerprint(received, wish, handling) if idempotency else ""
    if idempotency and (earlier := _earlier(actor, idempotency, fingerprint)):
        return earlier
    # Blobs first: a crash after this leaves at most blobs without a row.
    with current_blobs().batch() as blobs:
        delivered = take_in_all(actor, received, handling, blobs)
        parcels = parcels_of(delivered.arrivals, choices.split)
        _check_sizes(parcels)
        codes = codes_for(parcels, wish.code)
        for parcel, code in zip(parcels, codes, strict=True):
            destination_of(parcel, code if wish.code else "", choices.known)

    def record() -> Submission:
        one_at_a_time(_names(wish, parcels, codes))
        if idempotency and (earlier := _earlier(actor, idempotency, fingerprint)):
            return earlier
        submission = Submission(
            left_out=delivered.left_out, files=tuple(file.name for file in received)
        )
        for parcel, code in zip(parcels, codes, strict=True):
            _record(parcel, code, wish, submission)
        submission.notes += _notes_about(delivered.arrivals, parcels)
        if idempotency:
            _remember(idempotency, actor, fingerprint, submission.studies)
        db.session.commit()
        return submission

    # A concurrent request may be faster with the same key, patient or DICOM study.
    submission = retried(record)
    send_analyses(submission.analysis_ids)
    return submission


def _names(wish: _Wish, parcels: Sequence[Parcel], codes: Sequence[str]) -> Iterator[str]:
    """Names of the locks on what this upload creates or changes."""
    for parcel, code in zip(parcels, codes, strict=True):
        yield f"patient {wish.actor.organisation_id} {code}"
        if parcel.uid:
            yield study_lock(wish.actor.organisation_id, parcel.uid)


def instance_of(arrival: Arrival, received_by: User, node_id: uuid.UUID | None) -> Instance:
    """The row for an accepted DICOM file."""
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
        pixels_key=dicom.pixels_key,
        node_id=node_id,
        received_by_id=received_by.id,
    )


def _check_amount(files: Sequence[ReceivedFile]) -> None:
    if not files:
        raise InvalidInput(_("Choose at least one image file."))
    if len(files) > MAX_FILES:
        raise TooLarge(
            _(
                "There are %(n)d files; the limit is %(limit)d at once.",
                n=len(files),
                limit=MAX_FILES,
            )
        )


def _check_sizes(parcels: Sequence[Parcel]) -> None:
    limit = upload_limits().max_slices
    for parcel in parcels:
        if sum(len(arrival.facts.frames) for arrival in parcel.arrivals) > limit:
            raise TooLarge(_("A study can have at most %(limit)d slices.", limit=limit))


def checked_description(description: str) -> str:
    """The description on one line; raises :class:`InvalidInput` if it is too long."""
    text = " ".join(description.replace("\0", "").split())
    if len(text) > LONGEST_DESCRIPTION:
        message = _("The description can have at most 200 characters.")
        raise InvalidInput(message, fields={"description": message})
    return text


def _fingerprint(files: Sequence[NamedFile], wish: _Wish, handling: Handling) -> str:
    """A hash of everything in a request that affects the outcome."""
    asked = [
        wish.code,
        wish.description,
        wish.priority,
        handling.burned_in,
        handling.plane,
        handling.forgiving,
        wish.choices.split,
        wish.choices.known,
        wish.choices.code_confirmed,
        # Only with this choice do file names affect the outcome.
        [file.name for file in files] if wish.choices.split is Split.YES else [],
    ]
    digest = hashlib.sha256(json.dumps(asked).encode())
    for file in files:
        content, stream = hashlib.sha256(), file.open()
        while piece := stream.read(_PIECE):
            content.update(piece)
        digest.update(content.digest())
    return digest.hexdigest()


def _earlier(actor: User, idempotency: Idempotency, fingerprint: str) -> Submission | None:
    """The outcome of an earlier request with the same key, or None."""
    row = db.session.scalar(
        select(IdempotencyKey).where(
            IdempotencyKey.user_id == actor.id, IdempotencyKey.key == idempotency.key
        )
    )
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise Conflict(_("This Idempotency-Key was used before for another upload."))
    ids = [row.study_id, *(uuid.UUID(one) for one in row.further_study_ids or [])]
    found = {
        study.id: study for study in db.session.scalars(select(Study).where(Study.id.in_(ids)))
    }
    studies = [found[one] for one in ids if one in found]
    if not studies:
        raise NotFound(_("There is no such study."))
    return Submission(studies=studies, labels=[""] * len(studies))


def _remember(
    idempotency: Idempotency, actor: User, fingerprint: str, studies: Sequence[Study]
) -> None:
    first, *others = studies
    db.session.add(
        IdempotencyKey(
            user_id=actor.id,
            key=idempotency.key,
            fingerprint=fingerprint,
            study_id=first.id,
            further_study_ids=[str(one.id) for one in others] or None,
        )
    )


def _record(parcel: Parcel, code: str, wish: _Wish, submission: Submission) -> None:
    """Record one parcel and add its outcome to ``submission``."""
    given = code if wish.code else ""
    destination = destination_of(parcel, given, wish.choices.known, submission.new_ids)
    study = destination.study
    was_routine = study is not None and study.priority is not Priority.URGENT
    if study is None:
        dates = [arrival.dicom.acquired_on for arrival in parcel.arrivals if arrival.dicom]
        first = not submission.studies
        study = Study(
            patient=patient_with(code),
            uploaded_by_id=wish.actor.id,
            description=wish.description,
            priority=wish.priority,
            uid=parcel.uid,
            acquired_on=next(iter(dates), None),
            # Skipped files belong to no particular patient: count them with the first study.
            left_out=dict(Counter(why for _name, why in submission.left_out)) if first else {},
        )
        db.session.add(study)
        db.session.flush()
        submission.new_ids.add(study.id)
    else:
        submission.notes += _notes_about_resend(destination, parcel)
        submission.notes += _take_over(study, wish)
    if _place(study, wish.actor, destination.fresh):
        submission.analysis_ids.append(request_analysis(study).id)
    elif was_routine and study.priority is Priority.URGENT:
        submission.analysis_ids += waiting_analysis(study)
    audit.record("submit_study", subject=study, actor_id=wish.actor.id, images=len(study.images))
    if study not in submission.studies:
        submission.studies.append(study)
        submission.labels.append(parcel.label)
    submission.already_known += destination.known


def _take_over(study: Study, wish: _Wish) -> list[str]:
    """Apply the new upload's values to an existing study; return notes about what changed."""
    notes = []
    if wish.priority is Priority.URGENT and study.priority is not Priority.URGENT:
        study.priority = Priority.URGENT
        notes.append(_("The study is now urgent."))
    elif wish.priority is not study.priority:
        notes.append(_("The study remains urgent, as it was sent before."))
    if wish.description and not study.description:
        study.description = wish.description
        notes.append(_("Your description was added; the study had none."))
    elif wish.description and wish.description != study.description:
        notes.append(
            _(
                "The study keeps its description “%(earlier)s”; yours was not used.",
                earlier=study.description,
            )
        )
    return notes


def _notes_about_resend(destination: Destination, parcel: Parcel) -> list[str]:
    study = destination.study
    held = next((one for one in destination.known if study and one.study.id == study.id), None)
    here, total = len(held.members) if held else 0, len(parcel.arrivals)
    if here == total:
        return [_("All of this is already stored: this is the earlier study.")]
    return [_("Added to the earlier study: %(n)d of %(total)d files.", n=total - here, total=total)]


def _notes_about(arrivals: Sequence[Arrival], parcels: Sequence[Parcel]) -> list[str]:
    """Notes about the pictures of an upload."""
    notes = []
    loose = [arrival for arrival in arrivals if arrival.dicom is None]
    repeated = len(loose) - len({arrival.blob_key for arrival in loose})
    if repeated:
        notes.append(
            ngettext(
                "%(num)d file shows the same as another in this upload; both were kept.",
                "%(num)d files show the same as others in this upload; all were kept.",
                repeated,
            )
        )
    patients = len(patients_by_name([arrival.name for arrival in loose]))
    if patients > 1 and len(parcels) == 1:
        notes.append(
            _(
                "By name, these files appear to be from %(n)d patients; they were kept as one "
                "study.",
                n=patients,
            )
        )
    if patients_in(parcels) > 1:
        notes.append(
            _(
                "The files were split into separate studies for %(n)d patients.",
                n=patients_in(parcels),
            )
        )
    return notes


def _place(study: Study, actor: User, arrivals: Sequence[Arrival]) -> bool:
    """Add new arrivals to the study; False if nothing is new."""
    pictures = [Source(a.facts, a.blob_key) for a in arrivals if a.dicom is None]
    uids = [arrival.facts.sop_uid for arrival in arrivals if arrival.dicom]
    known = {instance.uid: instance for instance in instances_with(uids)}
    new: list[Source] = []
    waiting = False
    for arrival in arrivals:
        if arrival.dicom is None:
            continue
        uid = arrival.facts.sop_uid or ""
        if uid in known:
            waiting = waiting or known[uid].study_id is None
            continue
        known[uid] = instance_of(arrival, actor, None)
        db.session.add(known[uid])
        new.append(Source(arrival.facts, arrival.blob_key, known[uid]))
    if not new and not pictures and not waiting:
        return False
    if study.series or waiting or len(new) < len(uids):
        db.session.flush()
        new = sources_of(study.uid or "")
    attach(study, new)
    arrange(study, [*new, *pictures])
    return True
