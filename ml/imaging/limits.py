"""Limits on one file, and on the memory of all files that are open together."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from ml.errors import MemoryBusy, UnreadableImage


@dataclass(frozen=True)
class Limits:
    """Bounds on one file, checked before memory is allocated.

    Attributes:
        max_bytes: size of the file in bytes.
        max_pixels: width times height of one slice.
        min_side: shortest side, in pixels, that can still show a brain.
        max_slices: slices of one file, and of one study.
        max_total_bytes: size of one file after unpacking and decoding.
        max_archive_bytes: total size of all files of an archive after unpacking.
        max_entries: files in one archive and in all archives inside it.
        max_archives: archives in one archive, including itself.
        max_expansion: ratio of unpacked to packed size, checked only for large archives.
        max_depth: nesting depth of archives; 1 allows none inside another.
    """

    max_bytes: int = 512 * 2**20
    max_pixels: int = 64_000_000
    min_side: int = 32
    max_slices: int = 2000
    max_total_bytes: int = 2**30
    max_archive_bytes: int = 2 * 2**30
    max_entries: int = 5000
    max_archives: int = 200
    max_expansion: int = 100
    max_depth: int = 2


# For files that were checked at upload.
NO_LIMITS = Limits(
    max_bytes=2**40, max_pixels=2**40, min_side=1, max_slices=2**31, max_total_bytes=2**40
)


_PATIENCE = 30.0  # seconds


class Room:
    """A memory budget shared by the threads of a process while they decode.

    A thread that needs more than is free waits in a queue and gives up after a timeout. A thread
    that already holds memory may request more. To avoid deadlock between such threads, one of
    them may exceed the size by up to half if no other thread could continue. So at most one and a
    half times the size is taken at any time.
    """

    def __init__(self, size: int, patience: float = _PATIENCE) -> None:
        """``size`` in bytes, ``patience`` in seconds."""
        self.size = size
        self._patience = patience
        self._held: dict[int, int] = {}  # by thread
        self._growing: list[int] = []  # threads that hold memory and wait for more
        self._queue: list[int] = []  # threads that hold none, in order of arrival
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        """Reserve ``wanted`` bytes for this thread in addition to what it already holds.

        Raises:
            UnreadableImage: ``too_many_pixels`` if that exceeds the total size.
            MemoryBusy: the timeout is over before enough memory is free.
        """
        thread = threading.get_ident()
        with self._changed:
            held = self._held.get(thread, 0)
            if held + wanted > self.size:
                raise UnreadableImage(
                    "too_many_pixels", f"It takes more than {self.size // 2**20} MB of memory."
                )
            if wanted:
                self._wait_for(thread, wanted)
            self._held[thread] = held + wanted
        try:
            yield
        finally:
            with self._changed:
                left = self._held.pop(thread, 0) - wanted
                if left:
                    self._held[thread] = left
                self._changed.notify_all()

    def _wait_for(self, thread: int, wanted: int) -> None:
        waiting = self._growing if thread in self._held else self._queue
        waiting.append(thread)
        try:
            self._changed.notify_all()  # this may be the moment when no other thread can continue
            if not self._changed.wait_for(lambda: self._may_take(thread, wanted), self._patience):
                raise MemoryBusy("Others have needed the memory for too long.")
        finally:
            waiting.remove(thread)
            self._changed.notify_all()

    def _may_take(self, thread: int, wanted: int) -> bool:
        if thread not in self._growing:
            return self._queue[0] == thread and not self._growing and self._free >= wanted
        nobody_else = set(self._growing) == self._held.keys()
        return self._free + (self.size // 2 if nobody_else else 0) >= wanted

    @property
    def waiting(self) -> int:
        """The number of waiting threads."""
        return len(self._queue) + len(self._growing)

    @property
    def _free(self) -> int:
        return self.size - sum(self._held.values())
