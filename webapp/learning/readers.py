"""What data stewards see of readers: how far they agree, and how often each is right."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import lazyload

from webapp.accounts.models import User
from webapp.database import db
from webapp.review.agreement import (
    Agreement,
    Estimate,
    Reading,
    agreement,
    agreement_by_class,
    agreement_by_month,
    kappa_by_pair,
    mean_of_pairs,
)
from webapp.review.consensus import (
    Consensus,
    consensus_of,
    consensus_of_slices,
    flagged_readers,
)
from webapp.review.models import Assessment, BlindReading, ReaderFlag, Verdict
from webapp.review.readings import Scope, Which, readings
from webapp.review.reliability import Reliability, reliabilities


@dataclass(frozen=True)
class ReaderRow:
    """One reader.

    Attributes:
        slices: number of slices assessed.
        against_model: share of them in which the reader disagrees with the model; None without.
        kappa: mean of Cohen's kappa with each other reader.
        reliability: None for who has read nothing in common with anybody.
        flag: the one that stands.
    """

    reader: User
    slices: int
    against_model: float | None
    kappa: float | None
    reliability: Reliability | None
    flag: ReaderFlag | None


@dataclass(frozen=True)
class PairRow:
    """Cohen's kappa of two readers."""

    first: User
    second: User
    kappa: Estimate


@dataclass(frozen=True)
class BlindRow:
    """What one reader made of slices that were named before the model's answer was shown.

    Attributes:
        kept, changed: of those that the reader has confirmed or changed since.
        to_right, to_wrong: changed to, or away from, the label that others have agreed on.
    """

    reader: User
    readings: int
    kept: int
    changed: int
    to_right: int
    to_wrong: int


@dataclass(frozen=True)
class ReadersPage:
    """All of it.

    Attributes:
        overall: by what was read and which assessments count.
        by_class, by_month: of current assessments of slices.
        pairs: likewise, those with the most slices in common first.
    """

    overall: Mapping[tuple[Scope, Which], Agreement]
    by_class: Mapping[str, Agreement]
    by_month: Mapping[str, Agreement]
    pairs: Sequence[PairRow]
    rows: Sequence[ReaderRow]
    blind: Sequence[BlindRow]


def readers_page() -> ReadersPage:
    """Of the organisation acted for."""
    overall = {
        (scope, which): readings(which, scope)
        for scope in Scope
        for which in (Which.CURRENT, Which.BLIND)
    }
    slices = overall[Scope.SLICES, Which.CURRENT]
    people = _people()
    pairs = kappa_by_pair(slices)
    return ReadersPage(
        overall={key: agreement(some) for key, some in overall.items()},
        by_class=agreement_by_class(slices),
        by_month=agreement_by_month(slices),
        pairs=sorted(
            (PairRow(people[one], people[other], kappa) for (one, other), kappa in pairs.items()),
            key=lambda row: (-row.kappa.units, row.first.name, row.second.name),
        ),
        rows=_rows(people, pairs, slices),
        blind=_blind_rows(people),
    )


def _blind_rows(people: Mapping[uuid.UUID, User]) -> list[BlindRow]:
    """Of readers who have read blind, those with the most readings first."""
    rows = db.session.scalars(select(BlindReading).order_by(BlindReading.id)).all()
    said, flagged = consensus_of_slices({row.image_id for row in rows}), flagged_readers()
    counts: dict[uuid.UUID, Counter[str]] = defaultdict(Counter)
    for row in rows:
        agreed = _agreed_by_others(said.get(row.image_id), row.reader_id, flagged)
        counts[row.reader_id].update(_what_came_of(row, agreed))
    found = [
        BlindRow(
            reader=people[reader_id],
            readings=some["readings"],
            kept=some["kept"],
            changed=some["changed"],
            to_right=some["to_right"],
            to_wrong=some["to_wrong"],
        )
        for reader_id, some in counts.items()
    ]
    return sorted(found, key=lambda one: (-one.readings, one.reader.name))


def _agreed_by_others(
    said: Consensus | None, reader_id: uuid.UUID, flagged: Collection[uuid.UUID]
) -> str | None:
    """The label of a slice by all readers but one, who must not be the measure of themselves."""
    if said is None:
        return None
    others = [vote for vote in said.votes if vote.reader_id != reader_id]
    found = consensus_of(others, said.decision, untrusted=flagged)
    return found.label if found.rule is not None else None


def _what_came_of(row: BlindReading, agreed: str | None) -> Iterator[str]:
    yield "readings"
    if row.final_id is None:
        return
    if row.final_label == row.first_label:
        yield "kept"
        return
    yield "changed"
    if agreed is not None and agreed in {row.first_label, row.final_label}:
        yield "to_right" if row.final_label == agreed else "to_wrong"


def _rows(
    people: Mapping[uuid.UUID, User],
    pairs: Mapping[tuple[uuid.UUID, uuid.UUID], Estimate],
    slices: Sequence[Reading],
) -> list[ReaderRow]:
    found = reliabilities(slices)
    flags = {
        one.reader_id: one
        for one in db.session.scalars(select(ReaderFlag).where(ReaderFlag.lifted_at.is_(None)))
    }
    counts = _counts()
    rows = [
        ReaderRow(
            reader=person,
            slices=counts[reader_id]["slices"],
            against_model=_share(counts[reader_id]),
            kappa=mean_of_pairs(pairs, reader_id),
            reliability=found.get(reader_id),
            flag=flags.get(reader_id),
        )
        for reader_id, person in people.items()
    ]
    return sorted(rows, key=lambda row: (row.flag is None, -row.slices, row.reader.name))


def _people() -> dict[uuid.UUID, User]:
    """Everybody who has assessed something."""
    wanted = select(User).where(User.id.in_(select(Assessment.reader_id).distinct()))
    return {one.id: one for one in db.session.scalars(wanted.options(lazyload(User.organisation)))}


def _counts() -> dict[uuid.UUID, Counter[str]]:
    """Of current assessments of slices, how many there are and how many disagree."""
    disagrees = func.sum(case((Assessment.verdict == Verdict.DISAGREE, 1), else_=0))
    rows = db.session.execute(
        select(Assessment.reader_id, func.count(), disagrees)
        .where(Assessment.superseded_at.is_(None), Assessment.image_id.is_not(None))
        .group_by(Assessment.reader_id)
    )
    found: dict[uuid.UUID, Counter[str]] = defaultdict(Counter)
    for reader_id, slices, against in rows:
        found[reader_id] = Counter(slices=slices, against=int(against))
    return found


def _share(counts: Counter[str]) -> float | None:
    return counts["against"] / counts["slices"] if counts["slices"] else None
