"""A gunicorn worker that slow connections cannot block.

In gunicorn's threaded worker a thread reads the request: sixteen stalled clients hold sixteen
threads, and nobody else is served. Here the event loop collects each request, and a thread gets it
once it is complete. Only large bodies are read by a thread, after the portal has identified the
user, and at a minimum rate. They have a separate thread pool, so that slow uploads do not delay
pages.
"""

import contextlib
import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker

LARGEST_HEAD = 32 * 2**10
"""Bytes of request line and headers."""
LARGEST_COLLECTED = 64 * 2**10
"""Bytes of a body up to which the loop collects it; requests without sign-in are not larger."""
SECONDS_TO_ARRIVE = 20.0
"""Limit for a collected request, from the first byte to the last."""
STALL_SECONDS = 20
"""Limit without a byte of a large body, or without the client reading any of a response."""
LEAST_PACE = 1000
"""Minimum rate of a large body in bytes per second, checked after ``STALL_SECONDS``."""
SECONDS_TO_PART = 2.0
"""Limit for the client to read the last response; what it sends meanwhile is discarded."""

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,15})[ \t]*\r?$", re.I | re.M)
_IN_CHUNKS = re.compile(rb"^transfer-encoding[ \t]*:", re.I | re.M)
_WAITS = re.compile(rb"^expect[ \t]*:[ \t]*100-continue[ \t]*\r?$", re.I | re.M)
_LAST = b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large" + _LAST
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout" + _LAST
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30" + _LAST


class PacedReader(SocketUnreader):
    """Reads from a connection in a thread, at a minimum rate.

    Raises:
        TimeoutError: the connection stalls or is too slow.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.start_anew()

    def start_anew(self) -> None:
        """Reset the rate for the next request."""
        self._since = time.monotonic()
        self._taken = 0

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next bytes; empty at the end."""
        spent = time.monotonic() - self._since
        if spent > STALL_SECONDS and self._taken < LEAST_PACE * spent:
            raise TimeoutError("the body comes too slowly")
        try:
            found: bytes = super().chunk(size_hint)
        except BlockingIOError:  # SO_RCVTIMEO
            raise TimeoutError("the body does not come") from None
        self._taken += len(found)
        return found


class CollectingWorker(ThreadWorker):
    """Collects requests in the event loop and gives only complete ones to a thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._collected: dict[TConn, bytearray] = {}
        self._deadlines: dict[TConn, float] = {}
        self._parting: dict[TConn, float] = {}
        self._large: set[TConn] = set()

    def init_process(self) -> None:
        """Start the threads and serve; large bodies get a second pool of half the size."""
        self._uploads = ThreadPoolExecutor(max(1, self.cfg.threads // 2))
        super().init_process()

    def enqueue_req(self, conn: TConn) -> None:
        """Give a request to the pool for its size."""
        pool = self._uploads if conn in self._large else self.tpool
        future = pool.submit(self.handle, conn)
        future.add_done_callback(
            lambda done: self.method_queue.defer(self.finish_request, conn, done)
        )

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and collect what it sends."""
        if self.cfg.is_ssl:  # TLS is read by a thread
            super().accept(listener)
            return
        try:
            connection, address = listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError | ConnectionAbortedError):
                # For example no file descriptors left: wait until open connections end.
                self.log.warning("a connection was not accepted: %s", error)
                time.sleep(0.1)
            return
        self.nr_conns += 1
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALL_SECONDS, 0))
        if len(self._collected) >= self.worker_connections // 2:
            # Drop the oldest: an honest request arrives at once.
            self._end(next(iter(self._collected)), _TOO_SLOW)
        conn = TConn(self.cfg, connection, address, listener.getsockname())
        self._collect(conn, b"")

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Collect the next request of a keep-alive connection."""
        if self.cfg.is_ssl:
            super().on_client_socket_readable(conn, client)
            return
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._collect(conn, b"")
        self._read(conn, client)

    def finish_request(self, conn: TConn, fs: Any) -> None:
        """Treat bytes received after the finished request as the start of the next."""
        self._large.discard(conn)
        if self.cfg.is_ssl or fs.cancelled() or fs.exception():
            super().finish_request(conn, fs)
        elif not fs.result():
            self._part(conn)
        elif ahead := conn.parser.unreader.take_buffered():
            conn.sock.setblocking(False)
            self._collect(conn, ahead)
            self._judge(conn)
        else:
            super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """Close the connections whose requests did not arrive in time."""
        super().murder_pending()
        now = time.monotonic()
        for conn in [one for one, deadline in self._deadlines.items() if deadline < now]:
            self._end(conn, _TOO_SLOW if self._collected[conn] else b"")
        for conn in [one for one, deadline in self._parting.items() if deadline < now]:
            self._close(conn)

    def handle(self, conn: TConn) -> Any:
        """Handle a request in a thread."""
        conn.data_ready = True
        if not self.cfg.is_ssl:
            conn.parser.unreader.start_anew()  # waiting for a thread does not count
        return super().handle(conn)

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Answer, but give up if the client does not read the response: it would hold a thread."""
        try:
            return bool(super().handle_request(req, conn))
        except BlockingIOError:  # SO_SNDTIMEO
            self.log.info("an answer was not taken and is given up")
            return False

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        # The portal does not need the part of the body that it left unread: do not wait for it.
        return keepalive and bool(conn.parser.finish_body(deadline=time.monotonic() + 0.05))

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        self._deadlines = {conn: min(at, deadline) for conn, at in self._deadlines.items()}

    def _collect(self, conn: TConn, start: bytes) -> None:
        self._collected[conn] = bytearray(start)
        self._deadlines[conn] = time.monotonic() + SECONDS_TO_ARRIVE
        self.poller.register(conn.sock, EVENT_READ, partial(self._read, conn))

    def _read(self, conn: TConn, client: socket.socket) -> None:
        try:
            found = client.recv(LARGEST_HEAD + LARGEST_COLLECTED)
        except BlockingIOError:
            return
        except OSError:
            found = b""
        if not found:
            self._end(conn)
            return
        self._collected[conn] += found
        self._judge(conn)

    def _judge(self, conn: TConn) -> None:
        """Give a request to a thread once it is complete or known to be large."""
        collected = self._collected[conn]
        while collected.startswith(b"\r\n"):  # RFC 9112 2.2
            del collected[:2]
        end = collected.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        if end < len(_END_OF_HEAD) or end > LARGEST_HEAD:
            if len(collected) > LARGEST_HEAD:
                self._end(conn, _TOO_LONG)
            return
        head = bytes(collected[:end])
        length = max(map(int, _LENGTH.findall(head)), default=0)
        missing = end + length - len(collected)
        if missing > 0 and length <= LARGEST_COLLECTED and not _IN_CHUNKS.search(head):
            if _WAITS.search(head):
                self._encourage(conn, end)
            return
        if missing > 0 or _IN_CHUNKS.search(head):
            # Large requests hold connections while they wait for a thread; limit their share.
            if len(self._large) >= self.worker_connections // 4:
                self._end(conn, _TOO_MANY)
                return
            self._large.add(conn)
        self._hand_on(conn)

    def _encourage(self, conn: TConn, end: int) -> None:
        """Send 100 Continue once, and remove the Expect header so that it is not sent again."""
        collected = self._collected[conn]
        lines = bytes(collected[:end])
        collected[:end] = _WAITS.sub(b"", lines).replace(b"\r\n\n", b"\r\n")
        self._send(conn, b"HTTP/1.1 100 Continue\r\n\r\n")

    def _hand_on(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        collected = self._forget(conn)
        try:
            if not conn.initialized:
                conn.init()
                conn.parser.unreader = PacedReader(conn.sock)
            conn.parser.unreader.unread(bytes(collected))
        except Exception:
            self._large.discard(conn)
            self.nr_conns -= 1
            conn.close()
            return
        self.enqueue_req(conn)

    def _end(self, conn: TConn, last_words: bytes = b"") -> None:
        self.poller.unregister(conn.sock)
        self._forget(conn)
        self._send(conn, last_words)
        self.nr_conns -= 1
        conn.close()

    def _forget(self, conn: TConn) -> bytearray:
        del self._deadlines[conn]
        return self._collected.pop(conn)

    def _part(self, conn: TConn) -> None:
        """Close as RFC 9112 9.6 describes, without blocking the loop as gunicorn would."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, EVENT_READ, partial(self._discard, conn))
        except (OSError, ValueError):  # closed already
            self.nr_conns -= 1
            conn.close()
            return
        self._parting[conn] = time.monotonic() + SECONDS_TO_PART

    def _discard(self, conn: TConn, client: socket.socket) -> None:
        try:
            if client.recv(LARGEST_COLLECTED):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close(conn)

    def _close(self, conn: TConn) -> None:
        del self._parting[conn]
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    @staticmethod
    def _send(conn: TConn, words: bytes) -> None:
        """Send a few bytes without waiting; they are lost if the client's window is full."""
        with contextlib.suppress(OSError):
            conn.sock.send(words)
