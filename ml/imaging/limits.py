"""How much one file may ask for, and how much all that are open may take together."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass


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


class Room:
    """Memory that the threads of a process share while they decode.

    Who needs more than is free waits, in no order; who needs more than there is waits for all
    others and has it alone.
    """

    def __init__(self, size: int) -> None:
        """``size`` in bytes."""
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        """Hold ``wanted`` bytes. Not to be nested: two threads would wait for each other."""
        share = min(wanted, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()
