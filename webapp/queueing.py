"""The Celery configuration shared by the web application, the workers and beat."""

import logging
import ssl
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

from celery import Celery, Task
from flask import Flask, current_app
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from config import Settings
from webapp import tracing
from webapp.brokers import JOB, NO_BROKER, SENT, NotedQueues, Queues, ReadQueues
from webapp.rabbitmq import celery_url

CLASSIFY = "sulcus.classify_study"
DELIVER = "sulcus.deliver_results"
GATES = "sulcus.run_gates"
RETRAIN = "sulcus.retrain"
SNAPSHOT = "sulcus.make_snapshot"
RESEND = "sulcus.resend_lost_jobs"
SWEEP = "sulcus.sweep_blobs"
RESEND_EVERY = 5.0  # seconds
SWEEP_EVERY = 24 * 3600.0  # seconds
PURGE = "sulcus.purge_drafts"
PURGE_EVERY = 3600.0  # seconds
WATCH = "sulcus.watch"
WATCH_EVERY = 24 * 3600.0  # seconds
ROLL_OUT = "sulcus.roll_out"
ROLL_OUT_EVERY = 15.0  # seconds
TEND = "sulcus.tend_database"
TEND_EVERY = 60.0  # seconds

INFERENCE = "inference"
URGENT = "inference.urgent"
BACKGROUND = "inference.background"
URGENT_IN_A_ROW = 3  # messages, then another queue has its turn
DELIVERY = "delivery"
HOUSEKEEPING = "housekeeping"
TRAINING = "training"
_QUEUE_OF = {
    CLASSIFY: INFERENCE, DELIVER: DELIVERY, GATES: TRAINING, RETRAIN: TRAINING,
    SNAPSHOT: TRAINING,
    RESEND: HOUSEKEEPING, SWEEP: HOUSEKEEPING, PURGE: HOUSEKEEPING, WATCH: HOUSEKEEPING,
    ROLL_OUT: HOUSEKEEPING, TEND: HOUSEKEEPING,
}  # fmt: skip
QUEUES = (URGENT, INFERENCE, DELIVERY, HOUSEKEEPING, TRAINING, BACKGROUND)
# Where a connection was lost meanwhile, one more attempt on a new one.
_ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}

_log = logging.getLogger(__name__)


class UrgentFirst:
    """From which queue a worker takes its next message; kombu's ``queue_order_strategy``.

    The urgent one stands first, the others have their turn one after the other. After some urgent
    messages in a row it stands behind them once, so that nothing else waits for good. What may
    wait for an idle moment (``BACKGROUND``) is taken if all others are empty.
    """

    def __init__(self) -> None:
        self._queues: list[str] = []
        self._in_a_row = 0

    def update(self, queues: Iterable[str]) -> None:
        """Take these from now on."""
        self._queues = list(queues)

    def consume(self, n: int) -> list[str]:
        """The queues in the order in which they are looked into."""
        others = [queue for queue in self._queues if queue not in {URGENT, BACKGROUND}]
        urgent = [queue for queue in self._queues if queue == URGENT]
        idle = [queue for queue in self._queues if queue == BACKGROUND]
        found = urgent + others if self._in_a_row < URGENT_IN_A_ROW else others + urgent
        return (found + idle)[:n]

    def rotate(self, last_used: str) -> None:
        """Note that a message of this queue was taken: it has its next turn after the others."""
        self._in_a_row = self._in_a_row + 1 if last_used == URGENT else 0
        self._queues.sort(key=lambda queue: queue == last_used)  # stable


class NotingCelery(Celery):
    """Notes what is sent in the portal's knowledge about its queues."""

    queues: Queues

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        """As in Celery; every message to a queue of ours goes through here, also those of beat."""
        queue = options.get("queue") or _QUEUE_OF.get(name)
        if queue not in QUEUES:
            return super().send_task(name, *args, **options)
        moment = time.time()
        headers = {**(options.pop("headers", None) or {}), SENT: moment}
        message = headers.get(JOB) or name
        if self.conf.broker_transport_options.get("pulled_queues"):
            # Not straight into the queue, as Celery would: idle workers get a copy.
            options |= {"exchange": queue, "routing_key": queue}
        with suppress(*NO_BROKER):
            self.queues.sent(queue, message, moment)
        try:
            return super().send_task(name, *args, headers=headers, **options)
        except NO_BROKER:
            with suppress(*NO_BROKER):
                self.queues.not_sent(queue, message)
            raise


def make_celery(settings: Settings, app: Flask) -> Celery:
    """Build the Celery application. Nothing connects until something is sent or worked on."""

    class AppTask(Task):  # type: ignore[type-arg]
        """A task that runs inside the Flask application's context, which owns the session."""

        def __call__(self, *args: object, **kwargs: object) -> object:
            headers = self.request.__dict__
            with app.app_context(), tracing.working(self.name, headers, headers.get(JOB)):
                return self.run(*args, **kwargs)

    celery = NotingCelery(
        "sulcus",
        broker=celery_url(settings.celery_url),
        include=[
            "worker.classify",
            "worker.deliver",
            "worker.housekeeping",
            "worker.metrics",
            "worker.presence",
            "worker.training",
            "worker.watch",
        ],
        task_cls=AppTask,
    )
    celery.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,  # results live in the database
        result_expires=None,  # so beat schedules no cleanup of results
        # A worker takes from all queues, urgent studies first and the rest in turn, so that
        # housekeeping runs however many jobs wait, unless it is told which queues to take
        # (celery worker -Q).
        task_queues=[
            Queue(
                name,
                Exchange(name),
                routing_key=name,
                # Kept on several servers, where RabbitMQ has several. Redis knows no kinds.
                queue_arguments={"x-queue-type": "quorum"} if settings.uses_rabbitmq else None,
            )
            for name in QUEUES
        ],
        task_routes={task: {"queue": queue} for task, queue in _QUEUE_OF.items()},
        # Late, so that a worker reserves one message per task that it can run. Nothing is
        # redelivered when it dies: rows and leases tell the sweep what to send again.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,
        broker_transport_options=_transport_options(settings),
        broker_use_ssl=_tls(settings),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A Redis that is starting, full or changing its role returns transient errors.
        broker_channel_error_retry=True,
        # The lease in the database decides who works; a lost connection does not stop a task.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        # A child loads the model before it reports; that takes seconds on a slow disk.
        worker_proc_alive_timeout=120.0,
        worker_hijack_root_logger=False,
        timezone="UTC",
        # Without workers, one waiting message of each task is enough.
        beat_scheduler="worker.beat:Scheduler",
        beat_schedule={
            "resend-lost-jobs": {"task": RESEND, "schedule": RESEND_EVERY},
            "sweep-blobs": {"task": SWEEP, "schedule": SWEEP_EVERY},
            "purge-drafts": {"task": PURGE, "schedule": PURGE_EVERY},
            "watch": {"task": WATCH, "schedule": WATCH_EVERY},
            "roll-out": {"task": ROLL_OUT, "schedule": ROLL_OUT_EVERY},
            "tend-database": {"task": TEND, "schedule": TEND_EVERY},
        },
    )
    celery.queues = (NotedQueues if settings.uses_rabbitmq else ReadQueues)(celery, settings)
    return celery


def _transport_options(settings: Settings) -> dict[str, Any]:
    order = f"{__name__}:{UrgentFirst.__name__}"
    # An upload does not wait for an unavailable broker: the sweep sends the job later.
    common = {"queue_order_strategy": order, **_ONCE_MORE}
    if settings.uses_rabbitmq:
        return {
            **common,
            "pulled_queues": QUEUES,
            "confirm_publish": True,
            "read_timeout": 5,
            "write_timeout": 5,
        }
    return {
        **common,
        # Acknowledging stays inside the worker. With emulation Redis keeps a copy of each
        # message, and one failed call fills the prefetch for good (docs/decisions/0034).
        "ack_emulation": False,
        "socket_timeout": 10,
        "socket_connect_timeout": 2,
        "health_check_interval": 10,
    }


def _tls(settings: Settings) -> Mapping[str, Any] | None:
    """Over ``amqps://`` the server's certificate is checked; py-amqp alone would not."""
    if not settings.broker_url.startswith("amqps://"):
        return None
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}


def init_app(app: Flask, settings: Settings) -> None:
    """Create the queue of ``app``."""
    app.extensions["celery"] = make_celery(settings, app)


def send_classification(analysis_id: uuid.UUID, *, queue: str = INFERENCE) -> bool:
    """Queue the analysis for the workers; call it after the commit.

    Args:
        queue: ``URGENT``, ``INFERENCE`` or ``BACKGROUND``.

    Returns:
        False if the broker cannot be reached. Nothing is lost: the analysis stays queued in the
        database and the sweep sends it again.
    """
    return _send(CLASSIFY, "analysis_id", analysis_id, queue)


def send_delivery(delivery_id: uuid.UUID) -> bool:
    """Queue the delivery for the workers; as :func:`send_classification`."""
    return _send(DELIVER, "delivery_id", delivery_id, DELIVERY)


def send_gates(run_id: uuid.UUID) -> bool:
    """Queue a run of the gates for the workers; as :func:`send_classification`."""
    return _send(GATES, "run_id", run_id, TRAINING)


def send_retraining(retraining_id: uuid.UUID) -> bool:
    """Queue a retraining for the workers; as :func:`send_classification`."""
    return _send(RETRAIN, "retraining_id", retraining_id, TRAINING)


def send_watch() -> bool:
    """Ask for the comparison of this week now; without a broker it waits for the next day."""
    return _sent(WATCH, "the watch", queue=HOUSEKEEPING)


def send_snapshot(request_id: uuid.UUID) -> bool:
    """Queue a snapshot for the workers; as :func:`send_classification`."""
    return _send(SNAPSHOT, "request_id", request_id, TRAINING)


def _send(task: str, name: str, job: uuid.UUID, queue: str) -> bool:
    what = f"{name} {job}"
    return _sent(task, what, kwargs={name: str(job)}, headers={JOB: str(job)}, queue=queue)


def _sent(task: str, what: str, **options: Any) -> bool:
    celery: Celery = current_app.extensions["celery"]
    again = current_app.extensions["settings"].uses_rabbitmq  # Redis' own client tries again
    try:
        with tracing.span(f"send {task}", kind="PRODUCER", sulcus_task=task):
            headers = {**options.pop("headers", {}), **tracing.message_headers()}
            celery.send_task(task, retry=again, retry_policy=_ONCE_MORE, headers=headers, **options)
    except NO_BROKER as error:
        _log.warning("%s waits for the sweeper: no answer from the broker (%s)", what, error)
        return False
    return True


def without_message(queue: str, jobs: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """The jobs that no waiting message is about; a second message would be redundant.

    Args:
        queue: the queue of their messages.

    Returns:
        No jobs if the broker does not answer: the next sweep checks again.
    """
    asked = list(jobs)
    if not asked:
        return []
    try:
        there = set(queues_of(current_app).names(queue))
    except NO_BROKER as error:
        _log.warning(
            "%d jobs wait for the next sweep: no answer from the broker (%s)", len(asked), error
        )
        return []
    return [job for job in asked if str(job) not in there]


def queues_of(app: Flask) -> Queues:
    """What is known about the messages that wait for the workers of ``app``."""
    return cast("NotingCelery", app.extensions["celery"]).queues


def warm_up(app: Flask) -> None:
    """Connect to the broker in the background, so that the first upload is fast."""
    celery: Celery = app.extensions["celery"]

    def connect() -> None:
        try:
            with celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=20, interval_start=1, interval_step=0)
            with celery.producer_pool.acquire(block=True) as producer:
                if producer.connection is not None:
                    producer.connection.default_channel  # noqa: B018 - opening it is the point
        except (OperationalError, OSError):
            _log.info("the broker does not answer yet")

    threading.Thread(target=connect, name="broker-warm-up", daemon=True).start()
