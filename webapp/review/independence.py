"""Whether a reader came to an opinion before another reader's could be seen.

Two opinions are worth more than one where they are independent. What a reader could see is decided
as pages, files and reports decide it (:func:`webapp.review.queries.visible_to`), and kept with the
assessment, since both the setting and the assessments change. Lists and exports of reviewers show
everything whatever the setting; that somebody looked a slice up there is not known here.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from sqlalchemy import and_, or_, select

from webapp.accounts.models import Role, User
from webapp.database import db
from webapp.review.models import Assessment


@dataclass(frozen=True)
class Sight:
    """How much of others' opinions a reader is shown.

    Attributes:
        reads_blind: others' opinions appear once the reader has given one.
        settles_disputes: slices that readers disagree about are shown, with what they say.
    """

    reads_blind: bool
    settles_disputes: bool

    @classmethod
    def of(cls, reader: User, *, sees_nobody: bool = False) -> Self:
        """What ``reader`` is shown now.

        Args:
            sees_nobody: the page shows no other reader's opinion, whatever the organisation has
                set: in a blind reading.
        """
        blind = sees_nobody or reader.organisation.blind_reading
        return cls(blind, reader.may(Role.REVIEWER))


@dataclass(frozen=True)
class _Said:
    """What was said of one subject: how often by the reader, how often by others, and what."""

    own: int
    others: int
    labels: frozenset[str]


def could_see(
    sight: Sight,
    reader_id: uuid.UUID,
    study_id: uuid.UUID,
    image_ids: Collection[uuid.UUID | None],
) -> set[uuid.UUID | None]:
    """The subjects of which the reader could see what another one says; None is the study."""
    said = _said(reader_id, study_id, [one for one in image_ids if one is not None])
    return {one for one in image_ids if _is_seen(sight, said[one], said[None])}


def _is_seen(sight: Sight, here: _Said, whole: _Said) -> bool:
    if not (here.others or whole.others):
        return False
    if not sight.reads_blind or here.own or whole.own:
        return True
    return sight.settles_disputes and len(here.labels) > 1


def _said(
    reader_id: uuid.UUID, study_id: uuid.UUID, image_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID | None, _Said]:
    whole = and_(Assessment.study_id == study_id, Assessment.image_id.is_(None))
    rows: dict[uuid.UUID | None, list[tuple[bool, str | None]]] = defaultdict(list)
    for image_id, by, label in db.session.execute(
        select(Assessment.image_id, Assessment.reader_id, Assessment.label).where(
            or_(Assessment.image_id.in_(image_ids), whole)
        )
    ):
        rows[image_id].append((by == reader_id, label))
    found: dict[uuid.UUID | None, _Said] = defaultdict(lambda: _Said(0, 0, frozenset()))
    for image_id, every in rows.items():
        own = sum(is_own for is_own, _label in every)
        labels = frozenset(label for is_own, label in every if label and not is_own)
        found[image_id] = _Said(own, len(every) - own, labels)
    return found
