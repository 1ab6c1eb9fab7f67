"""Varied pictures that are no MRI of a brain, made again the same on every machine."""

from collections.abc import Sequence
from itertools import chain

from ml.odd.drawings import drawings
from ml.odd.medical import medical
from ml.odd.photographs import photographs
from ml.odd.pictures import OddPicture
from ml.odd.writing import writing


def odd_pictures() -> list[OddPicture]:
    """All of them, in a fixed order.

    Raises:
        SulcusMLError: scikit-image, or a picture that a package should ship, is missing.
    """
    return list(chain(photographs(), medical(), drawings(), writing()))


def held_out_sources(pictures: Sequence[OddPicture]) -> frozenset[str]:
    """The sources that no rule is tuned on: every second one, in order of appearance."""
    return frozenset(list(dict.fromkeys(one.source for one in pictures))[1::2])
