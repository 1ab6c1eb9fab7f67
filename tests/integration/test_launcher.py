"""What `make run` starts: every process comes back when it is killed, and all end with it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from config import REPOSITORY
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PARTS = {
    "redis": "redis-server",
    "web": "gunicorn",
    "worker": "worker.app worker",
    "trainer": "worker.trainer worker",
    "beat": "worker.app beat",
    "receiver": "worker.dicom_receiver",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Launched:
    """A running product.

    Attributes:
        launcher: what the terminal started; it becomes the supervisor.
        address: of the web server.
    """

    launcher: psutil.Popen
    address: str
    log: Path

    def parts(self) -> dict[str, psutil.Process]:
        """The processes that run, by name."""
        found = {}
        for child in self.launcher.children():
            with contextlib.suppress(psutil.Error):
                line = " ".join(child.cmdline())
                found |= {name: child for name, mark in PARTS.items() if mark in line}
        return found

    def everything(self) -> list[psutil.Process]:
        """The processes, and those that they have started."""
        found: list[psutil.Process] = self.launcher.children(recursive=True)
        return found

    def is_ready(self) -> bool:
        """Whether all of them run, and the portal says that it can do its work."""
        if self.launcher.poll() is not None:
            raise AssertionError(self.log.read_text())
        # With the web server’s own worker, and the children of the workers’ pools.
        if self.parts().keys() != PARTS.keys() or len(self.everything()) < len(PARTS) + 3:
            return False
        try:
            return requests.get(f"{self.address}/readyz", timeout=5).ok
        except requests.RequestException:
            return False


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Launched]:
    home = tmp_path / "a home with blanks"
    home.mkdir()
    port, log = free_port(), tmp_path / "log"
    environment = os.environ | {
        "SULCUS_HOME": str(home), "PORT": str(port), "SULCUS_DICOM_PORT": str(free_port())
    }  # fmt: skip
    with log.open("wb") as file:
        launcher = psutil.Popen(
            [sys.executable, "deploy/local.py"],
            cwd=REPOSITORY, env=environment, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    product = Launched(launcher, f"http://127.0.0.1:{port}", log)
    try:
        yield product
    finally:
        with contextlib.suppress(psutil.Error):
            for process in [*launcher.children(recursive=True), launcher]:
                process.kill()
        launcher.wait()


def test_every_process_comes_back_and_all_end_with_the_launcher(launched: Launched) -> None:
    wait_until(launched.is_ready, seconds=120, what="the product")
    before = launched.parts()
    assert set(before) == set(PARTS)
    for process in before.values():
        process.kill()

    def is_back() -> bool:
        now = launched.parts()
        return now.keys() == before.keys() and not set(now.values()) & set(before.values())

    wait_until(is_back, seconds=60, what="the processes that were killed")
    wait_until(launched.is_ready, seconds=120, what="the product, once more")

    everything = launched.everything()
    launched.launcher.send_signal(signal.SIGKILL)
    _gone, alive = psutil.wait_procs(everything, timeout=30)
    assert alive == []


def test_a_signal_ends_all_of_it_in_good_order(launched: Launched) -> None:
    wait_until(launched.is_ready, seconds=120, what="the product")
    everything = launched.everything()
    launched.launcher.send_signal(signal.SIGTERM)
    assert launched.launcher.wait(30) == 0
    _gone, alive = psutil.wait_procs(everything, timeout=5)
    assert alive == []
    assert "Traceback" not in launched.log.read_text()
