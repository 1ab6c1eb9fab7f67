"""Messages about analyses: those of urgent studies wait in a queue of their own."""

import uuid
from collections.abc import Collection, Iterable

from sqlalchemy import select

from webapp.database import db
from webapp.queueing import INFERENCE, URGENT, send_classification, without_message
from webapp.studies.models import Analysis, Priority, Status, Study
from webapp.tenancy import unscoped


def send_analyses(analysis_ids: Iterable[uuid.UUID]) -> None:
    """Ask the workers for these analyses; call it after the commit.

    What the broker does not take stays queued in the database, and the sweeper sends it again.
    """
    wanted = list(analysis_ids)
    urgent = _urgent_among(wanted)
    for analysis_id in wanted:
        send_classification(analysis_id, urgent=analysis_id in urgent)


def waiting_analysis(study: Study) -> list[uuid.UUID]:
    """The study's analysis that waits for a worker, if any: its message goes by the priority."""
    current = study.current_analysis
    return [current.id] if current and current.status is Status.QUEUED else []


def analyses_without_message(analysis_ids: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Those that no message is about in the queue where it belongs.

    A study that has become urgent since its message went has none there, and so gets one.
    """
    wanted = list(analysis_ids)
    urgent = _urgent_among(wanted)
    routine = [one for one in wanted if one not in urgent]
    return without_message(URGENT, urgent) + without_message(INFERENCE, routine)


def _urgent_among(analysis_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    if not analysis_ids:
        return set()
    with unscoped():
        found = db.session.scalars(
            select(Analysis.id)
            .join(Study, Study.id == Analysis.study_id)
            .where(Analysis.id.in_(analysis_ids), Study.priority == Priority.URGENT)
        )
        return set(found)
