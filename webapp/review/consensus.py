"""The rule that turns what several readers say about a slice into one label, or into none.

A label is agreed on where a quorum of independent readers name it and nobody names another one.
Where readers disagree, somebody who is none of them decides. Everything else stays without a
label: one reader alone, a dispute, or a finding that is none of the model's classes, which never
becomes one of them. "Unsure" neither agrees nor disagrees.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute

from webapp.database import db
from webapp.review.models import OTHER, Adjudication, Assessment, ReaderFlag

QUORUM = 2
"""Independent readers who have to agree, where a plan does not say otherwise."""


class State(StrEnum):
    """How far readers have come with a slice."""

    NONE = "none"  # nobody names a diagnosis
    SINGLE = "single"  # too few independent readers
    AGREED = "agreed"
    DISPUTED = "disputed"
    ADJUDICATED = "adjudicated"
    OTHER = "other"  # none of the model's classes


class Rule(StrEnum):
    """By which rule a slice got its label."""

    QUORUM = "quorum"
    ADJUDICATED = "adjudicated"
    SINGLE = "single"  # one reader, where one is enough


@dataclass(frozen=True)
class Vote:
    """The current assessment of one reader, as far as it counts.

    Attributes:
        label: None for "unsure".
        blind: given before another reader's could be seen.
    """

    assessment_id: uuid.UUID
    reader_id: uuid.UUID
    label: str | None
    blind: bool


@dataclass(frozen=True)
class Decision:
    """The current adjudication of a slice."""

    adjudication_id: uuid.UUID
    label: str
    about: frozenset[uuid.UUID]


@dataclass(frozen=True)
class Consensus:
    """What readers say about one slice together.

    Attributes:
        label: the diagnosis that is agreed on or decided; with :attr:`State.SINGLE` what those
            few say, with :attr:`State.OTHER` :data:`webapp.review.models.OTHER`, otherwise None.
        rule: None where the slice has no label to learn from.
        votes: all of them, "unsure" as well.
        decision: the adjudication, where it stands.
    """

    state: State
    label: str | None
    rule: Rule | None
    votes: tuple[Vote, ...]
    decision: Decision | None = None

    @property
    def supporters(self) -> tuple[Vote, ...]:
        """Those that name the label."""
        return tuple(one for one in self.votes if one.label == self.label)


def consensus_of(
    votes: Sequence[Vote],
    decision: Decision | None = None,
    *,
    quorum: int = QUORUM,
    untrusted: Collection[uuid.UUID] = (),
) -> Consensus:
    """Apply the rule to the current assessments of one slice.

    Args:
        votes: at most one of each reader.
        quorum: number of independent readers who have to agree.
        untrusted: readers who do not help to make a quorum. That they disagree still counts:
            rather a slice too few than a wrong one.
    """
    every = tuple(votes)
    if decision is not None and _stands(decision, every):
        is_other = decision.label == OTHER
        state = State.OTHER if is_other else State.ADJUDICATED
        rule = None if is_other else Rule.ADJUDICATED
        return Consensus(state, decision.label, rule, every, decision)
    labels = {one.label for one in every if one.label is not None}
    if not labels:
        return Consensus(State.NONE, None, None, every)
    if len(labels) > 1:
        return Consensus(State.DISPUTED, None, None, every)
    (label,) = labels
    if label == OTHER:
        return Consensus(State.OTHER, OTHER, None, every)
    rule = _rule_of_readers(every, label, quorum, untrusted)
    state = State.SINGLE if rule is None else State.AGREED
    return Consensus(state, label, rule, every)


def out_of_scope_rule(
    found: Consensus, *, quorum: int = QUORUM, untrusted: Collection[uuid.UUID] = ()
) -> Rule | None:
    """By which rule a slice shows none of the model's classes; None where none says so.

    Args:
        quorum, untrusted: as of :func:`consensus_of`.
    """
    if found.state is not State.OTHER:
        return None
    if found.decision is not None:
        return Rule.ADJUDICATED
    return _rule_of_readers(found.votes, OTHER, quorum, untrusted)


def _rule_of_readers(
    votes: Sequence[Vote], label: str, quorum: int, untrusted: Collection[uuid.UUID]
) -> Rule | None:
    """The rule where enough independent readers name the label."""
    independent = {
        one.reader_id
        for one in votes
        if one.label == label and one.blind and one.reader_id not in untrusted
    }
    if len(independent) < quorum:
        return None
    return Rule.SINGLE if len(independent) == 1 else Rule.QUORUM


def consensus_of_slices(
    image_ids: Collection[uuid.UUID] | None = None,
    *,
    quorum: int = QUORUM,
    untrusted: Collection[uuid.UUID] | None = None,
) -> dict[uuid.UUID, Consensus]:
    """What readers say together, by slice: of these, or of all that somebody has assessed.

    Args:
        untrusted: by default those who have a flag.
    """
    if untrusted is None:
        untrusted = flagged_readers()
    votes: dict[uuid.UUID, list[Vote]] = defaultdict(list)
    for image_id, vote in _current_votes(image_ids):
        votes[image_id].append(vote)
    decisions = _decisions(image_ids)
    return {
        image_id: consensus_of(some, decisions.get(image_id), quorum=quorum, untrusted=untrusted)
        for image_id, some in votes.items()
    }


def disputed_slices() -> list[uuid.UUID]:
    """The slices that readers disagree about and nobody has settled, the longest waiting first."""
    current = (Assessment.superseded_at.is_(None), Assessment.label.is_not(None))
    suspects = db.session.scalars(
        select(Assessment.image_id)
        .where(Assessment.image_id.is_not(None), *current)
        .group_by(Assessment.image_id)
        .having(func.count(Assessment.label.distinct()) > 1)
        .order_by(func.max(Assessment.created_at), Assessment.image_id)
    ).all()
    wanted = [one for one in suspects if one is not None]
    found = consensus_of_slices(wanted)
    return [one for one in wanted if found[one].state is State.DISPUTED]


def flagged_readers() -> set[uuid.UUID]:
    """Readers whose flag nobody has lifted."""
    return set(
        db.session.scalars(select(ReaderFlag.reader_id).where(ReaderFlag.lifted_at.is_(None)))
    )


def _stands(decision: Decision, votes: Iterable[Vote]) -> bool:
    """Whether whoever says something else had been heard."""
    return all(
        one.assessment_id in decision.about
        for one in votes
        if one.label is not None and one.label != decision.label
    )


def _current_votes(image_ids: Collection[uuid.UUID] | None) -> Iterator[tuple[uuid.UUID, Vote]]:
    found = select(
        Assessment.image_id,
        Assessment.id,
        Assessment.reader_id,
        Assessment.label,
        Assessment.blind,
    ).where(Assessment.superseded_at.is_(None))
    # Slices that are named are not asked for anything else: SQLite would read all votes for it.
    if image_ids is None:
        wanted = found.where(Assessment.image_id.is_not(None))
    else:
        wanted = found.where(Assessment.image_id.in_(image_ids))
    rows = sorted(db.session.execute(wanted), key=lambda row: row.id)
    for image_id, assessment_id, reader_id, label, blind in rows:
        if image_id is not None:
            yield image_id, Vote(assessment_id, reader_id, label, blind)


def _decisions(image_ids: Collection[uuid.UUID] | None) -> dict[uuid.UUID, Decision]:
    rows = db.session.scalars(
        select(Adjudication).where(
            Adjudication.superseded_at.is_(None), *_among(Adjudication.image_id, image_ids)
        )
    )
    return {
        one.image_id: Decision(one.id, one.label, frozenset(map(uuid.UUID, one.about)))
        for one in rows
    }


def _among(
    column: InstrumentedAttribute[Any], image_ids: Collection[uuid.UUID] | None
) -> tuple[ColumnElement[bool], ...]:
    return () if image_ids is None else (column.in_(image_ids),)
