"""Messages from RabbitMQ in the order that the worker chooses; a transport of kombu.

RabbitMQ pushes messages of several queues in an order of its own, and quorum queues count what is
taken for each of them apart. So a worker would hold a routine message of each queue while an
urgent one waits behind them. Here it asks: whenever it has room, it looks into its queues in the
order of ``queue_order_strategy`` (:class:`webapp.queueing.UrgentFirst`) and takes one message.
It gets a copy of each message in a small queue of its own, and looks only where one may be.

A message is acknowledged when it is taken, as with Redis (docs/decisions/0034): no time-out of
RabbitMQ's ends a long task, and what a worker was lost with is sent again by the sweeper.

``amqp://…`` becomes ``rabbitmq://…`` and ``amqps://…`` ``rabbitmqs://…`` for Celery.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import amqp
from kombu.exceptions import InconsistencyError
from kombu.transport import TRANSPORT_ALIASES, pyamqp
from kombu.utils.imports import symbol_by_name

# Seconds after which empty queues are looked into again, even without a copy of a message.
_LOOK_AGAIN = 2.0
# A copy may come before its message, which RabbitMQ first writes to its disks: seconds until the
# first further look, which doubles, and the last one.
_FIRST_LOOK, _LAST_LOOK = 0.002, 0.5
_COPIES = 100  # that wait for a worker; where more are lost, it finds their messages by looking

TRANSPORT_ALIASES["rabbitmq"] = f"{__name__}:Transport"
TRANSPORT_ALIASES["rabbitmqs"] = f"{__name__}:SSLTransport"


def celery_url(url: str) -> str:
    """The address by which Celery finds this transport; others are returned unchanged.

    Several servers of a cluster may be named, separated by semicolons.
    """
    return ";".join(map(_ours, url.split(";")))


def _ours(url: str) -> str:
    for scheme, ours in (("amqp://", "rabbitmq://"), ("amqps://", "rabbitmqs://")):
        if url.startswith(scheme):
            return ours + url.removeprefix(scheme)
    return url


class OrderedChannel(pyamqp.Channel):
    """A channel that takes messages of some queues one by one, in an order of its own.

    Options of the connection: ``pulled_queues``, the names of those queues; the messages of others
    (remote control) are pushed. ``queue_order_strategy``: the class that knows the order.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._consumers: dict[str, tuple[str, Callable[[amqp.Message], None]]] = {}
        self._order = symbol_by_name(self.connection.options["queue_order_strategy"])()
        self._room = 0  # messages that may be held at once; 0 is any number
        self._held: dict[int, amqp.Message] = {}
        self._copies: str | None = None  # the tag of the consumer of copies
        self._due = False
        self._filled: set[str] = set()  # queues that may hold messages
        self._expected: set[str] = set()  # those of which a copy came a moment ago
        self._next_look = 0.0  # seconds, while a message is expected

    def basic_qos(  # type: ignore[override]
        self, _size: int, prefetch_count: int, *_global: Any, **_options: Any
    ) -> None:
        """Hold at most so many messages at once."""
        self._room = prefetch_count
        self._due = True

    def basic_consume(  # type: ignore[override]
        self, queue: str = "", consumer_tag: str = "", **options: Any
    ) -> str:
        """Take messages from ``queue`` from now on."""
        callback = options.get("callback")
        if queue not in self.connection.options["pulled_queues"] or callback is None:
            return str(super().basic_consume(queue, consumer_tag, **options))
        tag = consumer_tag or f"pulled-{queue}"
        self._consumers[tag] = (queue, callback)
        self._listen(queue)
        self._update_order()
        self.look_again()
        return tag

    def basic_cancel(self, consumer_tag: str, *args: Any, **options: Any) -> Any:
        """Take nothing more for this consumer."""
        if self._consumers.pop(consumer_tag, None) is None:
            return super().basic_cancel(consumer_tag, *args, **options)
        self._update_order()
        return None

    def basic_ack(self, delivery_tag: int, *_ignored: Any, **_options: Any) -> None:
        """Make room for the next message; RabbitMQ has been told before."""
        self._release(delivery_tag)

    def basic_reject(self, delivery_tag: int, requeue: bool = False, **_options: Any) -> None:  # type: ignore[override]
        """Make room for the next message; with ``requeue`` this one is sent again."""
        message = self._release(delivery_tag)
        if requeue and message is not None:
            self._send_again(message)

    def basic_recover(self, *_ignored: Any, **_options: Any) -> None:
        """Send again what is held."""
        for tag in list(self._held):
            self.basic_reject(tag, requeue=True)

    def close(self, *args: Any, **options: Any) -> Any:
        """Send again what was taken and not begun, and close."""
        try:
            if self.is_open and self._held:
                self.basic_recover()
        except (*amqp.Connection.connection_errors, *amqp.Connection.channel_errors):
            self._held.clear()  # the sweeper sends these again
        return super().close(*args, **options)

    def look_again(self) -> None:
        """Look into all queues with the next :meth:`pull`."""
        self._filled = {queue for queue, _callback in self._consumers.values()}
        self._due = True

    def look_soon(self) -> None:
        """Look with the next :meth:`pull` where a message is expected."""
        self._due = True

    def wants_more(self) -> bool:
        """Whether there is room, and a reason to look."""
        return self._due and bool(self._consumers) and self._has_room()

    def pull(self) -> bool:
        """Take messages while there is room; return whether any was there."""
        found = False
        while self.wants_more():
            message = self._next()
            if message is None:
                self._due = False
                self._expect()
                break
            found = True
            self._next_look = _FIRST_LOOK
            queue = message.delivery_info["routing_key"]
            self._held[int(message.delivery_tag or 0)] = message
            self._callback_of(queue)(message)
        return found

    def _next(self) -> amqp.Message | None:
        for number, queue in enumerate(self._order.consume(len(self._consumers))):
            if number and queue not in self._filled:  # the first one is asked in any case
                continue
            message = self.basic_get(queue, no_ack=True)
            if message is None:
                self._filled.discard(queue)
            else:
                self._order.rotate(queue)
                message.delivery_info["routing_key"] = queue
                return message
        return None

    def _callback_of(self, queue: str) -> Callable[[amqp.Message], None]:
        for known, callback in self._consumers.values():
            if known == queue:
                return callback
        raise InconsistencyError(f"nobody takes messages of {queue}")

    def _has_room(self) -> bool:
        return not self._room or len(self._held) < self._room

    def _release(self, delivery_tag: int) -> amqp.Message | None:
        message = self._held.pop(delivery_tag, None)
        self._due = True
        if self.connection is not None:  # it is when a task outlives the connection
            self.connection.wake()
        return message

    def _send_again(self, message: amqp.Message) -> None:
        again = amqp.Message(message.body, **message.properties)
        queue = message.delivery_info["routing_key"]
        self.basic_publish(again, exchange=queue, routing_key=queue)

    def _update_order(self) -> None:
        self._order.update([queue for queue, _callback in self._consumers.values()])

    def _listen(self, queue: str) -> None:
        """Get a copy of what is sent to ``queue``: no wait for the next look is needed."""
        if self._copies is None:
            declared: Any = self.queue_declare(
                "",
                durable=False,
                exclusive=True,
                auto_delete=True,
                arguments={"x-max-length": _COPIES},
            )
            self._copies_in = declared.queue
            self._copies = super().basic_consume(self._copies_in, no_ack=True, callback=self._told)
        self.queue_bind(self._copies_in, exchange=queue, routing_key=queue)

    def _told(self, copy: amqp.Message) -> None:
        self._due = True
        self._expected.add(copy.delivery_info["routing_key"])
        self._filled |= self._expected
        self._next_look = _FIRST_LOOK

    def _expect(self) -> None:
        """Have a further look at queues of which a copy came, for about a second."""
        if not self._expected:
            return
        if self._next_look > _LAST_LOOK:
            self._expected.clear()
            return
        self._filled |= self._expected
        self.connection.look_in(self._next_look)
        self._next_look *= 2


class OrderedConnection(pyamqp.Connection):
    """A connection whose channels take messages in their own order."""

    Channel = OrderedChannel

    channels: dict[int, Any] | None

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._hub: Any = None
        self._look_at: float | None = None  # of a loop without a hub, on the monotonic clock
        super().__init__(**options)

    def pull(self) -> bool:
        """Take messages for all channels that have room; return whether any was there."""
        found = False
        for one in self._ordered():
            if one.wants_more():
                self._read_copies()
                found |= one.pull()
        return found

    def look_again(self) -> None:
        """Let all channels look into all their queues."""
        self._look_at = None
        for one in self._ordered():
            one.look_again()

    def _read_copies(self) -> None:
        """Read what has come; it tells where messages are."""
        with suppress(TimeoutError):
            while True:
                self.drain_events(timeout=0)

    def _ordered(self) -> list[OrderedChannel]:
        channels = (self.channels or {}).values()  # none once it is closed
        return [one for one in channels if isinstance(one, OrderedChannel)]

    def look_soon(self) -> None:
        """Let all channels look where they expect a message."""
        self._look_at = None
        for one in self._ordered():
            one.look_soon()

    def look_in(self, seconds: float) -> None:
        """Do so in a moment."""
        if self._hub is not None:
            self._hub.call_later(seconds, self.look_soon)
        else:
            self._look_at = time.monotonic() + seconds

    def until_look(self) -> float:
        """Seconds until the next look of a loop without a hub."""
        if self._look_at is None:
            return _LOOK_AGAIN
        return max(0.0, self._look_at - time.monotonic())

    def run_in(self, hub: Any) -> None:
        """Take messages whenever the loop of the worker comes round."""
        self._hub = hub

        def tick() -> None:
            if self.connected:
                self.pull()
            else:
                hub.on_tick.discard(tick)

        hub.on_tick.add(tick)
        hub.call_repeatedly(_LOOK_AGAIN, self.look_again)

    def wake(self) -> None:
        """Let the loop come round now: a thread may have ended a task."""
        if self._hub is not None:
            self._hub.call_soon(lambda: None)


class Transport(pyamqp.Transport):
    """RabbitMQ, asked for messages instead of pushing them."""

    Connection = OrderedConnection
    # Not `amqp`, by which Celery would declare queues for delayed messages, which nobody sends.
    driver_type = "rabbitmq"

    def drain_events(self, connection: Any, timeout: float | None = None, **options: Any) -> None:
        """Wait for events and messages, as loops without a hub do.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not connection.pull():
            left = None if deadline is None else deadline - time.monotonic()
            wait = connection.until_look()
            if left is not None:
                wait = min(wait, max(0.0, left))
            try:
                connection.drain_events(timeout=wait, **options)
            except TimeoutError:
                if wait >= _LOOK_AGAIN or (left is not None and left <= wait):
                    connection.look_again()
                else:
                    connection.look_soon()
                if left is not None and left <= wait and not connection.pull():
                    raise
                continue
            if deadline is None:
                connection.pull()
                return

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Read and pull in the worker's loop."""
        super().register_with_event_loop(connection, loop)
        connection.run_in(loop)


class SSLTransport(pyamqp.SSLTransport, Transport):
    """The same over TLS."""
