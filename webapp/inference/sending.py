"""Messages about analyses: each waits in the queue of its purpose and its study's priority."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import select

from webapp.database import db
from webapp.queueing import BACKGROUND, INFERENCE, URGENT, send_classification, without_message
from webapp.studies.models import Analysis, Priority, Purpose, Status, Study
from webapp.tenancy import unscoped


def send_analyses(analysis_ids: Iterable[uuid.UUID]) -> None:
    """Ask the workers for these analyses; call it after the commit.

    What the broker does not take stays queued in the database, and the sweeper sends it again.
    """
    wanted = list(analysis_ids)
    queues = _queues_of(wanted)
    for analysis_id in wanted:
        send_classification(analysis_id, queue=queues.get(analysis_id, INFERENCE))


def waiting_analysis(study: Study) -> list[uuid.UUID]:
    """The study's analysis that waits for a worker, if any: its message goes by the priority."""
    current = study.current_analysis
    return [current.id] if current and current.status is Status.QUEUED else []


def analyses_without_message(analysis_ids: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Those that no message is about in the queue where it belongs.

    A study that has become urgent since its message went has none there, and so gets one.
    """
    wanted = list(analysis_ids)
    queues = _queues_of(wanted)
    by_queue: dict[str, list[uuid.UUID]] = defaultdict(list)
    for one in wanted:
        by_queue[queues.get(one, INFERENCE)].append(one)
    return [one for queue, jobs in by_queue.items() for one in without_message(queue, jobs)]


def _queues_of(analysis_ids: Collection[uuid.UUID]) -> Mapping[uuid.UUID, str]:
    """Where the messages of these belong; those that are gone are not among them."""
    if not analysis_ids:
        return {}
    with unscoped():
        found = db.session.execute(
            select(Analysis.id, Analysis.purpose, Study.priority)
            .join(Study, Study.id == Analysis.study_id)
            .where(Analysis.id.in_(analysis_ids))
        )
        return {one: _queue_of(purpose, priority) for one, purpose, priority in found}


def _queue_of(purpose: Purpose, priority: Priority) -> str:
    if purpose is not Purpose.SERVING:
        return BACKGROUND
    return URGENT if priority is Priority.URGENT else INFERENCE
