"""Readings before the model's answer is shown: what is asked of them, and what came of each."""

import uuid
from collections.abc import Sequence

from flask_babel import gettext as _
from sqlalchemy import select

from webapp.accounts.models import User
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.errors import Conflict, InvalidInput
from webapp.review.models import Assessment, BlindReading, Verdict
from webapp.studies.sight import blind_slice, end_blind, studies_shown

_SHOWS_NOTHING = ("submit_study",)
"""Actions on a study by which nobody is shown the model's answer about it."""


def unseen_studies(reader_id: uuid.UUID, study_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Those of which nothing says that the reader has been shown the model's answer.

    It was shown by a page, by assessing something in the study, or by acting on it otherwise (a
    report, a correction). Lists that name the studies' results are not counted.
    """
    wanted = set(study_ids)
    if not wanted:
        return set()
    assessed = select(Assessment.study_id).where(
        Assessment.reader_id == reader_id, Assessment.study_id.in_(wanted)
    )
    acted_on = select(AuditEvent.subject_id).where(
        AuditEvent.actor_id == reader_id,
        AuditEvent.subject_type == "study",
        AuditEvent.subject_id.in_(wanted),
        AuditEvent.action.not_in(_SHOWS_NOTHING),
    )
    seen = studies_shown(reader_id, wanted)
    seen.update(db.session.scalars(assessed))
    seen.update(one for one in db.session.scalars(acted_on) if one is not None)
    return wanted - seen


def reads_without_model(reader: User, study_id: uuid.UUID, *, told: bool | None) -> bool:
    """Whether an opinion is given before the model's answer was shown.

    Args:
        told: what a program says of its reader; None where the portal itself shows the study.

    Raises:
        Conflict: a program says that the answer was not shown, and the portal has shown it.
    """
    if told is None:
        return blind_slice(reader.id, study_id) is not None
    if not told and study_id not in unseen_studies(reader.id, [study_id]):
        raise Conflict(_("You have been shown the model’s answer about this study already."))
    return not told


def refuse_unless_blind(image_ids: Sequence[uuid.UUID] | None, verdict: Verdict) -> None:
    """Refuse what only somebody can say who knows the answer; raises :class:`InvalidInput`."""
    if image_ids is None:
        raise InvalidInput.of_field(
            "scope", _("Without the model’s answer slices are assessed, not the whole study.")
        )
    if verdict is Verdict.AGREE:
        raise InvalidInput.of_field(
            "verdict", _("The model’s answer has not been shown yet. Please name a diagnosis.")
        )


def follow_blind_readings(rows: Sequence[tuple[Assessment, Assessment | None]]) -> None:
    """Keep what new assessments mean for blind readings. The caller has flushed and commits.

    Args:
        rows: each new assessment, and the one of the same reader and slice that it supersedes.
    """
    for row, known in rows:
        if not row.model_shown:
            _begin(row)
        elif known is not None and not known.model_shown:
            _end(row, known)


def _begin(row: Assessment) -> None:
    assert row.image_id is not None  # noqa: S101 - refuse_unless_blind
    assert row.prediction is not None  # noqa: S101 - a slice's assessment has one
    db.session.add(
        BlindReading(
            reader_id=row.reader_id,
            image_id=row.image_id,
            first_id=row.id,
            first_label=row.label,
            model_label=row.prediction.label,
        )
    )
    end_blind(row.reader_id, row.study_id)


def _end(row: Assessment, first: Assessment) -> None:
    found = db.session.scalar(select(BlindReading).where(BlindReading.first_id == first.id))
    if found is not None and found.final_id is None:
        found.final_id, found.final_label = row.id, row.label


def confirmed_unaided(image_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Final assessments of these slices that say what the reader had said without the model."""
    found = select(BlindReading.final_id).where(
        BlindReading.image_id.in_(image_ids),
        BlindReading.final_label == BlindReading.first_label,
    )
    return {one for one in db.session.scalars(found) if one is not None}
