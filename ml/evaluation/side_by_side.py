"""What one model costs beside another: time, taking turns, and memory of a process of its own."""

import resource
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from ml.errors import InvalidModel
from ml.evaluation.bench import alternate
from ml.serving.engines import Engine

_BATCH = 2
_ROUNDS = 9
_STATUS = Path("/proc/self/status")
_LIBRARY = Path(__file__).parents[1]


def times_as_slow(engine: Engine, size: int, other: Engine, other_size: int) -> float:
    """How many times as long ``engine`` takes for a batch as ``other``: the rounds' median.

    Args:
        size, other_size: pixels of a side of the slices that each takes.
    """
    runs = {
        name: partial(one.run, np.random.default_rng(0).random((_BATCH, 1, side, side), np.float32))
        for name, one, side in (("this", engine, size), ("other", other, other_size))
    }
    seconds = alternate(runs, rounds=_ROUNDS)
    return statistics.median(
        this / other for this, other in zip(seconds["this"], seconds["other"], strict=True)
    )


def peak_memory(card: Path, *, device: str) -> int:
    """Bytes that a new process takes at most which loads a model and answers a batch of slices.

    Not by multiprocessing: a process of Celery's pool may not have children of that kind.

    Raises:
        InvalidModel: the process failed.
    """
    found = subprocess.run(
        [sys.executable, "-m", __name__, str(card.resolve()), device],
        cwd=_LIBRARY.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise InvalidModel(f"The memory of {card.name} cannot be measured: {found.stderr[-300:]}")
    return int(found.stdout)


def _answer_batch(card: Path, device: str) -> int:
    from ml.serving.predictor import Predictor

    predictor = Predictor.load(card, device=device)
    ramp = np.tile(np.arange(predictor.size, dtype=np.uint8), (predictor.size, 1))
    predictor.predict([ramp] * _BATCH)
    return _peak()


def _peak() -> int:
    # What getrusage tells starts from the memory of the process that this one was started by.
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(_answer_batch(Path(sys.argv[1]), sys.argv[2]))
