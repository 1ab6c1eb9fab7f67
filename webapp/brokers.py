"""What waits in the queues of the broker: Redis and Valkey are read, of RabbitMQ a list is kept.

A message is known by its name: the id of its job or, without one, its task.
"""

import json
import time
from collections.abc import Iterator
from typing import Any, Protocol

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from config import Settings

JOB = "job"  # the header with the id of the job that a message is about
SENT = "sent"  # the header with the time at which a message was sent, in seconds
NO_BROKER = (OperationalError, redis.RedisError, OSError)
"""Raised if the broker does not answer."""
_PAGE = 1000  # messages that are read at once
# Messages leave a queue in the order in which they came, give or take what clocks differ by and
# what was handed back.
_SLACK = 60.0  # seconds
_QUICK = 2.0  # seconds that a question to Redis or the broker may take


def redis_client(settings: Settings) -> redis.Redis:
    """A client with short timeouts: no request or task waits long for a heartbeat."""
    return redis.Redis.from_url(
        settings.redis_url, socket_timeout=_QUICK, socket_connect_timeout=_QUICK
    )


def check_broker(celery: Celery) -> None:
    """Connect to the broker and return.

    Raises:
        OperationalError, RedisError, OSError: it does not answer within seconds.
    """
    quick = {"socket_timeout": _QUICK, "read_timeout": _QUICK, "write_timeout": _QUICK}
    with celery.connection_for_write(connect_timeout=_QUICK, transport_options=quick) as connection:
        connection.default_channel  # noqa: B018 - opening it is the question


class Queues(Protocol):
    """What the portal knows about the messages that wait. Each call may raise ``NO_BROKER``."""

    def sent(self, queue: str, name: str, moment: float) -> None:
        """Note that a message is about to be sent; ``moment`` is in seconds."""

    def not_sent(self, queue: str, name: str) -> None:
        """Note that the broker did not take it."""

    def taken(self, queue: str, name: str, moment: float) -> None:
        """Note that a worker has a message that was sent at ``moment``."""

    def names(self, queue: str) -> Iterator[str]:
        """The names of what waits, newest first."""


class ReadQueues:
    """The lists in which Redis and Valkey keep the messages of kombu."""

    def __init__(self, celery: Celery, settings: Settings) -> None:
        self._celery = celery
        self._settings = settings

    def sent(self, queue: str, name: str, moment: float) -> None:
        """Nothing has to be noted: the messages can be read."""

    def not_sent(self, queue: str, name: str) -> None:
        """As :meth:`sent`."""

    def taken(self, queue: str, name: str, moment: float) -> None:
        """As :meth:`sent`."""

    def names(self, queue: str) -> Iterator[str]:
        """The names of what waits, newest first."""
        with self._celery.connection_for_read() as connection:
            channel: Any = connection.default_channel  # of Redis, which has a client
            start = 0
            # New messages shift the others: one may be read twice, but none is missed.
            while page := channel.client.lrange(queue, start, start + _PAGE - 1):
                yield from filter(None, map(_name_of, page))
                start += _PAGE


def _name_of(message: bytes) -> str | None:
    headers = json.loads(message)["headers"]
    name: str | None = headers.get(JOB) or headers.get("task")
    return name


class NotedQueues:
    """A list in Redis of what waits in RabbitMQ, which nobody can read without taking it.

    The list heals: what was sent well before a message that a worker takes has left the queue, and
    when a queue is empty, nothing waits. If Redis loses the list, each job is sent once more.
    """

    def __init__(self, celery: Celery, settings: Settings) -> None:
        self._celery = celery
        self._redis = redis_client(settings)

    def sent(self, queue: str, name: str, moment: float) -> None:
        """Note that a message is about to be sent."""
        self._redis.zadd(_list_of(queue), {name: moment})

    def not_sent(self, queue: str, name: str) -> None:
        """Note that the broker did not take it."""
        self._redis.zrem(_list_of(queue), name)

    def taken(self, queue: str, name: str, moment: float) -> None:
        """Strike off a message that a worker has, and what must have left the queue before it."""
        with self._redis.pipeline() as pipeline:
            pipeline.zrem(_list_of(queue), name)
            pipeline.zremrangebyscore(_list_of(queue), "-inf", moment - _SLACK)
            pipeline.execute()

    def names(self, queue: str) -> Iterator[str]:
        """The names of what waits, newest first."""
        started = time.time()
        if self._waiting(queue) == 0:
            # What is being sent at this moment is noted already.
            self._redis.zremrangebyscore(_list_of(queue), "-inf", started - _QUICK)
        found: Any = self._redis.zrange(_list_of(queue), 0, -1, desc=True)
        yield from (name.decode() for name in found)

    def _waiting(self, queue: str) -> int:
        """How many messages the broker has."""
        with self._celery.connection_for_read() as connection:
            channel: Any = connection.default_channel
            self._celery.amqp.queues[queue](channel).declare()
            return int(channel.queue_declare(queue, passive=True).message_count)


def _list_of(queue: str) -> str:
    return f"sulcus:waiting:{queue}"
