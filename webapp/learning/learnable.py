"""Which assessed slices can be learnt from, and why the others cannot."""

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from ml.dataset.provenance import Provenance
from ml.dataset.snapshot import AgreedSlice
from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, read_bytes
from ml.labels import Label
from webapp.database import db
from webapp.extensions import current_blobs
from webapp.learning.models import Withdrawal
from webapp.learning.pseudonyms import patient_group, reader_name
from webapp.review.blind_readings import confirmed_unaided
from webapp.review.consensus import (
    Consensus,
    State,
    consensus_of,
    consensus_of_slices,
    flagged_readers,
)
from webapp.review.models import Adjudication, Assessment
from webapp.review.queries import current_assessments
from webapp.storage import MissingBlob
from webapp.studies.models import Image

_AT_ONCE = 500


@dataclass(frozen=True)
class LearnableSlice:
    """A slice with a label that can be learnt from; everything but the picture itself.

    Attributes:
        blob_key: of the PNG.
    """

    blob_key: str
    label: Label
    group: str
    provenance: Provenance
    region: tuple[tuple[float, float], ...] | None
    spacing: tuple[float, float] | None
    pixel_aspect: float | None

    def with_content(self) -> AgreedSlice:
        """The slice as a snapshot takes it in; raises :class:`MissingBlob`."""
        return AgreedSlice(
            content=current_blobs().get(self.blob_key),
            label=self.label,
            group=self.group,
            provenance=self.provenance,
            region=self.region,
            spacing=self.spacing,
            pixel_aspect=self.pixel_aspect,
        )


@dataclass(frozen=True)
class LearnableSlices:
    """What can be learnt from, and how many assessed slices cannot, by reason."""

    slices: tuple[LearnableSlice, ...]
    left_out: Mapping[str, int]


def learnable_slices(*, quorum: int) -> LearnableSlices:
    """Look at every slice of the organisation acted for that somebody has assessed."""
    found = consensus_of_slices(quorum=quorum, untrusted=flagged_readers())
    out = withdrawn()
    kept: list[LearnableSlice] = []
    left_out: Counter[str] = Counter()
    every = list(found)
    for start in range(0, len(every), _AT_ONCE):
        ids = every[start : start + _AT_ONCE]
        said, unaided = _said(ids), confirmed_unaided(ids)
        for image in _images(ids):
            consensus = found[image.id]
            reason = _reason(image, consensus, out, quorum=quorum)
            if reason is None:
                kept.append(_learnable(image, consensus, said, unaided))
            else:
                left_out[reason] += 1
    return LearnableSlices(tuple(kept), left_out)


@dataclass(frozen=True)
class Withdrawn:
    """Patients whom no later snapshot holds anything of."""

    groups: frozenset[str]
    study_ids: frozenset[str]

    def holds(self, image: Image) -> bool:
        """Whether the slice is of one of them."""
        is_patient = patient_group(image.study.patient.code) in self.groups
        return is_patient or str(image.study_id) in self.study_ids


def withdrawn() -> Withdrawn:
    """Those of the organisation acted for."""
    rows = db.session.scalars(select(Withdrawal)).all()
    return Withdrawn(
        frozenset(one.patient_group for one in rows),
        frozenset(study_id for one in rows for study_id in one.study_ids),
    )


def _reason(image: Image, consensus: Consensus, out: Withdrawn, *, quorum: int) -> str | None:
    """Why the slice is left out; None where it is not."""
    if out.holds(image):
        return "withdrawn"
    if consensus.rule is None:
        return _reason_of_readers(consensus, quorum=quorum)
    return None if _is_readable(image) else "damaged"


def _reason_of_readers(consensus: Consensus, *, quorum: int) -> str:
    match consensus.state:
        case State.OTHER:
            return "other"
        case State.DISPUTED:
            return "disputed"
        case State.NONE:
            return "unsure"
    # Too few independent readers: only because some are flagged, or had seen the others?
    if consensus_of(consensus.votes, quorum=quorum).rule is not None:
        return "flagged_reader"
    several = len(consensus.supporters) >= quorum
    return "not_independent" if several else "single_reader"


def _is_readable(image: Image) -> bool:
    if image.problem is not None or image.blob_key is None:
        return False
    try:
        read_bytes(current_blobs().get(image.blob_key), NO_LIMITS)
    except (MissingBlob, UnreadableImage):
        return False
    return True


def _images(ids: Sequence[uuid.UUID]) -> Sequence[Image]:
    wanted = select(Image).where(Image.id.in_(ids)).options(joinedload(Image.study))
    return db.session.scalars(wanted.order_by(Image.id)).all()


def _said(ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Assessment | Adjudication]:
    """Current assessments and adjudications of these slices, by their own ids."""
    rows: list[Assessment | Adjudication] = [
        *db.session.scalars(current_assessments().where(Assessment.image_id.in_(ids))),
        *db.session.scalars(
            select(Adjudication).where(
                Adjudication.image_id.in_(ids), Adjudication.superseded_at.is_(None)
            )
        ),
    ]
    return {one.id: one for one in rows}


def _learnable(
    image: Image,
    consensus: Consensus,
    said: Mapping[uuid.UUID, Assessment | Adjudication],
    unaided: Collection[uuid.UUID],
) -> LearnableSlice:
    words = [said[vote.assessment_id] for vote in consensus.votes]
    supporters = {vote.assessment_id for vote in consensus.supporters}
    agreeing = [one for one in words if isinstance(one, Assessment) and one.id in supporters]
    decision = said[consensus.decision.adjudication_id] if consensus.decision else None
    spacing = (image.row_spacing, image.column_spacing)
    return LearnableSlice(
        blob_key=str(image.blob_key),
        label=Label(str(consensus.label)),
        group=patient_group(image.study.patient.code),
        provenance=_provenance(image, consensus, words, decision, unaided),
        region=_region(sorted(agreeing, key=lambda one: one.created_at)),
        spacing=(spacing[0], spacing[1]) if spacing[0] and spacing[1] else None,
        pixel_aspect=image.pixel_aspect,
    )


def _provenance(
    image: Image,
    consensus: Consensus,
    words: Sequence[Assessment | Adjudication],
    decision: Assessment | Adjudication | None,
    unaided: Collection[uuid.UUID],
) -> Provenance:
    shown = [one for one in words if isinstance(one, Assessment)]
    last = max(shown, key=lambda one: one.created_at)
    model = last.analysis.model_version
    readers = [vote.reader_id for vote in consensus.supporters]
    if isinstance(decision, Adjudication):
        readers.append(decision.adjudicator_id)
    moment = (decision or last).created_at
    return Provenance(
        image_id=str(image.id),
        study_id=str(image.study_id),
        readers=tuple(reader_name(one) for one in readers),
        rule=_rule(consensus),
        blind=all(vote.blind for vote in consensus.supporters),
        assessed_at=_iso(moment),
        model_sha256=model.sha256 if model else "",
        predicted_label=(last.prediction.label if last.prediction else "") or "",
        model_shown=isinstance(decision, Adjudication) or _model_shown(words, consensus, unaided),
    )


def _model_shown(
    words: Sequence[Assessment | Adjudication], consensus: Consensus, unaided: Collection[uuid.UUID]
) -> bool:
    """Whether a reader who names the label came to it only after the model's answer was shown."""
    named = {vote.assessment_id for vote in consensus.supporters}
    return any(
        isinstance(one, Assessment)
        and one.id in named
        and one.model_shown
        and one.id not in unaided
        for one in words
    )


def _rule(consensus: Consensus) -> Any:
    assert consensus.rule is not None  # noqa: S101 - only what has a label comes here
    return consensus.rule.value


def _region(agreeing: Sequence[Assessment]) -> tuple[tuple[float, float], ...] | None:
    """The outline of the first reader who drew one."""
    for one in agreeing:
        if one.region:
            return tuple((float(x), float(y)) for x, y in one.region["points"])
    return None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def contents(
    slices: Sequence[LearnableSlice], told: Callable[[int, int], None] | None = None
) -> Iterator[AgreedSlice]:
    """The slices with their pictures, one in memory at a time.

    Args:
        told: told of each slice that was read, and of how many there are.
    """
    for number, one in enumerate(slices, start=1):
        yield one.with_content()
        if told is not None:
            told(number, len(slices))
