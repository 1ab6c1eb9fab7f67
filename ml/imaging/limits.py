"""How much one file may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on one file, checked before the memory is spent.

    Attributes:
        max_bytes: size of the file in bytes.
        max_pixels: width times height of one slice.
        min_side: shortest side, in pixels, that still can show a brain.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 64_000_000
    min_side: int = 32


# For what was checked when it came in, and need not be checked again.
NO_LIMITS = Limits(max_bytes=2**40, max_pixels=2**40, min_side=1)
