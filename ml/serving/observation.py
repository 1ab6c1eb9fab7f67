"""What is kept of a slice to watch for drift: a few figures of the picture and of the network.

Nothing here tells one patient from another, and nothing needs torch: the web tier reads names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from ml.imaging.pictures import Pixels
from ml.preprocess import FloatImage, Prepared, to_grey

IMAGE_STATISTICS = (
    "brightness",  # mean level; levels are 0..1, 1 is the 99.5th percentile of the picture
    "spread",  # standard deviation of the levels
    "shadows",  # 25th percentile of the levels
    "midtones",  # their median
    "highlights",  # their 90th percentile
    "head",  # share of the picture that the head covers
    "sharpness",  # log of the variance of the Laplacian over that of the levels, at 256 pixels
    "size",  # log2 of the longer side in pixels
    "aspect",  # log of width over height
    "centre",  # correlation of the level with the closeness to the centre: its sign is the contrast
    "symmetry",  # correlation of the picture with its left-right mirror image
)
ANSWER_STATISTICS = ("ood_score", "set_size", "max_probability")
FEATURES = 16
STATISTICS = (
    *IMAGE_STATISTICS,
    *ANSWER_STATISTICS,
    *(f"feature_{number}" for number in range(1, FEATURES + 1)),
)
"""What an observation holds, in this order, as little-endian float32."""

_SHARP, _COARSE = 256, 64  # px; longer side of the copies that are looked at
_LEAST = 1e-6
_MOST_UNFAMILIAR = 1e6  # the score grows exponentially, and figures have to be finite

Observed = npt.NDArray[np.float32]


class Family(StrEnum):
    """What kind of drift a statistic shows; there is at most one alarm of each."""

    IMAGE = "image"
    FEATURES = "features"
    LABELS = "labels"
    DOUBT = "doubt"
    OVERRIDES = "overrides"


@dataclass(frozen=True)
class Sample:
    """Studies as they are compared, each by one slice: slices of a study are not independent.

    Attributes:
        figures: (N, 30) float32, a row of :data:`STATISTICS` for each study's slice.
        labels: the answer about each study.
        several: whether it names another number of classes than one.
        unfamiliar: whether it is unlike what the model has learnt.
        overrides: studies about which a reader disagreed, of those that were assessed.
    """

    figures: Observed
    labels: tuple[str, ...]
    several: tuple[bool, ...]
    unfamiliar: tuple[bool, ...]
    overrides: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.labels)

    def column(self, statistic: str) -> Observed:
        """(N,) one of :data:`STATISTICS`."""
        return self.figures[:, STATISTICS.index(statistic)]


def image_statistics(pixels: Pixels, prepared: Prepared) -> Observed:
    """(11,) float32, one for each of :data:`IMAGE_STATISTICS`.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.
        prepared: the same slice as the network takes it.
    """
    height, width = pixels.shape[:2]
    fine = to_grey(_copy(pixels, _SHARP))
    coarse = np.asarray(_copy(fine, _COARSE), np.float32)
    levels = coarse / max(float(np.percentile(coarse, 99.5)), _LEAST)
    shadows, midtones, highlights = np.percentile(levels, [25, 50, 90])
    roughness = float(cv2.Laplacian(fine, cv2.CV_32F).var())
    return np.array(
        [
            levels.mean(),
            levels.std(),
            shadows,
            midtones,
            highlights,
            prepared.head_share,
            np.log(max(roughness, _LEAST) / max(float(fine.var()), _LEAST)),
            np.log2(max(height, width)),
            np.log(width / height),
            _correlation(levels, _closeness(levels.shape)),
            _correlation(levels, levels[:, ::-1]),
        ],
        np.float32,
    )


def observe(
    image: Observed,
    features: Observed,
    *,
    ood_score: float,
    set_size: int,
    probabilities: Mapping[str, float],
) -> Observed:
    """(30,) float32, one for each of :data:`STATISTICS`; NaN for features that a network lacks.

    Args:
        image: of :func:`image_statistics`.
        features: (16,) coordinates in the subspace of the training slices, or fewer.
        set_size: how many classes are not ruled out.
    """
    known = np.full(FEATURES, np.nan, np.float32)
    known[: len(features[:FEATURES])] = features[:FEATURES]
    answer = np.array(
        [min(ood_score, _MOST_UNFAMILIAR), set_size, max(probabilities.values())], np.float32
    )
    return np.concatenate([image.astype(np.float32), answer, known])


def pack(observed: Observed) -> bytes:
    """As a column keeps it."""
    return observed.astype("<f4").tobytes()


def unpack(content: bytes) -> Observed:
    """The reverse of :func:`pack`."""
    return np.frombuffer(content, "<f4").astype(np.float32)


def _copy(pixels: MatLike, side: int) -> MatLike:
    """With the longer side at ``side`` pixels, of the same type; smaller pictures stay."""
    scale = side / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _closeness(shape: tuple[int, ...]) -> FloatImage:
    """From 1 in the centre down to below 0 in the corners."""
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)
    return np.asarray(1 - np.hypot(rows, columns), np.float32)


def _correlation(one: FloatImage, other: FloatImage) -> float:
    """Pearson's; 0 where one of them is flat."""
    first, second = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale > _LEAST else 0.0
