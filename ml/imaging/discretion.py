"""Suppress messages of libraries that read files.

Their warnings, log lines and error texts quote file contents, which can name a patient.
"""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ml.errors import UnreadableImage

_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "nibabel.global")
_NOBODY = logging.NullHandler()


class _Hush:
    """Suppresses warnings and logs in the whole process while any thread is inside.

    ``warnings.catch_warnings`` is not thread-safe: the first thread to leave restores the warnings
    for all others, and the last one can suppress them for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._heard: list[tuple[logging.Logger, list[logging.Handler], bool]] = []
        self._warnings = warnings.catch_warnings()

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            self._warnings = warnings.catch_warnings()
            self._warnings.__enter__()
            warnings.simplefilter("ignore")
            loggers = [logging.getLogger(name) for name in _LOGGERS]
            self._heard = [(one, one.handlers, one.propagate) for one in loggers]
            # Not ``disabled``, which child loggers do not inherit, and not a level, as each change
            # of one clears the caches of all loggers of the process, several times per file.
            for logger in loggers:
                logger.handlers, logger.propagate = [_NOBODY], False

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside:
                return
            for logger, handlers, propagate in self._heard:
                logger.handlers, logger.propagate = handlers, propagate
            self._warnings.__exit__(None, None, None)


_HUSH = _Hush()


@contextmanager
def hushed() -> Iterator[None]:
    """Suppress warnings and logs of libraries. Thread-safe."""
    _HUSH.enter()
    try:
        yield
    finally:
        _HUSH.leave()


@contextmanager
def discreet(code: str, sentence: str) -> Iterator[None]:
    """Suppress warnings and logs of libraries, and turn any of their errors into one refusal.

    Raises:
        UnreadableImage: with ``code`` and ``sentence``, or the one raised inside.
    """
    with hushed():
        try:
            yield
        except (UnreadableImage, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException:  # panics of decoders written in Rust are no Exception
            raise UnreadableImage(code, sentence) from None
