"""Cheap flags of poor image quality. They warn the reader; no slice is refused for them.

Each rule checks one number. Its limit flags at most about one in a hundred slices of the training
collection (docs/research/familiarity.md has the figures). Never imports torch.
"""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt

from ml.imaging.montage import several_slices
from ml.imaging.pictures import Pixels
from ml.imaging.rows import missing_rows
from ml.preprocess import FloatImage, MaskImage, head_mask, percentiles, to_grey

_SIDE = 256  # px; the longer side of the copy that most rules use
_RIM = 9  # px; pixels so close to the head's outline count neither as head nor as background
_FEWEST_BACKGROUND = 150  # px of background in either direction, for the ghosting ratio

_SMALLEST_HEAD = 80  # px
_COARSEST_SPACING = 2.5  # mm; a pixel of this size shows no lesion of a few millimetres
_SATURATED_SHARE = 0.06
_LIT_SHARE = 0.12
_FEWEST_LEVELS = 45
_FINEST_DETAIL = 0.46
_GHOSTING = 0.075
_NOISE = 0.035

Region = npt.NDArray[np.bool_]


class QualityFlag(StrEnum):
    """A quality problem of a picture. The values are used in the API and the database."""

    TOO_SMALL = "too_small"
    SATURATED = "saturated"
    MOSTLY_BLACK = "mostly_black"
    LOW_CONTRAST = "low_contrast"
    BLURRED = "blurred"
    MOTION = "motion"
    NOISY = "noisy"
    SEVERAL_SLICES = "several_slices"
    CUT_OFF = "cut_off"


@dataclass(frozen=True)
class Measured:
    """The numbers that the rules check.

    Attributes:
        head_side: the longer side of the head's bounding box, px of the slice.
        saturated: share of the head's pixels that have the slice's largest value.
        lit: share of the slice's pixels above a twentieth of its range.
        levels: distinct values among the head's middle 98 %.
        detail: finest detail of the head relative to the next coarser.
        ghosting: ghosting ratio of the background relative to the head's mean.
        noise: standard deviation of the noise relative to the head's range.
    """

    head_side: int
    saturated: float
    lit: float
    levels: int
    detail: float
    ghosting: float
    noise: float


def quality_flags(
    pixels: Pixels, spacing: tuple[float, float] | None = None, *, slices: float | None = None
) -> tuple[QualityFlag, ...]:
    """The flags of one slice, in the order of :class:`QualityFlag`; none for a blank one.

    - ``too_small``: the head is less than 80 px long, or a pixel is larger than 2.5 mm.
    - ``saturated``: more than 6 % of the head has the slice's largest value.
    - ``mostly_black``: less than 12 % of the slice is brighter than 5 % of its range.
    - ``low_contrast``: the head has fewer than 45 distinct values.
    - ``blurred``: hardly any detail of one or two pixels compared with two to four.
    - ``motion``: the background is brighter in one direction than across it, due to ghosts.
    - ``noisy``: the noise is more than 3.5 % of the head's range.
    - ``several_slices``: several heads of similar size lie side by side.
    - ``cut_off``: the last rows all have one value that is not the background's.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.
        spacing: millimetres between pixel centres as (row, column), if known.
        slices: the result of :func:`ml.imaging.montage.several_slices`, if known already.
    """
    grey = to_grey(pixels)
    if float(grey.max()) <= float(grey.min()):
        return ()
    found = measure(grey)
    coarse = spacing is not None and max(spacing) > _COARSEST_SPACING
    several = (several_slices(pixels) if slices is None else slices) > 1
    rules = {
        QualityFlag.TOO_SMALL: found.head_side < _SMALLEST_HEAD or coarse,
        QualityFlag.SATURATED: found.saturated > _SATURATED_SHARE,
        QualityFlag.MOSTLY_BLACK: found.lit < _LIT_SHARE,
        QualityFlag.LOW_CONTRAST: found.levels < _FEWEST_LEVELS,
        QualityFlag.BLURRED: found.detail < _FINEST_DETAIL,
        QualityFlag.MOTION: found.ghosting > _GHOSTING and not several,  # not background
        QualityFlag.NOISY: found.noise > _NOISE,
        QualityFlag.SEVERAL_SLICES: several,
        QualityFlag.CUT_OFF: missing_rows(grey) > 0,
    }
    return tuple(flag for flag, holds in rules.items() if holds)


def measure(grey: FloatImage) -> Measured:
    """Measure a slice that is not blank, (height, width) float32 of any range."""
    scale = _SIDE / max(grey.shape)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = np.asarray(cv2.resize(grey, size, interpolation=interpolation), np.float32)
    mask = head_mask(small)
    _left, _top, width, height = cv2.boundingRect(mask)
    low, high = float(grey.min()), float(grey.max())
    own = np.asarray(cv2.resize(mask, grey.shape[::-1], interpolation=cv2.INTER_NEAREST), np.bool_)
    inside = grey[own]
    dark, bright = percentiles(inside, [1, 99])
    middle = inside[(inside >= dark) & (inside <= bright)]
    levels = np.clip((small - dark) / max(bright - dark, 1e-6), 0, 1)
    core = _core(mask)
    return Measured(
        head_side=round(max(width, height) / scale),
        saturated=float((inside >= high).mean()),
        lit=float((grey > low + 0.05 * (high - low)).mean()),
        levels=len(np.unique(middle)),
        detail=_detail(levels, core),
        ghosting=_ghosting(small, mask),
        noise=_noise(levels, core),
    )


def _core(mask: MaskImage) -> Region:
    """The head without its rim; the whole head if nothing would remain."""
    core = np.asarray(cv2.erode(mask, np.ones((_RIM, _RIM), np.uint8))) > 0
    return core if core.any() else mask > 0


def _detail(levels: FloatImage, core: Region) -> float:
    """Standard deviation of the finest difference of Gaussians over that of the next coarser."""
    fine = cv2.GaussianBlur(levels, (0, 0), 1)
    coarse = cv2.GaussianBlur(fine, (0, 0), 2)
    return float((levels - fine)[core].std() / max(float((fine - coarse)[core].std()), 1e-6))


def _noise(levels: FloatImage, core: Region) -> float:
    """Immerkaer 1996 (Computer Vision and Image Understanding 64), with the median.

    The mask cancels constant slopes and straight edges; the median of its absolute values is
    robust to the few pixels on curved edges.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    answer = np.abs(cv2.filter2D(levels, -1, kernel))[core]
    return float(np.median(answer) / 0.6745 / 6)


def _ghosting(small: FloatImage, mask: MaskImage) -> float:
    """Percent signal ghosting of the ACR's quality test (ACR Phantom Test Guidance, section 6).

    Ghosts of a moving head repeat along the phase-encoding direction, so the background is
    brighter on two opposite sides of the head than on the other two. Zero if the head leaves
    too little background.
    """
    left, top, width, height = cv2.boundingRect(mask)
    far = cv2.dilate(mask, np.ones((_RIM, _RIM), np.uint8)) == 0
    level = np.s_[top : top + height]
    upright = np.s_[left : left + width]
    beside = _mean(small[level][far[level]])
    above = _mean(small[:, upright][far[:, upright]])
    if beside is None or above is None:
        return 0.0
    return abs(beside - above) / max(float(small[mask > 0].mean()), 1e-6)


def _mean(background: FloatImage) -> float | None:
    return float(background.mean()) if background.size >= _FEWEST_BACKGROUND else None
