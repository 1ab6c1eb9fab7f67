"""Correct a study's data, or delete the study."""

import hashlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from flask_babel import gettext as _
from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import InstrumentedAttribute

from webapp import audit
from webapp.accounts.models import Role, User
from webapp.corrections.removal import remove_unnamed
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotAllowed
from webapp.inference.sending import send_analyses, waiting_analysis
from webapp.intake.assembly import patient_with
from webapp.intake.codes import CodeDoubt, doubt_about
from webapp.intake.patient_codes import checked_code
from webapp.intake.submission import checked_description
from webapp.learning.models import SnapshotSlice
from webapp.pacs.models import Delivery, DeliveryStatus
from webapp.review.models import Assessment
from webapp.studies.models import (
    Analysis,
    Image,
    Instance,
    Patient,
    Prediction,
    Priority,
    Purpose,
    Series,
    Study,
)
from webapp.studies.queries import find_study

LONGEST_NOTE = 120
_LONG_NUMBER = re.compile(r"\d{4}")
Outcome = TypeVar("Outcome")


class DeletionReason(StrEnum):
    """Why a study is deleted; recorded in the audit trail."""

    WRONG_PATIENT = "wrong_patient"
    UPLOADED_TWICE = "uploaded_twice"
    PATIENT_REQUEST = "patient_request"
    TEST = "test"
    OTHER = "other"


@dataclass(frozen=True)
class Correction:
    """New values of a study; None keeps the old value.

    Attributes:
        code_confirmed: the patient code identifies nobody, although it looks like a name.
    """

    patient_code: str | None = None
    description: str | None = None
    priority: Priority | None = None
    code_confirmed: bool = False


@dataclass(frozen=True)
class Deletion:
    """Why a study is deleted.

    Attributes:
        note: for ``OTHER``, a few words without anything about the patient.
    """

    reason: DeletionReason
    note: str = ""


@dataclass(frozen=True)
class Extent:
    """What is deleted with a study.

    Attributes:
        assessments: including those of slices that were moved to other studies.
        assessments_elsewhere: only those of such moved slices.
        deliveries: results that were sent to archives, where they stay.
        waiting: results that are queued for sending and will not be sent.
        in_snapshots: slices that snapshots hold, where they stay.
    """

    images: int
    series: int
    analyses: int
    assessments: int
    assessments_elsewhere: int
    deliveries: int
    waiting: int
    in_snapshots: int


def correct_study(
    *, actor: User, study_id: uuid.UUID, correction: Correction, seen: str | None = None
) -> Study:
    """Change patient code, description and priority.

    A patient left without studies is removed. The audit entry names the changed fields, not their
    values.

    Args:
        seen: :func:`version_of` the study when the form was shown.

    Raises:
        NotFound: there is no such study.
        InvalidInput: a value is invalid; QuestionableCode: the code looks like a name.
        Conflict: the study has changed since ``seen``; nothing was changed.
    """

    def record() -> None:
        study = find_study(study_id)
        if seen is not None and seen != version_of(study):
            raise changed_meanwhile()
        values = _changed(study, correction)
        if not values:
            return
        before = study.patient_id
        if (code := values.pop("patient_code", None)) is not None:
            patient = patient_with(str(code))
            db.session.add(patient)
            db.session.flush()
            values["patient_id"] = patient.id
        _change(study, values)
        forget_patient(before)
        fields = sorted("patient_code" if name == "patient_id" else name for name in values)
        audit.record("correct_study", subject=study, actor_id=actor.id, fields=fields)
        db.session.commit()

    twice(record)
    study = find_study(study_id)
    if correction.priority is Priority.URGENT:
        # Its message may wait among routine ones, behind a worker that keeps the sweeper waiting.
        send_analyses(waiting_analysis(study))
    return study


def delete_study(
    *, actor: User, study_id: uuid.UUID, deletion: Deletion, seen: uuid.UUID | None = None
) -> None:
    """Delete a study permanently, with everything stored for it.

    Workers that analyse it or send its results find no row to write to. Its blobs are removed
    after its rows, unless another study has the same content; after a crash the sweep removes
    the rest. The audit entry has the reason and counts, and nothing about the patient.

    Args:
        seen: the study's current analysis when the counts were shown.

    Raises:
        NotFound: there is no such study.
        NotAllowed: the actor neither uploaded it nor is a reviewer.
        InvalidInput: the note is missing, too long, or says something about the patient.
        Conflict: images came or went since ``seen``; nothing was deleted.
    """

    def record() -> set[str]:
        locked(study_id)
        study = find_study(study_id)
        if not may_delete(actor, study):
            raise NotAllowed(
                _("Only whoever uploaded a study, reviewers and administrators may delete it.")
            )
        note = _checked_note(deletion, study)
        if seen is not None and seen != study.current_analysis_id:
            raise Conflict(
                _("This study was changed in the meantime. Please look at what would be deleted.")
            )
        found = extent_of(study)
        details: dict[str, Any] = {"note": note} if note else {}
        audit.record(
            "delete_study",
            subject=study,
            actor_id=actor.id,
            reason=deletion.reason.value,
            images=found.images,
            analyses=found.analyses,
            assessments=found.assessments,
            deliveries=found.deliveries + found.waiting,
            **details,
        )
        keys = _blob_keys(study)
        _forget(study)
        db.session.commit()
        return keys

    remove_unnamed(twice(record))


def version_of(study: Study) -> str:
    """A hash of the values that :func:`correct_study` can change."""
    values = (study.patient.code, study.description, study.priority.value)
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:16]


def may_delete(actor: User, study: Study) -> bool:
    """Whether the user may delete the study."""
    return study.uploaded_by_id == actor.id or actor.may(Role.REVIEWER)


def extent_of(study: Study) -> Extent:
    """Count what would be deleted with the study."""
    told = _assessed_here(study)
    elsewhere = Image.study_id != study.id
    return Extent(
        images=_count(Image.id, Image.study_id == study.id),
        series=_count(Series.id, Series.study_id == study.id),
        analyses=_count(
            Analysis.id, Analysis.study_id == study.id, Analysis.purpose == Purpose.SERVING
        ),
        assessments=_count(Assessment.id, told),
        assessments_elsewhere=_count(
            Assessment.id, told, Assessment.image_id.in_(select(Image.id).where(elsewhere))
        ),
        deliveries=_count(
            Delivery.id, Delivery.study_id == study.id, Delivery.status == DeliveryStatus.DONE
        ),
        waiting=_count(
            Delivery.id, Delivery.study_id == study.id, Delivery.status == DeliveryStatus.QUEUED
        ),
        in_snapshots=_count(
            Image.id, Image.study_id == study.id, Image.id.in_(select(SnapshotSlice.image_id))
        ),
    )


def demanded_code(patient_code: str, *, confirmed: bool) -> str:
    """The normalised patient code, as from :func:`checked_code`, but required."""
    code = checked_code(patient_code, confirmed=confirmed)
    if not code:
        raise InvalidInput.of_field("patient_code", _("Please give a patient code."))
    return code


def changed_meanwhile() -> Conflict:
    """The error for a form that is older than another user's change."""
    return Conflict(
        _("Somebody else has changed this study in the meantime. Nothing of yours was saved yet.")
    )


def forget_patient(patient_id: uuid.UUID) -> None:
    """Delete a patient who has no studies left, in the caller's transaction."""
    db.session.execute(
        delete(Patient)
        .where(Patient.id == patient_id, ~exists().where(Study.patient_id == Patient.id))
        .execution_options(synchronize_session=False)
    )


def locked(*study_ids: uuid.UUID) -> None:
    """Lock the rows of these studies until the transaction ends (SQLite has only one writer)."""
    db.session.execute(
        select(Study.id).where(Study.id.in_(study_ids)).order_by(Study.id).with_for_update()
    )


def twice(record: Callable[[], Outcome]) -> Outcome:
    """Run a transaction, and retry it once after a conflict with another."""
    try:
        return record()
    except (IntegrityError, OperationalError):
        db.session.rollback()
        return record()


def _changed(study: Study, correction: Correction) -> dict[str, object]:
    """The validated values that differ from the study's."""
    values: dict[str, object] = {}
    code = correction.patient_code
    if code is not None and " ".join(code.split()) != study.patient.code:
        values["patient_code"] = demanded_code(code, confirmed=correction.code_confirmed)
    if correction.description is not None:
        text = checked_description(correction.description)
        if text != study.description:
            values["description"] = text
    if correction.priority is not None and correction.priority != study.priority:
        values["priority"] = correction.priority
    return values


def _change(study: Study, values: dict[str, object]) -> None:
    """Update the study in one statement that checks that it is still as the caller read it."""
    found = db.session.scalar(
        update(Study)
        .where(
            Study.id == study.id,
            Study.patient_id == study.patient_id,
            Study.description == study.description,
            Study.priority == study.priority,
        )
        .values(**values)
        .returning(Study.id)
        .execution_options(synchronize_session=False)
    )
    if found is None:
        raise changed_meanwhile()
    db.session.expire(study)


def _checked_note(deletion: Deletion, study: Study) -> str:
    """The note, checked because the audit trail must not contain patient data."""
    if deletion.reason is not DeletionReason.OTHER:
        return ""
    note = " ".join(deletion.note.replace("\0", "").split())
    if not note:
        raise InvalidInput.of_field(
            "note", _("Please say in a few words why the study is to be deleted.")
        )
    if len(note) > LONGEST_NOTE:
        raise InvalidInput.of_field(
            "note", _("The reason may have at most %(n)d characters.", n=LONGEST_NOTE)
        )
    names_patient = (
        study.patient.code.casefold() in note.casefold()
        or doubt_about(note) is CodeDoubt.DATE
        or _LONG_NUMBER.search(note)
    )
    if names_patient:
        raise InvalidInput.of_field(
            "note",
            _(
                "The reason stays in the audit trail. Leave out patient codes, dates and other "
                "numbers."
            ),
        )
    return note


def _assessed_here(study: Study) -> ColumnElement[bool]:
    """Assessments of the study, of its slices, and of predictions of its analyses on any slice."""
    return or_(
        Assessment.study_id == study.id,
        Assessment.image_id.in_(select(Image.id).where(Image.study_id == study.id)),
        Assessment.analysis_id.in_(select(Analysis.id).where(Analysis.study_id == study.id)),
    )


def _predictions(study: Study) -> Select[uuid.UUID]:
    return (
        select(Prediction.id)
        .join(Prediction.analysis)
        .where(Analysis.study_id == study.id)
        .correlate(None)
    )


def _count(what: InstrumentedAttribute[uuid.UUID], *conditions: ColumnElement[bool]) -> int:
    return db.session.scalar(select(func.count(what)).where(*conditions)) or 0


def _blob_keys(study: Study) -> set[str]:
    """All blob keys in the study's rows; other rows may refer to them as well."""
    of_image = select(Image.id).where(Image.study_id == study.id)
    heated = or_(Prediction.image_id.in_(of_image), Prediction.id.in_(_predictions(study)))
    wanted = (
        select(Image.blob_key).where(Image.study_id == study.id),
        select(Image.source_key).where(Image.study_id == study.id),
        select(Instance.blob_key).where(_instances_of(study)),
        select(Prediction.heatmap_key).where(heated),
    )
    return {key for one in wanted for key in db.session.scalars(one) if key is not None}


def _instances_of(study: Study) -> ColumnElement[bool]:
    """The study's instances, and those still waiting to join it, which would recreate it."""
    if study.uid is None:
        return Instance.study_id == study.id
    waiting = and_(Instance.study_id.is_(None), Instance.study_uid == study.uid)
    return or_(Instance.study_id == study.id, waiting)


def _forget(study: Study) -> None:
    """Delete the study's row; its other rows follow by ON DELETE CASCADE."""
    study_id, patient_id = study.id, study.patient_id
    without_sync: dict[str, Any] = {"synchronize_session": False}
    db.session.execute(
        update(Study)
        .where(Study.id == study_id)
        .values(current_analysis_id=None)
        .execution_options(**without_sync)
    )
    for statement in (
        delete(Instance).where(_instances_of(study)),
        delete(Study).where(Study.id == study_id),
    ):
        db.session.execute(statement.execution_options(**without_sync))
    db.session.expire_all()
    forget_patient(patient_id)
