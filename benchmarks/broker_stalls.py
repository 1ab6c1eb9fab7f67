"""Check that every study is classified exactly once while the broker stalls and restarts.

Starts the whole product on embedded defaults. A few clients upload one-slice studies. Meanwhile
Redis is stopped or paused at random moments, and killed once with the loss of all its data.
Prints how many studies are done, how often each was classified and how long they waited.
The exit code is 1 if a study is not done exactly once, or if a process other than Redis ended.

    .venv/bin/python -m benchmarks.broker_stalls [--studies 200] [--stalls 20] [--longest 20]
"""

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import redis
import requests

from benchmarks.product import PAUSE, REPOSITORY, product, signed_in, submit, wait_until_done
from ml.imaging.pictures import encode_png

SAMPLE = REPOSITORY / "ml" / "samples" / "glioma-1.jpg"
CLIENTS = 4
LONGEST_GAP = 10.0  # seconds between two stalls
_ENDS = """
    SELECT study.created_at, analysis.finished_at, analysis.status, analysis.attempt,
        (SELECT count(*) FROM analysis WHERE analysis.study_id = study.id),
        (SELECT count(*) FROM prediction WHERE prediction.analysis_id = analysis.id),
        (SELECT count(*) FROM audit_event
            WHERE action = 'classify_study' AND subject_id = study.id)
    FROM study JOIN analysis ON analysis.id = study.current_analysis_id
"""


@dataclass(frozen=True)
class Stall:
    """Redis does not answer for ``seconds``, starting ``gap`` seconds after the previous stall.

    Attributes:
        stops: the process is stopped; otherwise it accepts commands but answers none.
    """

    gap: float
    seconds: float
    stops: bool


@dataclass(frozen=True)
class End:
    """The outcome of one study; ``wait`` is seconds from the upload, None until it has ended."""

    wait: float | None
    status: str
    attempts: int
    is_single: bool
    """It has one analysis and one prediction, and it ended once."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--stalls", type=int, default=20)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds of a stall")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds after the last one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    stalls = planned(random.Random(options.seed), options.stalls, options.longest)
    seconds = sum(stall.gap + stall.seconds for stall in stalls)
    with tempfile.TemporaryDirectory(prefix="sulcus-bench-") as folder:
        home = Path(folder)
        with product(home) as address:
            session = signed_in(home)
            first = submit(session, address, [picture(0)])  # waits until the model is loaded
            wait_until_done(session, address, first, pause=0.05)
            with ThreadPoolExecutor(CLIENTS) as pool:
                uploads = [
                    pool.submit(upload_all, session, address, numbers, seconds)
                    for numbers in shares(options.studies)
                ]
                disturb(home / "run" / "redis.sock", stalls)
                answers = [answer for one in uploads for answer in one.result()]
            found = wait_for_ends(home, options.patience)
            ready = requests.get(f"{address}/readyz", timeout=30).json()["reasons"]
        restarts = (home / "log").read_text(errors="replace").count("starting it again")
    report(stalls, answers, found)
    print(f"{'not ready at the end because of':36s} {ready}")
    # Only Redis was killed.
    good = all(end.status == "done" and end.is_single for end in found)
    expected = 1 if stalls else 0
    print(f"{'processes that ended by themselves':36s} {restarts - expected:7d}")
    sys.exit(not good or restarts != expected or len(found) != options.studies + 1)


def planned(chance: random.Random, count: int, longest: float) -> list[Stall]:
    """Stalls at random moments."""
    return [
        Stall(
            gap=chance.uniform(0, LONGEST_GAP),
            seconds=chance.uniform(1, longest),
            stops=chance.random() < 0.5,
        )
        for _number in range(count)
    ]


def shares(studies: int) -> list[range]:
    """The numbers of the studies that each client uploads."""
    return [range(1 + client, studies + 1, CLIENTS) for client in range(CLIENTS)]


def picture(number: int) -> bytes:
    """A PNG of a slice; four pixels at its edge encode ``number`` and so make it unique."""
    pixels = np.array(cv2.imread(str(SAMPLE), cv2.IMREAD_GRAYSCALE), np.uint8)
    pixels[0, :4] = list(number.to_bytes(4))
    return encode_png(pixels)


def upload_all(
    session: requests.Session, address: str, numbers: Sequence[int], seconds: float
) -> list[tuple[int, float]]:
    """Upload studies one by one, spread over ``seconds``; return each HTTP status and time."""
    answers = []
    for number in numbers:
        PAUSE.wait(random.uniform(0, 2 * seconds / len(numbers)))
        started = time.perf_counter()
        status = requests.post(
            f"{address}/api/v1/studies",
            headers={"Authorization": str(session.headers["Authorization"])},
            files={"files": (f"{number}.png", picture(number))},
            timeout=120,
        ).status_code
        answers.append((status, time.perf_counter() - started))
    return answers


def restart_of(stalls: Sequence[Stall]) -> int:
    """The index of the stall that is replaced by a restart."""
    return len(stalls) // 2


def disturb(socket: Path, stalls: Sequence[Stall]) -> None:
    """Stall Redis as planned; halfway through it is killed and loses its data."""
    for number, stall in enumerate(stalls):
        PAUSE.wait(stall.gap)
        with redis.Redis(unix_socket_path=str(socket)) as client:
            process = int(client.info("server")["process_id"])
            if number == restart_of(stalls):
                client.flushall()
                os.kill(process, signal.SIGKILL)
                PAUSE.wait(stall.seconds)
            elif stall.stops:
                os.kill(process, signal.SIGSTOP)
                try:
                    PAUSE.wait(stall.seconds)
                finally:
                    os.kill(process, signal.SIGCONT)
            else:
                client.client_pause(int(1000 * stall.seconds))
                PAUSE.wait(stall.seconds)


def wait_for_ends(home: Path, patience: float) -> list[End]:
    """Poll until every study has ended or ``patience`` seconds are over; return all studies."""
    deadline = time.monotonic() + patience
    while True:
        found = ends(home)
        if all(end.wait is not None for end in found) or time.monotonic() > deadline:
            return found
        PAUSE.wait(0.5)


def ends(home: Path) -> list[End]:
    """Read the current outcome of each study from the database."""
    with contextlib.closing(sqlite3.connect(home / "sulcus.sqlite3", timeout=30)) as database:
        rows = database.execute(_ENDS).fetchall()
    return [
        End(seconds_between(begun, over), status, attempts, (analyses, slices, ended) == (1, 1, 1))
        for begun, over, status, attempts, analyses, slices, ended in rows
    ]


def seconds_between(begun: str, over: str | None) -> float | None:
    """Seconds between two timestamps of the database; None if the second is missing."""
    if over is None:
        return None
    return (datetime.fromisoformat(over) - datetime.fromisoformat(begun)).total_seconds()


def report(
    stalls: Sequence[Stall], answers: Sequence[tuple[int, float]], found: Sequence[End]
) -> None:
    """Print all figures except the number of ended processes."""
    waits = [end.wait for end in found if end.wait is not None]
    took = [seconds for _status, seconds in answers]
    statuses = Counter(status for status, _seconds in answers)
    lengths = [one.seconds for number, one in enumerate(stalls) if number != restart_of(stalls)]
    print(f"{'stalls, beside one restart':36s} {len(lengths):7d}")
    print(f"{'seconds without an answer':36s} {sum(lengths):7.0f}")
    print(f"{'uploads by status':36s} {dict(statuses)}")
    print(f"{'longest upload':36s} {max(took):7.2f} s")
    print(f"{'studies by status':36s} {dict(Counter(end.status for end in found))}")
    print(f"{'not done exactly once':36s} {sum(not end.is_single for end in found):7d}")
    print(f"{'begun more than once':36s} {sum(end.attempts > 1 for end in found):7d}")
    print(f"{'median from upload to result':36s} {statistics.median(waits):7.2f} s")
    print(f"{'longest from upload to result':36s} {max(waits):7.2f} s")


if __name__ == "__main__":
    main()
