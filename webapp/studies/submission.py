"""From an upload to studies: one verb, one transaction, and whatever it has to ask before."""

import hashlib
import json
import re
import secrets
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from flask_babel import gettext as _
from flask_babel import ngettext
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from ml.errors import UnreadableImage
from webapp import audit
from webapp.accounts.models import User
from webapp.database import db
from webapp.deidentification import pseudonymiser_for
from webapp.errors import (
    CodeConflict,
    Conflict,
    InvalidInput,
    KnownContent,
    NotFound,
    OtherPatient,
    QuestionableCode,
    QuestionableUpload,
    RefusedUpload,
    TooLarge,
)
from webapp.extensions import current_blobs
from webapp.pacs.models import PacsNode
from webapp.queueing import send_classification
from webapp.storage import Keeper
from webapp.studies.arrival import (
    Arrival,
    BurnedIn,
    Delivered,
    ReceivedFile,
    take_in_file,
    upload_limits,
)
from webapp.studies.assembly import (
    Source,
    arrange,
    attach,
    patient_with,
    queue_job,
    sources_of,
    study_with_uid,
)
from webapp.studies.codes import Doubt, doubt_about
from webapp.studies.filenames import NamedFile, named
from webapp.studies.grouping import patients_by_name
from webapp.studies.known import (
    Known,
    KnownStudy,
    known_content,
    same_picture,
    shows_the_same,
)
from webapp.studies.models import IdempotencyKey, Instance, Priority, Study
from webapp.studies.parcels import Parcel, Split, parcels_of, patients_in
from webapp.studies.refusals import refusal

MAX_FILES = 2000
PLANES = ("auto", "axial", "coronal", "sagittal")
_LONGEST_CODE = 64
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


@dataclass(frozen=True)
class Choices:
    """What the uploader has decided about the upload as a whole.

    Attributes:
        split: what is to become of the files of several patients or studies.
        known: what is to be done with content that is here already.
        code_confirmed: the patient code names nobody, although it looks so.
    """

    split: Split = Split.NO
    known: Known = Known.NEW
    code_confirmed: bool = False


@dataclass
class Submission:
    """What came of an upload.

    Attributes:
        studies: never empty, in the order of the files.
        labels: what each study's files have in common in their names; empty where it is one study.
        already_known: earlier studies that hold some of the content.
        left_out: (name, code of the reason) of files that were not kept.
        notes: sentences about what was not done as it was asked for.
        received: number of files.
        job_ids: what the workers are to be asked for.
        new_ids: those of ``studies`` that were made.
    """

    studies: list[Study] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    already_known: list[KnownStudy] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    received: int = 0
    job_ids: list[uuid.UUID] = field(default_factory=list)
    new_ids: set[uuid.UUID] = field(default_factory=set)

    @property
    def study(self) -> Study:
        """The first, and mostly the only one."""
        return self.studies[0]


@dataclass(frozen=True)
class _Wish:
    """What was asked for, checked."""

    actor: User
    code: str
    description: str
    priority: Priority
    choices: Choices


@dataclass(frozen=True)
class _Destination:
    """Where the files of a parcel go.

    Attributes:
        study: the earlier study that they belong to; None for a new one.
        fresh: what is to be added to it.
        known: earlier studies that hold some of the content.
    """

    study: Study | None
    fresh: Sequence[Arrival]
    known: Sequence[KnownStudy]


def submit_study(
    *,
    actor: User,
    files: Sequence[ReceivedFile],
    patient_code: str = "",
    description: str = "",
    priority: Priority = Priority.ROUTINE,
    idempotency: Idempotency | None = None,
    handling: Handling | None = None,
    choices: Choices | None = None,
) -> Study:
    """:func:`submit_files` for callers that expect one study; of several it gives the first."""
    return submit_files(
        actor=actor,
        files=files,
        patient_code=patient_code,
        description=description,
        priority=priority,
        idempotency=idempotency,
        handling=handling,
        choices=choices,
    ).study


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
    """Check and keep the files, record studies and jobs in one transaction, then ask the workers.

    A DICOM study that the organisation has already gets the new slices and is analysed again;
    where nothing is new, it is given as it is. Its description stays unless it had none, and it
    becomes urgent where this is asked for; ``notes`` says so.

    Raises:
        RefusedUpload: at least one file is not acceptable; nothing was recorded. ``fields`` holds
            a sentence for each such file.
        QuestionableUpload: there is text in the pixels; nothing was recorded.
        QuestionableCode: the patient code looks like a name or a date of birth.
        SeveralStudies: the files are of several patients or studies, and nobody has said yet what
            is to become of them.
        KnownContent: the content is here already, and it is to be asked about.
        CodeConflict: the study is here already under another patient code.
        OtherPatient: the study is here already, of another patient.
        TooLarge, InvalidInput: limits and values.
        Conflict: ``idempotency`` was used before for another upload.
    """
    handling, choices = handling or Handling(), choices or Choices()
    _check_amount(files)
    wish = _Wish(
        actor,
        checked_code(patient_code, confirmed=choices.code_confirmed),
        _checked_description(description),
        priority,
        choices,
    )
    received = named(files)
    fingerprint = _fingerprint(received, wish, handling) if idempotency else ""
    if idempotency and (earlier := _earlier(actor, idempotency, fingerprint)):
        return earlier
    # Blobs first: a crash from here on leaves at most content that no row names.
    with current_blobs().batch() as blobs:
        delivered = _take_in_all(actor, received, handling, blobs)
        parcels = parcels_of(delivered.arrivals, choices.split)
        _check_sizes(parcels)
        codes = _codes(parcels, wish.code)
        for parcel, code in zip(parcels, codes, strict=True):
            _destination(parcel, code if wish.code else "", choices.known)

    def record() -> Submission:
        submission = Submission(left_out=delivered.left_out, received=len(files))
        for parcel, code in zip(parcels, codes, strict=True):
            _record(parcel, code, wish, submission)
        submission.notes += _notes_about(delivered.arrivals, parcels)
        if idempotency:
            _remember(idempotency, actor, fingerprint, submission.studies)
        db.session.commit()
        return submission

    try:
        submission = record()
    except IntegrityError:
        # A twin of this request was faster: with the same key, patient, or DICOM study.
        db.session.rollback()
        if idempotency and (earlier := _earlier(actor, idempotency, fingerprint)):
            return earlier
        submission = record()
    for job_id in submission.job_ids:
        send_classification(job_id)
    return submission


def checked_code(patient_code: str, *, confirmed: bool) -> str:
    """The patient code in its usual form.

    Raises:
        InvalidInput: it has signs that no code may have.
        QuestionableCode: it looks like a name or a date of birth, and is not ``confirmed``.
    """
    code = " ".join(patient_code.split())
    doubt = doubt_about(code)
    if code and not _CODE.fullmatch(code):
        message = _(
            "The patient code may have up to 64 letters, digits, spaces and the signs . : / + - _"
        )
        if doubt is not None:
            message = f"{code_question(doubt)} {message}"
        raise InvalidInput(message, fields={"patient_code": message})
    if doubt is not None and not confirmed:
        message = code_question(doubt)
        raise QuestionableCode(message, fields={"patient_code": message})
    return code


def code_question(doubt: Doubt) -> str:
    """What is wrong with a patient code, as a sentence."""
    if doubt is Doubt.DATE:
        return str(
            _(
                "This patient code seems to hold a date of birth. Use a pseudonym that does not "
                "tell who the patient is."
            )
        )
    return str(
        _(
            "This patient code looks like a name. Use a pseudonym that does not tell who the "
            "patient is."
        )
    )


def demand_same_patient(uid: str, patient: str) -> None:
    """Check that no other patient's instances are kept under a study's UID, waiting ones included.

    Raises:
        OtherPatient: there are some.
    """
    other = select(Instance.id).where(Instance.study_uid == uid, Instance.patient_code != patient)
    if db.session.scalar(other.limit(1)) is not None:
        message = _(
            "This study is here already, but of another patient: the patient in these files is a "
            "different one. Nothing was kept; check the files where they come from."
        )
        raise OtherPatient(message, fields={"files": message})


def instance_of(arrival: Arrival, received_by: User, node: PacsNode | None) -> Instance:
    """The row of a DICOM file that was taken in."""
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
        node_id=node.id if node else None,
        received_by_id=received_by.id,
    )


def _check_amount(files: Sequence[ReceivedFile]) -> None:
    if not files:
        raise InvalidInput(_("Choose at least one image file."))
    if len(files) > MAX_FILES:
        raise TooLarge(
            _("These are %(n)d files; at most %(limit)d at once.", n=len(files), limit=MAX_FILES)
        )


def _check_sizes(parcels: Sequence[Parcel]) -> None:
    limit = upload_limits().max_slices
    for parcel in parcels:
        if sum(len(arrival.facts.frames) for arrival in parcel.arrivals) > limit:
            raise TooLarge(_("A study may have at most %(limit)d slices.", limit=limit))


def _checked_description(description: str) -> str:
    text = " ".join(description.replace("\0", "").split())
    if len(text) > 200:
        message = _("The description may have at most 200 characters.")
        raise InvalidInput(message, fields={"description": message})
    return text


def _codes(parcels: Sequence[Parcel], given: str) -> list[str]:
    """A patient code for each parcel: the one given, numbered where there are several patients.

    Without one it is the pseudonym that the files carry, or made up for files that name nobody.
    """
    whose = list(dict.fromkeys(parcel.whose for parcel in parcels))
    if given and len(whose) == 1:
        return [given] * len(parcels)
    if given:
        suffixes = {one: f"-{number}" for number, one in enumerate(whose, start=1)}
        return [
            given[: _LONGEST_CODE - len(suffixes[parcel.whose])] + suffixes[parcel.whose]
            for parcel in parcels
        ]
    return [parcel.patient or _made_up() for parcel in parcels]


def _made_up() -> str:
    return "P-" + "".join(secrets.choice(_CODE_ALPHABET) for _n in range(8))


def _fingerprint(files: Sequence[NamedFile], wish: _Wish, handling: Handling) -> str:
    """What makes two requests the same: everything that was sent and that changes the outcome."""
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
        # Only here do names decide what becomes of the files.
        [file.name for file in files] if wish.choices.split is Split.YES else [],
    ]
    digest = hashlib.sha256(json.dumps(asked).encode())
    for file in files:
        digest.update(hashlib.sha256(file.content).digest())
    return digest.hexdigest()


def _earlier(actor: User, idempotency: Idempotency, fingerprint: str) -> Submission | None:
    """What came of the request with the same key; None where there was none."""
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


def _take_in_all(
    actor: User, files: Sequence[NamedFile], handling: Handling, blobs: Keeper
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
    _sort_out_repeated(delivered, blobs, forgiving=handling.forgiving)
    limits = upload_limits()
    refused = {name: refusal(code, limits) for name, code in delivered.refused.items()}
    if not refused and not delivered.questions and not delivered.arrivals:
        counts = Counter(code for _name, code in delivered.left_out)
        code = next((code for code, _n in counts.most_common(1)), "empty")
        refused = {files[0].name: refusal(code, limits)}
    if refused:
        name, sentence = next(iter(refused.items()))
        raise RefusedUpload(f"{name}: {sentence}", fields=refused)
    if delivered.questions:
        raise QuestionableUpload(
            _(
                "There is text in the pixels of at least one image, and it may name the patient. "
                "Say whether it is to be blacked out or whether it names nobody."
            ),
            regions=dict(delivered.questions),
        )
    return delivered


def _sort_out_repeated(delivered: Delivered, blobs: Keeper, *, forgiving: bool) -> None:
    """DICOM instances that came twice are left out; other pixels under one UID are refused."""
    uids = [arrival.facts.sop_uid for arrival in delivered.arrivals if arrival.dicom]
    kept = {instance.uid: instance for instance in _instances(uids)}
    first: dict[str, Arrival] = {}
    stay = []
    for arrival in delivered.arrivals:
        uid = arrival.facts.sop_uid or ""
        if arrival.dicom is None:
            stay.append(arrival)
        elif uid in kept and not shows_the_same(kept[uid], arrival, blobs):
            _refuse_other_content(arrival, delivered, forgiving=forgiving)
        elif uid not in first:
            first[uid] = arrival
            stay.append(arrival)
        elif _repeats(first[uid], arrival, blobs):
            delivered.left_out.append((arrival.name, "duplicate"))
        else:
            _refuse_other_content(arrival, delivered, forgiving=forgiving)
    delivered.arrivals[:] = stay


def _repeats(one: Arrival, other: Arrival, blobs: Keeper) -> bool:
    if one.dicom and other.dicom and one.dicom.pixels_key == other.dicom.pixels_key:
        return True
    return same_picture(one.blob_key, other.blob_key, blobs)


def _refuse_other_content(arrival: Arrival, delivered: Delivered, *, forgiving: bool) -> None:
    if forgiving:
        delivered.left_out.append((arrival.name, "other_content"))
    else:
        delivered.refused[arrival.name] = "other_content"


def _instances(uids: Sequence[str | None]) -> list[Instance]:
    return list(db.session.scalars(select(Instance).where(Instance.uid.in_(uids))))


def _destination(
    parcel: Parcel, given: str, known: Known, siblings: Collection[uuid.UUID] = ()
) -> _Destination:
    """Where the files of a parcel go.

    Args:
        given: the patient code that was asked for; empty where none was.
        siblings: studies that this upload has made; what they hold is no earlier content.

    Raises:
        OtherPatient, CodeConflict, KnownContent: as :func:`submit_files` says.
    """
    if parcel.uid and parcel.patient:
        demand_same_patient(parcel.uid, parcel.patient)
    found = [one for one in known_content(parcel.arrivals) if one.study.id not in siblings]
    study = study_with_uid(parcel.uid) if parcel.uid else None
    if study is not None:
        held = next((one.members for one in found if one.study.id == study.id), frozenset())
        fresh = [
            arrival
            for number, arrival in enumerate(parcel.arrivals)
            if arrival.dicom is not None or number not in held
        ]
        destination = _Destination(study, fresh, found)
    elif not found:
        return _Destination(None, parcel.arrivals, [])
    else:
        destination = _among_known(parcel, found, known)
    if destination.study is not None:
        _demand_same_code(destination.study, given)
    return destination


def _among_known(parcel: Parcel, found: Sequence[KnownStudy], known: Known) -> _Destination:
    """Where content goes that other studies hold, wholly or partly."""
    best = found[0]
    whole = len(best.members) == len(parcel.arrivals)
    may_add = parcel.uid is None and not whole
    if known is Known.ASK:
        raise _known_error(parcel, found, may_add=may_add)
    if whole and known in {Known.REUSE, Known.ADD}:
        return _Destination(best.study, [], found)
    if known is Known.ADD and may_add:
        fresh = [one for n, one in enumerate(parcel.arrivals) if n not in best.members]
        return _Destination(best.study, fresh, found)
    return _Destination(None, parcel.arrivals, found)


def _known_error(parcel: Parcel, found: Sequence[KnownStudy], *, may_add: bool) -> KnownContent:
    total, here = len(parcel.arrivals), len(frozenset().union(*(one.members for one in found)))
    if here == total:
        message = ngettext(
            "This image is here already.", "All %(num)d images are here already.", total
        )
    else:
        message = _("%(n)d of %(total)d images are here already.", n=here, total=total)
    extra = {
        "known": [
            {
                "study_id": str(one.study.id),
                "patient_code": one.study.patient.code,
                "created_at": one.study.created_at.isoformat(),
                "matching": len(one.members),
            }
            for one in found
        ],
        "files": total,
        "fresh": total - len(found[0].members),
        "may_add": may_add,
    }
    return KnownContent(message, extra=extra)


def _demand_same_code(study: Study, given: str) -> None:
    earlier = study.patient.code
    if given and given != earlier:
        message = _(
            "This study is here already under the patient code %(earlier)s, not %(given)s. Send it "
            "with that code or without any; nothing was changed.",
            earlier=earlier,
            given=given,
        )
        raise CodeConflict(
            message,
            fields={"patient_code": message},
            extra={"earlier_code": earlier, "given_code": given, "study_id": str(study.id)},
        )


def _record(parcel: Parcel, code: str, wish: _Wish, submission: Submission) -> None:
    """Write down one parcel, and what came of it."""
    given = code if wish.code else ""
    destination = _destination(parcel, given, wish.choices.known, submission.new_ids)
    study = destination.study
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
            # What holds no image tells nothing about which patient it came with.
            left_out=dict(Counter(why for _name, why in submission.left_out)) if first else {},
        )
        db.session.add(study)
        db.session.flush()
        submission.new_ids.add(study.id)
    else:
        submission.notes += _notes_about_resend(destination, parcel)
        submission.notes += _take_over(study, wish)
    if _place(study, wish.actor, destination.fresh):
        job = queue_job(study)
        db.session.flush()
        submission.job_ids.append(job.id)
    audit.record("submit_study", subject=study, actor_id=wish.actor.id, images=len(study.images))
    if study not in submission.studies:
        submission.studies.append(study)
        submission.labels.append(parcel.label)
    submission.already_known += destination.known


def _take_over(study: Study, wish: _Wish) -> list[str]:
    """Give an earlier study what the new upload says about it; the rest is said."""
    notes = []
    if wish.priority is Priority.URGENT and study.priority is not Priority.URGENT:
        study.priority = Priority.URGENT
        notes.append(_("The study is urgent now."))
    elif wish.priority is not study.priority:
        notes.append(_("The study stays urgent, as it was sent before."))
    if wish.description and not study.description:
        study.description = wish.description
        notes.append(_("The study has your description now; it had none."))
    elif wish.description and wish.description != study.description:
        notes.append(
            _(
                "The study keeps its description “%(earlier)s”; yours was not taken.",
                earlier=study.description,
            )
        )
    return notes


def _notes_about_resend(destination: _Destination, parcel: Parcel) -> list[str]:
    study = destination.study
    held = next((one for one in destination.known if study and one.study.id == study.id), None)
    here, total = len(held.members) if held else 0, len(parcel.arrivals)
    if here == total:
        return [_("All of this is here already: this is the earlier study.")]
    return [_("Added to the earlier study: %(n)d of %(total)d files.", n=total - here, total=total)]


def _notes_about(arrivals: Sequence[Arrival], parcels: Sequence[Parcel]) -> list[str]:
    """What is worth knowing about an upload of pictures."""
    notes = []
    loose = [arrival for arrival in arrivals if arrival.dicom is None]
    repeated = len(loose) - len({arrival.blob_key for arrival in loose})
    if repeated:
        notes.append(
            ngettext(
                "%(num)d file shows the same as another one of this upload; both were kept.",
                "%(num)d files show the same as others of this upload; all were kept.",
                repeated,
            )
        )
    patients = len(patients_by_name([arrival.name for arrival in loose]))
    if patients > 1 and len(parcels) == 1:
        notes.append(
            _(
                "By their names these files look like %(n)d patients; they were kept as one study.",
                n=patients,
            )
        )
    if patients_in(parcels) > 1:
        notes.append(
            _("The files were split into studies of %(n)d patients.", n=patients_in(parcels))
        )
    return notes


def _place(study: Study, actor: User, arrivals: Sequence[Arrival]) -> bool:
    """Add what is new to the study; False where nothing is."""
    pictures = [Source(a.facts, a.blob_key) for a in arrivals if a.dicom is None]
    uids = [arrival.facts.sop_uid for arrival in arrivals if arrival.dicom]
    known = {instance.uid: instance for instance in _instances(uids)}
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
