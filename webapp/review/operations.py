"""Operations for readers: assess slices and studies, keep drafts, record exports."""

import math
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import delete, select

from ml.labels import INDEX
from webapp import audit
from webapp.accounts.checks import storable
from webapp.accounts.models import User
from webapp.database import db, now, one_at_a_time, retried
from webapp.errors import Conflict, InvalidInput
from webapp.review.blind_readings import (
    follow_blind_readings,
    reads_without_model,
    refuse_unless_blind,
)
from webapp.review.independence import Sight, could_see
from webapp.review.models import OTHER, Assessment, AssessmentDraft, Confidence, Verdict
from webapp.studies.models import Analysis, Image, Prediction, Purpose, Status, Study
from webapp.studies.queries import find_image, find_study
from webapp.tenancy import unscoped
from webapp.wording import FINDINGS

LONGEST_COMMENT = 2000
LONGEST_FINDING = 64
LONGEST_DRAFT = 40_000
"""Characters in all fields together."""
MOST_POINTS = 200
DRAFTS_LAST = timedelta(days=30)

Point = Sequence[float]


@dataclass(frozen=True)
class Subject:
    """What is assessed, and what the reader saw.

    Attributes:
        image_ids: slices of the study; None for the whole study.
        analysis_id: the analysis whose answer was shown; None for the current one.
        begun_on: the slice for which the form was shown: it has the region, and its draft is
            deleted.
        model_shown: whether the reader has been shown the model's answer; None for what the portal
            knows (:mod:`webapp.studies.sight`).
    """

    study_id: uuid.UUID
    image_ids: tuple[uuid.UUID, ...] | None
    analysis_id: uuid.UUID | None = None
    begun_on: uuid.UUID | None = None
    model_shown: bool | None = None


@dataclass(frozen=True)
class Opinion:
    """A reader's opinion.

    Attributes:
        label: the correct diagnosis; required for ``disagree``, ignored for ``unsure``.
        finding: the disease, if ``label`` is :data:`webapp.review.models.OTHER`.
        region: corners of a polygon as ``[x, y]``, fractions of the slice's width and height.
    """

    verdict: Verdict
    label: str | None = None
    finding: str = ""
    confidence: Confidence | None = None
    comment: str = ""
    region: Sequence[Point] | None = None


def record_assessments(*, actor: User, subject: Subject, opinion: Opinion) -> list[Assessment]:
    """Store an assessment, one row per slice; each supersedes the reader's earlier one.

    The rows refer to the analysis that the reader saw, even if there is a newer one. Repeating an
    assessment changes nothing and returns the existing row. The model's answers for several
    slices may differ: "agree" agrees with each, and a diagnosis counts as agreement wherever the
    model gives the same. So it does where the reader has not been shown the model's answer; then
    a :class:`webapp.review.models.BlindReading` is begun.

    Raises:
        NotFound: there is no such study.
        Conflict: the analysis has no answer for the subject, or the reader is said not to have
            been shown the model's answer and was.
        InvalidInput: a value is missing or invalid.
    """
    study = find_study(subject.study_id)
    is_blind = reads_without_model(actor, study.id, told=subject.model_shown)
    if is_blind:
        refuse_unless_blind(subject.image_ids, opinion.verdict)
    analysis = _seen_analysis(study, subject.analysis_id)
    comment, region = checked_comment(opinion.comment), _checked_region(opinion.region)
    shared = {
        "study_id": study.id,
        "analysis_id": analysis.id,
        "reader_id": actor.id,
        "confidence": opinion.confidence,
        "comment": comment,
        "model_shown": not is_blind,
    }
    if subject.image_ids is None:
        if region is not None:
            raise InvalidInput.of_field(
                "region", _("A region belongs to one slice, not to a whole study.")
            )
        values = [shared | _of_study(analysis, opinion)]
    else:
        predictions = _predictions(study, analysis, subject.image_ids)
        drawn_on = _drawn_on(subject) if region is not None else None
        several = is_blind or len(predictions) > 1
        values = [
            shared
            | _of_slice(one, opinion, several=several)
            | {"region": region if one.image_id == drawn_on else None}
            for one in predictions
        ]
    sight = Sight.of(actor, sees_nobody=is_blind)
    # The same reader may answer at the same moment elsewhere; that answer is the earlier one.
    return retried(lambda: _keep(values, subject, sight))


def keep_first_opinion(*, actor: User, image_id: uuid.UUID) -> Assessment:
    """Stand by what one said before the model's answer was shown, now that it has been.

    Raises:
        NotFound: there is no such slice.
        Conflict: the reader's assessment of it is not one of these, or has been confirmed.
    """
    image = find_image(image_id)
    first = _current_rows(image.study_id, actor.id, [image.id]).get(image.id)
    if first is None or first.model_shown:
        raise Conflict(_("There is no first opinion of yours that waits to be confirmed."))
    subject = Subject(image.study_id, (image.id,), analysis_id=first.analysis_id, model_shown=True)
    opinion = Opinion(
        verdict=first.verdict,
        label=first.label,
        finding=first.finding,
        confidence=first.confidence,
        comment=first.comment,
        region=first.region["points"] if first.region else None,
    )
    (kept,) = record_assessments(actor=actor, subject=subject, opinion=opinion)
    return kept


def record_export(action: str, *, actor_id: uuid.UUID | None, rows: int) -> None:
    """Record a data export in the audit trail; ``actor_id`` None means the command line."""
    audit.record(action, actor_id=actor_id, rows=rows)
    db.session.commit()


def keep_draft(*, actor: User, study_id: uuid.UUID, payload: Mapping[str, str]) -> None:
    """Store an unfinished assessment as typed; it replaces an earlier draft.

    Not audited, because it is not an assessment yet.

    Raises:
        NotFound: there is no such study.
        InvalidInput: it is longer than any assessment may be.
    """
    study = find_study(study_id)
    whole = {name: storable(value) for name, value in payload.items()}
    if sum(map(len, whole.values())) > LONGEST_DRAFT:
        raise InvalidInput(_("This is too long to be kept."))
    reader_id, study_id = actor.id, study.id
    # Another tab may create a draft concurrently.
    retried(lambda: _write_draft(reader_id, study_id, whole))


def discard_draft(*, actor: User, study_id: uuid.UUID) -> None:
    """Delete the reader's draft for the study, if there is one."""
    _forget_draft(actor.id, study_id)
    db.session.commit()


def purge_drafts() -> int:
    """Delete drafts not updated for :data:`DRAFTS_LAST`; return how many."""
    with unscoped():
        gone = db.session.execute(
            delete(AssessmentDraft).where(AssessmentDraft.updated_at < now() - DRAFTS_LAST)
        )
        db.session.commit()
    return int(gone.rowcount)  # type: ignore[attr-defined]


def _seen_analysis(study: Study, analysis_id: uuid.UUID | None) -> Analysis:
    analysis = study.current_analysis
    if analysis_id is not None:
        analysis = db.session.scalar(
            select(Analysis).where(
                Analysis.id == analysis_id,
                Analysis.study_id == study.id,
                Analysis.purpose == Purpose.SERVING,
            )
        )
        if analysis is None:
            raise InvalidInput.of_field(
                "analysis_id", _("There is no such analysis of this study.")
            )
    if analysis is None or analysis.status is not Status.DONE:
        raise Conflict(_("There is no result for this study yet, so nothing to assess."))
    return analysis


def _predictions(
    study: Study, analysis: Analysis, image_ids: Sequence[uuid.UUID]
) -> Sequence[Prediction]:
    """The analysis's predictions for the slices, in the study's order."""
    wanted = set(image_ids)
    if not wanted:
        raise InvalidInput.of_field("image_ids", _("Name at least one slice."))
    known = select(Image.id).where(Image.study_id == study.id, Image.id.in_(wanted))
    if wanted - set(db.session.scalars(known)):
        raise InvalidInput.of_field("image_id", _("There is no such image in this study."))
    found = db.session.scalars(
        select(Prediction)
        .join(Prediction.image)
        .where(Prediction.analysis_id == analysis.id, Prediction.image_id.in_(wanted))
        .order_by(Image.position)
    ).all()
    if len(found) < len(wanted):
        raise Conflict(_("There is no result for this image yet, so nothing to assess."))
    return found


def _drawn_on(subject: Subject) -> uuid.UUID:
    """The slice to which the region belongs."""
    image_ids = subject.image_ids or ()
    if subject.begun_on is None and len(image_ids) == 1:
        return image_ids[0]
    if subject.begun_on not in image_ids:
        raise InvalidInput.of_field(
            "region", _("A region belongs to one of the slices that are assessed.")
        )
    return subject.begun_on


def _of_study(analysis: Analysis, opinion: Opinion) -> dict[str, Any]:
    if analysis.label is None:
        raise Conflict(_("There is no result for this study yet, so nothing to assess."))
    said = _checked_opinion(opinion, analysis.label, several=False)
    return said | {"image_id": None, "prediction_id": None, "region": None}


def _of_slice(prediction: Prediction, opinion: Opinion, *, several: bool) -> dict[str, Any]:
    said = _checked_opinion(opinion, prediction.label, several=several)
    return said | {"image_id": prediction.image_id, "prediction_id": prediction.id}


def _keep(values: Sequence[dict[str, Any]], subject: Subject, sight: Sight) -> list[Assessment]:
    first = values[0]
    one_at_a_time([f"answers {first['reader_id']} {first['study_id']}"])
    image_ids = [value["image_id"] for value in values]
    earlier = _current_rows(first["study_id"], first["reader_id"], image_ids)
    seen = could_see(sight, first["reader_id"], first["study_id"], image_ids)
    kept, new, superseded = [], [], []
    for value in values:
        known = earlier.get(value["image_id"])
        if known is not None and all(getattr(known, name) == v for name, v in value.items()):
            kept.append(known)
            continue
        if known is not None:
            known.superseded_at = now()
        row = Assessment(**value, blind=_is_blind(value, known, seen))
        new.append(row)
        superseded.append(known)
        kept.append(row)
    # Flush before adding the new rows: only one assessment per reader and slice may be current.
    db.session.flush()
    if new:
        db.session.add_all(new)
        more: dict[str, Any] = {"slices": len(new)} if len(new) > 1 else {}
        if subject.image_ids is None:
            more = {"scope": "study"}
        if not first["model_shown"]:
            more["model_shown"] = False
        verdict = first["verdict"].value
        audit.record(
            "record_assessment", subject=new[0], actor_id=first["reader_id"], verdict=verdict,
            **more,
        )  # fmt: skip
        follow_blind_readings(list(zip(new, superseded, strict=True)))
    if subject.begun_on is not None:
        _forget_draft(first["reader_id"], first["study_id"], begun_on=subject.begun_on)
    db.session.commit()
    return kept


def _is_blind(
    value: Mapping[str, Any], known: Assessment | None, seen: Collection[uuid.UUID | None]
) -> bool:
    """An opinion that was independent stays so while its reader holds on to it."""
    if known is not None and known.blind and known.label == value["label"]:
        return True
    return value["image_id"] not in seen


def _current_rows(
    study_id: uuid.UUID, reader_id: uuid.UUID, image_ids: Sequence[uuid.UUID | None]
) -> dict[uuid.UUID | None, Assessment]:
    wanted = [one for one in image_ids if one is not None]
    of_what = Assessment.image_id.in_(wanted) if wanted else Assessment.image_id.is_(None)
    found = select(Assessment).where(
        Assessment.reader_id == reader_id, Assessment.superseded_at.is_(None), of_what
    )
    if not wanted:
        found = found.where(Assessment.study_id == study_id)
    return {one.image_id: one for one in db.session.scalars(found)}


def _write_draft(reader_id: uuid.UUID, study_id: uuid.UUID, payload: dict[str, str]) -> None:
    draft = db.session.scalar(_draft_of(reader_id, study_id))
    if draft is None:
        draft = AssessmentDraft(reader_id=reader_id, study_id=study_id)
        db.session.add(draft)
    draft.payload, draft.updated_at = payload, now()
    db.session.commit()


def _forget_draft(
    reader_id: uuid.UUID, study_id: uuid.UUID, *, begun_on: uuid.UUID | None = None
) -> None:
    """Delete the draft; with ``begun_on`` only if it is for that slice, not from another tab."""
    draft = db.session.scalar(_draft_of(reader_id, study_id))
    if draft is None:
        return
    if begun_on is None or draft.payload.get("image_id") == str(begun_on):
        db.session.delete(draft)


def _draft_of(reader_id: uuid.UUID, study_id: uuid.UUID) -> Any:
    return select(AssessmentDraft).where(
        AssessmentDraft.reader_id == reader_id, AssessmentDraft.study_id == study_id
    )


def _checked_opinion(opinion: Opinion, model_says: str, *, several: bool) -> dict[str, Any]:
    """Verdict, label and finding to store, given the model's label."""
    label = opinion.label or None
    if label and label != OTHER and label not in INDEX:
        raise InvalidInput.of_field("label", _("There is no such diagnosis."))
    verdict = opinion.verdict
    match verdict:
        case Verdict.AGREE:
            if label and label != model_says and not several:
                raise InvalidInput.of_field(
                    "label", _("To agree means to choose what the model says.")
                )
            label = model_says
        case Verdict.DISAGREE:
            if not label:
                raise InvalidInput.of_field("label", _("Please choose the correct diagnosis."))
            if label == model_says:
                if not several:
                    message = _("This is what the model says. Choose another diagnosis.")
                    raise InvalidInput.of_field("label", message)
                verdict = Verdict.AGREE
        case Verdict.UNSURE:
            label = None
    finding = checked_finding(opinion.finding) if label == OTHER else ""
    return {"verdict": verdict, "label": label, "finding": finding}


def checked_finding(finding: str) -> str:
    """A key of :data:`FINDINGS` for whatever these are called in the reader's language.

    Raises:
        InvalidInput: it is empty or too long.
    """
    text = " ".join(storable(finding).split())
    if not text:
        raise InvalidInput.of_field("finding", _("Please say what it is."))
    if len(text) > LONGEST_FINDING:
        raise InvalidInput.of_field(
            "finding", _("This may have at most %(n)d characters.", n=LONGEST_FINDING)
        )
    for key, name in FINDINGS.items():
        if text.casefold() in {key.replace("_", " "), str(name).casefold()}:
            return key
    return text


def checked_comment(comment: str) -> str:
    """The comment as it is kept; raises :class:`InvalidInput` if it is too long."""
    text = storable(comment).strip()
    if len(text) > LONGEST_COMMENT:
        raise InvalidInput.of_field(
            "comment", _("The comment may have at most %(n)d characters.", n=LONGEST_COMMENT)
        )
    return text


def _checked_region(region: Sequence[Point] | None) -> dict[str, Any] | None:
    if region is None:
        return None
    if not 3 <= len(region) <= MOST_POINTS:
        raise InvalidInput.of_field("region", _("A region has 3 to %(n)d points.", n=MOST_POINTS))
    if not all(len(point) == 2 and all(_is_fraction(value) for value in point) for point in region):
        raise InvalidInput.of_field(
            "region", _("Each point of a region is [x, y] with numbers from 0 to 1.")
        )
    return {"points": [[float(x), float(y)] for x, y in region]}


def _is_fraction(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= 1
