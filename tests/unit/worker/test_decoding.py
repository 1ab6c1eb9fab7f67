"""What the model is to see of pictures that are larger than any slice."""

import numpy as np
import pytest

from ml.imaging import Slice
from worker.decoding import LARGEST_FOR_MODEL, reduced


@pytest.mark.parametrize("shape", [(8000, 8000), (8000, 8000, 3), (32768, 1900), (2001, 2000)])
def test_large_pictures_become_small_copies_of_the_same_extent(shape: tuple[int, ...]) -> None:
    pixels = np.full(shape, 77, np.uint16)
    found = reduced(Slice(pixels, spacing=(0.5, 0.25)))
    height, width = found.pixels.shape[:2]
    assert height * width <= LARGEST_FOR_MODEL
    assert found.pixels.dtype == np.uint16
    assert (found.pixels == 77).all()
    assert found.spacing is not None
    extent = (height * found.spacing[0], width * found.spacing[1])
    assert extent == pytest.approx((shape[0] * 0.5, shape[1] * 0.25))


def test_slices_stay_as_they_are() -> None:
    item = Slice(np.zeros((2000, 2000), np.uint8))
    assert reduced(item) is item
