"""Libraries that read files quote what they find in warnings, log lines and error texts.

What they find can name a patient, so none of it may get further than this module.
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
    """Silence for the whole process for as long as any thread is inside.

    ``warnings.catch_warnings`` alone is not for threads: who leaves first ends the silence of all
    others, and who leaves last can make it permanent.
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
            # Neither ``disabled``, which the loggers below do not inherit, nor a level: each
            # change of one empties the caches of all loggers of the process, several times a file.
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
    """Let no library warn or log. For any number of threads."""
    _HUSH.enter()
    try:
        yield
    finally:
        _HUSH.leave()


@contextmanager
def discreet(code: str, sentence: str) -> Iterator[None]:
    """Let no library warn or log, and turn whatever it raises into one refusal.

    Raises:
        UnreadableImage: with ``code`` and ``sentence``, or the one raised inside.
    """
    with hushed():
        try:
            yield
        except (UnreadableImage, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException:  # decoders written in Rust panic with no ordinary exception
            raise UnreadableImage(code, sentence) from None
