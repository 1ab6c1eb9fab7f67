"""One 2-D slice, the unit that everything after decoding works on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Slice:
    """Decoded pixels of one slice.

    Attributes:
        pixels: (height, width) for grey or (height, width, 3) for colour in RGB order;
            uint8 or uint16, as stored in the file.
        index: position inside the file, counted from 0.
        spacing: millimetres between pixel centres as (row, column), or None where the
            format does not tell.
    """

    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    index: int = 0
    spacing: tuple[float, float] | None = None

    @property
    def is_colour(self) -> bool:
        """Whether the file stores three channels (they may still all be equal)."""
        return self.pixels.ndim == 3
