"""Varied pictures that are no MRI of a brain, made again the same on every machine."""

from collections.abc import Sequence
from itertools import chain

from ml.evaluation.ood_pictures.drawings import drawings
from ml.evaluation.ood_pictures.medical import medical
from ml.evaluation.ood_pictures.photographs import photographs
from ml.evaluation.ood_pictures.pictures import OODPicture
from ml.evaluation.ood_pictures.writing import writing


def ood_pictures() -> list[OODPicture]:
    """All of them, in a fixed order.

    Raises:
        SulcusMLError: scikit-image, or a picture that a package should ship, is missing.
    """
    return list(chain(photographs(), medical(), drawings(), writing()))


def held_out_sources(pictures: Sequence[OODPicture]) -> frozenset[str]:
    """The sources that no rule is tuned on: every second one, in order of appearance."""
    return frozenset(list(dict.fromkeys(one.source for one in pictures))[1::2])
