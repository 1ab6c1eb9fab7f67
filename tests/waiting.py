"""Wait for a condition with a deadline, instead of sleeping and hoping."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(look: Callable[[], Found], *, seconds: float, what: str) -> Found:
    """Return the first true value that ``look`` gives; fail with ``what`` after ``seconds``."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        pause.wait(0.05)
    return found
