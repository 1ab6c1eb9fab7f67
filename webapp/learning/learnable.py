"""Which assessed slices a snapshot takes in, and why it does not take in the others."""

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from ml.dataset.out_of_scope import OutOfScopeSlice
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
    Rule,
    State,
    consensus_of,
    consensus_of_slices,
    flagged_readers,
    out_of_scope_rule,
)
from webapp.review.models import Adjudication, Assessment
from webapp.review.queries import current_assessments
from webapp.storage import MissingBlob
from webapp.studies.models import Image
from webapp.wording import FINDINGS

_AT_ONCE = 500
_Taken = TypeVar("_Taken", covariant=True)


@dataclass(frozen=True)
class _Found:
    """A slice that readers agree about; everything but the picture itself.

    Attributes:
        blob_key: of the PNG.
    """

    blob_key: str
    group: str
    provenance: Provenance
    spacing: tuple[float, float] | None
    pixel_aspect: float | None


@dataclass(frozen=True)
class LearnableSlice(_Found):
    """A slice with a label that can be learnt from."""

    label: Label
    region: tuple[tuple[float, float], ...] | None

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
class UnknownSlice(_Found):
    """A slice that shows none of the model's classes.

    Attributes:
        finding: as of :class:`ml.dataset.out_of_scope.OutOfScope`.
    """

    finding: str

    def with_content(self) -> OutOfScopeSlice:
        """The slice as a snapshot takes it in; raises :class:`MissingBlob`."""
        return OutOfScopeSlice(
            content=current_blobs().get(self.blob_key),
            group=self.group,
            finding=self.finding,
            provenance=self.provenance,
            spacing=self.spacing,
            pixel_aspect=self.pixel_aspect,
        )


@dataclass(frozen=True)
class LearnableSlices:
    """What a snapshot takes in, and how many assessed slices it does not, by reason.

    Attributes:
        slices: what can be learnt from.
        out_of_scope: what shows none of the classes.
    """

    slices: tuple[LearnableSlice, ...]
    left_out: Mapping[str, int]
    out_of_scope: tuple[UnknownSlice, ...] = ()


def learnable_slices(*, quorum: int) -> LearnableSlices:
    """Look at every slice of the organisation acted for that somebody has assessed."""
    untrusted = flagged_readers()
    found = consensus_of_slices(quorum=quorum, untrusted=untrusted)
    out = withdrawn()
    kept: list[LearnableSlice] = []
    others: list[UnknownSlice] = []
    left_out: Counter[str] = Counter()
    every = list(found)
    for start in range(0, len(every), _AT_ONCE):
        ids = every[start : start + _AT_ONCE]
        said, unaided = _said(ids), confirmed_unaided(ids)
        for image in _images(ids):
            consensus = found[image.id]
            other = out_of_scope_rule(consensus, quorum=quorum, untrusted=untrusted)
            rule = consensus.rule or other
            reason = _reason(image, consensus, rule, out, quorum=quorum)
            if rule is None or reason is not None:
                left_out[str(reason)] += 1
                continue
            words = _Words(image, consensus, rule, said, unaided)
            if other is None:
                kept.append(_learnable(words))
            else:
                others.append(_unknown(words))
    return LearnableSlices(tuple(kept), left_out, tuple(others))


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


def _reason(
    image: Image, consensus: Consensus, rule: Rule | None, out: Withdrawn, *, quorum: int
) -> str | None:
    """Why the slice is left out; None where it is not."""
    if out.holds(image):
        return "withdrawn"
    if rule is None:
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


@dataclass(frozen=True)
class _Words:
    """A slice with all that has been said of it.

    Attributes:
        rule: by which it got its label, or was found to have none.
        said: assessments and adjudications by their own ids, also of other slices.
        unaided: of assessments, the ids of those that the model's answer did not change.
    """

    image: Image
    consensus: Consensus
    rule: Rule
    said: Mapping[uuid.UUID, Assessment | Adjudication]
    unaided: Collection[uuid.UUID]

    @property
    def assessments(self) -> list[Assessment]:
        """All current ones of the slice."""
        found = [self.said[vote.assessment_id] for vote in self.consensus.votes]
        return [one for one in found if isinstance(one, Assessment)]

    @property
    def agreeing(self) -> list[Assessment]:
        """Those that name the label, oldest first."""
        supporters = {vote.assessment_id for vote in self.consensus.supporters}
        found = [one for one in self.assessments if one.id in supporters]
        return sorted(found, key=lambda one: one.created_at)

    @property
    def decision(self) -> Adjudication | None:
        """The adjudication that stands."""
        decision = self.consensus.decision
        found = self.said[decision.adjudication_id] if decision else None
        return found if isinstance(found, Adjudication) else None

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres between pixel centres as (row, column)."""
        down, across = self.image.row_spacing, self.image.column_spacing
        return (down, across) if down and across else None


def _learnable(words: _Words) -> LearnableSlice:
    return LearnableSlice(
        blob_key=str(words.image.blob_key),
        label=Label(str(words.consensus.label)),
        group=patient_group(words.image.study.patient.code),
        provenance=_provenance(words),
        region=_region(words.agreeing),
        spacing=words.spacing,
        pixel_aspect=words.image.pixel_aspect,
    )


def _unknown(words: _Words) -> UnknownSlice:
    return UnknownSlice(
        blob_key=str(words.image.blob_key),
        group=patient_group(words.image.study.patient.code),
        finding=_finding(words),
        provenance=_provenance(words),
        spacing=words.spacing,
        pixel_aspect=words.image.pixel_aspect,
    )


def _finding(words: _Words) -> str:
    """The key that all of them name. Readers' own words may tell who the patient is."""
    named = {one.finding for one in [words.decision] if one} or {
        one.finding for one in words.agreeing
    }
    found = named.pop() if len(named) == 1 else ""
    return found if found in FINDINGS else ""


def _provenance(words: _Words) -> Provenance:
    consensus, decision = words.consensus, words.decision
    last = max(words.assessments, key=lambda one: one.created_at)
    model = last.analysis.model_version
    readers = [vote.reader_id for vote in consensus.supporters]
    if decision is not None:
        readers.append(decision.adjudicator_id)
    return Provenance(
        image_id=str(words.image.id),
        study_id=str(words.image.study_id),
        readers=tuple(reader_name(one) for one in readers),
        rule=words.rule.value,
        blind=all(vote.blind for vote in consensus.supporters),
        assessed_at=_iso((decision or last).created_at),
        model_sha256=model.sha256 if model else "",
        predicted_label=(last.prediction.label if last.prediction else "") or "",
        model_shown=decision is not None or _model_shown(words),
    )


def _model_shown(words: _Words) -> bool:
    """Whether a reader who names the label came to it only after the model's answer was shown."""
    return any(one.model_shown and one.id not in words.unaided for one in words.agreeing)


def _region(agreeing: Sequence[Assessment]) -> tuple[tuple[float, float], ...] | None:
    """The outline of the first reader who drew one."""
    for one in agreeing:
        if one.region:
            return tuple((float(x), float(y)) for x, y in one.region["points"])
    return None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


class _WithContent(Protocol[_Taken]):
    def with_content(self) -> _Taken: ...


def contents(
    slices: Sequence[_WithContent[_Taken]], told: Callable[[int], None] | None = None
) -> Iterator[_Taken]:
    """The slices with their pictures, one in memory at a time.

    Args:
        told: told of each slice that was read, by its number from 1.
    """
    for number, one in enumerate(slices, start=1):
        yield one.with_content()
        if told is not None:
            told(number)
