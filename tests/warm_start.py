"""Processes that start at once: each is forked from one that has imported everything already.

To import torch, OpenVINO, Celery and SQLAlchemy is most of a worker's start, some seconds of
processor time. The fork server of ``multiprocessing`` imports them once; what reads settings is
imported by each process for itself.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from prometheus_client import values as prometheus_values

_IMPORTED = (
    "celery.bin.beat", "celery.bin.worker", "celery.concurrency.prefork", "celery.worker",
    "celery.app.log", "gunicorn.app.wsgiapp", "gunicorn.workers.gthread", "kombu.transport.redis",
    "ml.serving.predictor", "ml.serving.engines.openvino_engine", "psycopg", "pynetdicom",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite", "webapp.accounts.views",
    "webapp.api.views", "webapp.demo.commands", "webapp.dicomweb.views", "webapp.learning.views",
    "webapp.models_admin.views", "webapp.pacs.views", "worker.decoding",
)  # fmt: skip
_REPOSITORY = Path(__file__).parents[1]

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(_IMPORTED))


class WarmProcess:
    """A ``python -m MODULE`` with its own process group and log."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        errors: Path | None = None,
    ) -> None:
        """Start it.

        Args:
            command: the module and its arguments.
            environment: all variables, not further ones.
            errors: what it writes to standard error, if that does not go to the log as well.
        """
        self._process = _server.Process(
            target=_run, args=(list(command), dict(environment), str(log), str(errors or log))
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """The exit code, once it has ended."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL for the process and its children, as the kernel does when memory is short."""
        for kill in (os.killpg, os.kill):  # it has its group in a moment
            with suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        self._process.join()


def run_module(*command: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m`` with these arguments to its end, as ``subprocess.run`` would."""
    with tempfile.TemporaryDirectory() as folder:
        out, errors = (Path(folder) / name for name in ("out", "errors"))
        code = WarmProcess(command, os.environ, out, errors).wait()
        return subprocess.CompletedProcess(command, code, out.read_text(), errors.read_text())


def _run(command: list[str], environment: dict[str, str], log: str, errors: str) -> None:
    os.setpgid(0, 0)
    os.chdir(_REPOSITORY)
    for stream, path in ((1, log), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(environment)
    # It looked for PROMETHEUS_MULTIPROC_DIR when the fork server imported it.
    prometheus_values.ValueClass = prometheus_values.get_value_class()
    sys.argv = command
    sys.path.insert(0, str(_REPOSITORY))
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
