"""What readers can do: answer about an image, and take answers away for training."""

import math
import uuid
from collections.abc import Sequence
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from ml.labels import INDEX
from webapp import audit
from webapp.accounts.models import User
from webapp.database import db, now
from webapp.errors import Conflict, InvalidInput
from webapp.review.models import Assessment, Confidence, Verdict
from webapp.studies.models import Prediction
from webapp.studies.operations import find_image

LONGEST_COMMENT = 2000
MOST_POINTS = 200

Point = Sequence[float]


def record_assessment(
    *,
    actor: User,
    image_id: uuid.UUID,
    verdict: Verdict,
    label: str | None = None,
    confidence: Confidence | None = None,
    comment: str = "",
    region: Sequence[Point] | None = None,
) -> Assessment:
    """Keep a reader's answer about the newest prediction; it takes the place of an earlier one.

    The same answer again changes nothing and returns the row that is there.

    Args:
        label: the correct diagnosis; needed for ``disagree``, not kept for ``unsure``.
        region: corners of a polygon as ``[x, y]``, fractions of the image's width and height.

    Raises:
        NotFound: there is no such image.
        Conflict: there is no prediction to answer to.
        InvalidInput: a value is missing or cannot be taken.
    """
    prediction = find_image(image_id).prediction
    if prediction is None:
        raise Conflict(_("There is no result for this image yet, so nothing to assess."))
    values: dict[str, Any] = {
        "image_id": image_id,
        "prediction_id": prediction.id,
        "reader_id": actor.id,
        "verdict": verdict,
        "label": _checked_label(verdict, label, prediction),
        "confidence": confidence,
        "comment": _checked_comment(comment),
        "region": _checked_region(region),
    }
    try:
        return _replace(values)
    except IntegrityError:
        # The same reader answered at the same moment elsewhere; that answer is the earlier one.
        db.session.rollback()
        return _replace(values)


def record_export(action: str, *, actor_id: uuid.UUID | None, rows: int) -> None:
    """Note in the audit trail that somebody takes data away; None is the command line."""
    audit.record(action, actor_id=actor_id, rows=rows)
    db.session.commit()


def _replace(values: dict[str, Any]) -> Assessment:
    earlier = db.session.scalar(
        select(Assessment).where(
            Assessment.image_id == values["image_id"],
            Assessment.reader_id == values["reader_id"],
            Assessment.superseded_at.is_(None),
        )
    )
    if earlier is not None:
        if all(getattr(earlier, name) == value for name, value in values.items()):
            return earlier
        earlier.superseded_at = now()
        # Before the new row is there: at most one answer of a reader may be current.
        db.session.flush()
    feedback = Assessment(**values)
    db.session.add(feedback)
    audit.record(
        "record_assessment",
        subject=feedback,
        actor_id=feedback.reader_id,
        verdict=feedback.verdict.value,
    )
    db.session.commit()
    return feedback


def _checked_label(verdict: Verdict, label: str | None, prediction: Prediction) -> str | None:
    if label and label not in INDEX:
        raise _invalid("label", _("There is no such diagnosis."))
    match verdict:
        case Verdict.AGREE:
            if label and label != prediction.label:
                raise _invalid("label", _("To agree means to choose what the model says."))
            return prediction.label
        case Verdict.DISAGREE:
            if not label:
                raise _invalid("label", _("Please choose the correct diagnosis."))
            if label == prediction.label:
                raise _invalid("label", _("This is what the model says. Choose another diagnosis."))
            return str(label)
        case Verdict.UNSURE:
            return None


def _checked_comment(comment: str) -> str:
    # JSON can hold halves of characters, which no database stores.
    whole = comment.encode(errors="replace").decode()
    # Browsers count a line break as one character and send two.
    text = whole.replace("\r\n", "\n").replace("\0", "").strip()
    if len(text) > LONGEST_COMMENT:
        raise _invalid(
            "comment", _("The comment may have at most %(n)d characters.", n=LONGEST_COMMENT)
        )
    return text


def _checked_region(region: Sequence[Point] | None) -> dict[str, Any] | None:
    if region is None:
        return None
    if not 3 <= len(region) <= MOST_POINTS:
        raise _invalid("region", _("A region has 3 to %(n)d points.", n=MOST_POINTS))
    if not all(len(point) == 2 and all(_is_fraction(value) for value in point) for point in region):
        raise _invalid("region", _("Each point of a region is [x, y] with numbers from 0 to 1."))
    return {"points": [[float(x), float(y)] for x, y in region]}


def _is_fraction(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= 1


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, fields={field: message})
