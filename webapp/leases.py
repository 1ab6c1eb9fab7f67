"""Jobs as rows: how a worker claims one, writes while it holds it, and what becomes of the rest.

One UPDATE claims a job and counts the attempt, so that of two workers exactly one gets it, on
either database. The attempt is a fencing token: whoever writes to a job names the one that it
believes in, and a worker that was taken for dead finds no row. Messages may be lost; what is due
and has nobody is found here and sent again (docs/decisions/0004).
"""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Update, and_, or_, select, true, update
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.interfaces import ORMOption

from webapp.database import db, now
from webapp.tenancy import OrganisationOwned, acting_for, unscoped

# A job that no worker took for this long is sent again if its message is lost; twice is harmless.
RESEND_AFTER = timedelta(seconds=15)

_log = logging.getLogger(__name__)


Row = TypeVar("Row", bound=OrganisationOwned)
Claimed = TypeVar("Claimed", bound="Lease")


class LeaseLost(Exception):
    """Another worker has the job, or nobody wants it any more; what this one found is dropped."""


@dataclass(frozen=True)
class Lease:
    """A job that this worker may work on; each kind adds what its worker has to know."""

    job_id: uuid.UUID
    organisation_id: uuid.UUID
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Jobs(Generic[Row]):
    """One kind of job: the table, what its columns are called, and what its states mean.

    Attributes:
        model: each row is a job.
        attempt: counts claims, and fences them.
        sent_at: when the last message about a job went, or the next one is to go.
        max_attempts: claims that a job gets; the one that dies with the last of them ends it.
        free: at a moment, nobody works on the job and it may be claimed.
        held: some worker has it.
        wanted: nothing newer has made it needless; looked up at each statement.
        taken: what a claim sets, beside the attempt.
        given_up: what is set where the attempts are used up.
        record_end: told of a row that was given up, in that transaction and its organisation.
    """

    model: type[Row]
    attempt: InstrumentedAttribute[int]
    sent_at: InstrumentedAttribute[datetime]
    max_attempts: int
    free: Callable[[datetime], ColumnElement[bool]]
    held: ColumnElement[bool]
    wanted: ColumnElement[bool] = field(default_factory=true)
    taken: Callable[[datetime], Mapping[str, object]]
    given_up: Callable[[datetime], Mapping[str, object]]
    record_end: Callable[[Row], None]

    def claim_many(
        self,
        job_ids: Sequence[uuid.UUID],
        make: Callable[[Sequence[Row]], list[Claimed]],
        *,
        options: Sequence[ORMOption] = (),
    ) -> list[Claimed]:
        """Take those of the jobs that are free, and commit.

        Args:
            make: makes of the rows what the worker gets of each; called across organisations.
            options: for loading the rows.

        Returns:
            What was made, in the order of ``job_ids``; nothing of those that are not free.
        """
        moment = now()
        values = {**self.taken(moment), self.attempt.key: self.attempt + 1}
        with unscoped():
            taken = db.session.scalars(
                self._update(
                    self._id.in_(job_ids),
                    self.free(moment),
                    self.wanted,
                    self.attempt < self.max_attempts,
                )
                .values(values)
                .returning(self._id)
            ).all()
            if not taken:
                db.session.rollback()
                return []
            rows = db.session.scalars(
                select(self.model)
                .where(self._id.in_(taken))
                .options(*options)
                .execution_options(populate_existing=True)
            ).all()
            by_id = {row.id: row for row in rows}  # type: ignore[attr-defined]
            claimed = make([by_id[one] for one in job_ids if one in by_id])
            db.session.commit()
        return claimed

    def claim(
        self,
        job_id: uuid.UUID,
        make: Callable[[Row, int], Claimed],
        *,
        options: Sequence[ORMOption] = (),
    ) -> Claimed | None:
        """As :meth:`claim_many`, of one; ``make`` gets the row and the number of the attempt."""
        found = self.claim_many(
            [job_id],
            lambda rows: [make(row, getattr(row, self.attempt.key)) for row in rows],
            options=options,
        )
        return found[0] if found else None

    def update(self, lease: Lease, **values: object) -> None:
        """Change the job that the worker holds; the row stays locked until the caller commits.

        Raises:
            LeaseLost: it is no longer this worker's; the transaction was rolled back.
        """
        if not self.changes(lease, **values):
            db.session.rollback()
            raise LeaseLost(str(lease.job_id))

    def changes(self, lease: Lease, **values: object) -> bool:
        """As :meth:`update`; False if it is no longer this worker's, and nothing was changed."""
        with acting_for(lease.organisation_id):
            found = db.session.scalar(
                self._update(
                    self._id == lease.job_id,
                    self.attempt == lease.attempt,
                    self.held,
                    self.wanted,
                )
                .values(values)
                .returning(self._id)
            )
        return found is not None

    def to_resend(self) -> list[uuid.UUID]:
        """Find jobs that are due and that nobody works on, mark them as sent now, give their ids.

        Their message may be lost, or their worker has died. What has used up its attempts is
        ended.
        """
        moment = now()
        self._give_up_exhausted(moment)
        with unscoped():
            ids = list(
                db.session.scalars(
                    self._update(
                        self.sent_at <= moment - RESEND_AFTER, self.free(moment), self.wanted
                    )
                    .values({self.sent_at.key: moment})
                    .returning(self._id)
                )
            )
            db.session.commit()
        return ids

    def _give_up_exhausted(self, moment: datetime) -> None:
        """End what has used up its attempts, each by itself: none can keep the others from it."""
        exhausted = and_(self.attempt >= self.max_attempts, self.free(moment))
        with unscoped():
            found = db.session.execute(
                select(self._id, self.model.organisation_id).where(exhausted)
            ).all()
            db.session.rollback()
        for job_id, organisation_id in found:
            try:
                with acting_for(organisation_id):
                    self._give_up(job_id, moment, exhausted)
            except Exception:
                db.session.rollback()
                _log.exception("%s %s could not be given up", self.model.__name__, job_id)

    def _give_up(self, job_id: uuid.UUID, moment: datetime, exhausted: ColumnElement[bool]) -> None:
        ended = db.session.scalar(
            self._update(self._id == job_id, exhausted)
            .values(self.given_up(moment))
            .returning(self._id)
        )
        if ended is not None:
            self.record_end(db.session.get_one(self.model, job_id, populate_existing=True))
        db.session.commit()

    @property
    def _id(self) -> Any:
        return self.model.id  # type: ignore[attr-defined]

    def _update(self, *conditions: Any) -> Update:
        return update(self.model).where(*conditions).execution_options(synchronize_session=False)


def waits_or_is_over(
    moment: datetime,
    waits: ColumnElement[bool],
    held: ColumnElement[bool],
    lease_until: InstrumentedAttribute[datetime | None],
) -> ColumnElement[bool]:
    """Whether nobody works on a job: it waits, or the lease of who held it is over."""
    return or_(waits, and_(held, lease_until < moment))


def due_after(wait: timedelta) -> datetime:
    """The ``sent_at`` of a job whose next message is to go when ``wait`` is over."""
    return now() + wait - RESEND_AFTER
