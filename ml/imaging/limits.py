"""How much one file may ask for, and how much all that are open may take together."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from ml.errors import MemoryBusy, UnreadableImage


@dataclass(frozen=True)
class Limits:
    """Bounds on one file, checked before the memory is spent.

    Attributes:
        max_bytes: size of the file in bytes.
        max_pixels: width times height of one slice.
        min_side: shortest side, in pixels, that still can show a brain.
        max_slices: slices of one file, and of one study.
        max_total_bytes: what one file may grow to once it is unpacked and decoded.
        max_archive_bytes: what all files of an archive, one after the other, may grow to.
        max_entries: files in one archive and in all archives inside of it.
        max_archives: archives in one archive, itself counted.
        max_expansion: how many times its own size an archive may grow to, once that is large.
        max_depth: how deep archives may stand inside of archives; 1 is none inside.
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


# For what was checked when it came in, and need not be checked again.
NO_LIMITS = Limits(
    max_bytes=2**40, max_pixels=2**40, min_side=1, max_slices=2**31, max_total_bytes=2**40
)


_PATIENCE = 30.0  # seconds


class Room:
    """Memory that the threads of a process share while they decode.

    Who needs more than is free waits in turn, and gives up after a while. A thread that holds
    room may take more beside it. Such threads cannot always wait for one another: where nobody
    else could go on, one of them gets up to half of the size beyond it. So no more than one and a
    half times the size is taken at any time.
    """

    def __init__(self, size: int, patience: float = _PATIENCE) -> None:
        """``size`` in bytes, ``patience`` in seconds."""
        self.size = size
        self._patience = patience
        self._held: dict[int, int] = {}  # by thread
        self._growing: list[int] = []  # threads that hold room and wait for more
        self._queue: list[int] = []  # threads that hold none, in turn
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        """Let this thread have ``wanted`` bytes, beside what it holds already.

        Raises:
            UnreadableImage: ``too_many_pixels`` where that is more than there is at all.
            MemoryBusy: others have kept it for too long.
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
            self._changed.notify_all()  # perhaps nobody else can go on now
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
        """How many threads wait."""
        return len(self._queue) + len(self._growing)

    @property
    def _free(self) -> int:
        return self.size - sum(self._held.values())
