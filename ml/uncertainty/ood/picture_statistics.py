"""Statistics that distinguish a slice of a head from other pictures, without a network.

They describe the outline of the largest bright object, its surroundings, its intensity
distribution, its texture by scale and direction, the brightness profile from rim to centre, and
its symmetry. They do not depend on the picture's size in pixels, bit depth or number of grey
levels, which indicate the source and not the content.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from ml.imaging.pictures import Pixels
from ml.preprocess import FloatImage, MaskImage, percentiles, to_grey

_SIDE = 256  # px; longer side of the copy in which the outline is searched
_CROP = 128  # px; longer side of the copy of the head in which texture is measured
_MARGIN = 20  # px around that copy, so that blurring stays within it
_FRAME = 6  # px
_FEWEST = 50  # px; smaller regions are not described
_RINGS = (0.0, 0.08, 0.16, 0.3, 0.5, 0.75, 1.01)  # relative depth below the outline
_SIGMAS = (1, 2, 4, 8)  # px
_DIRECTIONS = 12

Vector = npt.NDArray[np.float64]
Region = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Head:
    """The largest bright object in a picture.

    Attributes:
        image: (height, width) float32, the picture with its longer side at 256 px.
        bright: pixels above Otsu's threshold.
        outline: the filled outline of the largest bright object.
        hull: its convex hull, filled.
    """

    image: FloatImage
    bright: Region
    outline: MaskImage
    hull: MaskImage


def statistics(pixels: Pixels) -> Vector | None:
    """All statistics of a picture, in a fixed order; None if no object stands out.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.
    """
    head = _find(to_grey(pixels))
    if head is None:
        return None
    inside = head.image[head.hull > 0]
    low, high = percentiles(inside, [1, 99])
    levels = np.clip((head.image - low) / max(high - low, 1e-6), 0, 1)
    crop, mask = _crop(levels, head.hull)
    return np.array(
        [
            *_shape(head),
            *_surroundings(head),
            *_intensities(levels[head.hull > 0]),
            *_texture(crop, mask),
            *_rings(crop, mask),
            *_symmetry(crop, mask),
        ]
    )


def _find(grey: FloatImage) -> _Head | None:
    scale = _SIDE / max(grey.shape)
    size = (max(8, round(grey.shape[1] * scale)), max(8, round(grey.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(grey, size, interpolation=interpolation), np.float32)
    (ceiling,), floor = percentiles(image, [99]), float(image.min())
    if ceiling <= floor:
        return None
    # As in ml.preprocess.head_mask, but with the outline, because the hull hides ragged edges.
    roots = np.sqrt(np.clip((image - floor) / (ceiling - floor), 0, 1))
    smooth = cv2.GaussianBlur((roots * 255).astype(np.uint8), (5, 5), 0)
    _, binary = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    binary = cv2.morphologyEx(binary, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    largest = max(contours, key=cv2.contourArea)
    outline, hull = np.zeros(image.shape, np.uint8), np.zeros(image.shape, np.uint8)
    cv2.drawContours(outline, [largest], -1, 1, -1)
    cv2.fillConvexPoly(hull, cv2.convexHull(largest), 1)
    if hull.sum() < _FEWEST:
        return None
    return _Head(image, binary > 0, outline, hull)


def _shape(head: _Head) -> list[float]:
    """Solidity, size, aspect, similarity to an ellipse, other bright objects, holes, cut edges."""
    hull, outline = head.hull > 0, head.outline > 0
    moments = cv2.moments(head.hull, True)
    area = moments["m00"]
    spread = np.array(
        [[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]
    ) / area + 1e-3 * np.eye(2)
    short, long = np.linalg.eigvalsh(spread)
    ellipse = _same_moments(moments, spread, hull.shape)
    edge = np.ones(hull.shape, bool)
    edge[1:-1, 1:-1] = False
    count, _, boxes, _ = cv2.connectedComponentsWithStats(head.bright.astype(np.uint8))
    return [
        float(outline.sum() / area),
        float(area / hull.size),
        float(np.sqrt(short / long)),
        _overlap(ellipse, hull),
        _overlap(ellipse, outline),
        float(1 - (head.bright & hull).sum() / head.bright.sum()),
        float(np.log1p((boxes[1:count, cv2.CC_STAT_AREA] > 30).sum())),
        float((head.bright & hull).sum() / area),
        float((edge & outline).sum() / edge.sum()),
    ]


def _same_moments(
    moments: dict[str, float], spread: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> Region:
    """The ellipse with the same centre and second moments as the hull."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    x = columns - moments["m10"] / moments["m00"]
    y = rows - moments["m01"] / moments["m00"]
    inverse = np.linalg.inv(spread)
    distance = inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y
    return np.asarray(distance <= 4)


def _overlap(one: Region, other: Region) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def _surroundings(head: _Head) -> list[float]:
    """Brightness and spread outside the hull, and brightness of the picture's frame."""
    low, high = percentiles(head.image, [0.5, 99.5])
    levels = np.clip((head.image - low) / max(high - low, 1e-6), 0, 1)
    outside = levels[cv2.dilate(head.hull, np.ones((9, 9), np.uint8)) == 0]
    if outside.size < _FEWEST:
        outside = np.zeros(1, np.float32)
    frame = np.ones(levels.shape, bool)
    frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    return [
        float(outside.mean()),
        float(outside.std()),
        float(np.median(levels[frame])),
        *percentiles(levels[frame], [90]),
    ]


def _intensities(values: FloatImage) -> list[float]:
    """Percentiles, entropy in bits and the most frequent level's share, in 64 levels."""
    counts = np.bincount((values * 63).astype(np.int64), minlength=64) / values.size
    present = counts[counts > 0]
    entropy = float(-(present * np.log2(present)).sum())
    return [*percentiles(values, [10, 25, 50, 75, 90]), entropy, float(counts.max())]


def _crop(levels: FloatImage, hull: MaskImage) -> tuple[FloatImage, MaskImage]:
    """The hull's content and mask, longer side 128 px, with a margin of zeros."""
    left, top, width, height = cv2.boundingRect(hull)
    box = np.s_[top : top + height, left : left + width]
    scale = _CROP / max(width, height)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    crop = cv2.resize((levels * hull)[box], size, interpolation=interpolation)
    mask = cv2.resize(hull[box], size, interpolation=cv2.INTER_NEAREST)
    margins = (_MARGIN,) * 4
    return (
        np.asarray(cv2.copyMakeBorder(crop, *margins, cv2.BORDER_CONSTANT), np.float32),
        np.asarray(cv2.copyMakeBorder(mask, *margins, cv2.BORDER_CONSTANT), np.uint8),
    )


def _texture(crop: FloatImage, mask: MaskImage) -> list[float]:
    """Tailedness and strength of four octaves, contrast, brightness, and edges' directions."""
    core = cv2.distanceTransform(mask, cv2.DIST_L2, 5) > 10
    if core.sum() < _FEWEST:
        core = mask > 0
    contrast = max(float(crop[core].std()), 1e-4)
    tails, strengths = [], []
    finer: FloatImage = crop
    for sigma in _SIGMAS:
        coarser = np.asarray(cv2.GaussianBlur(finer, (0, 0), sigma), np.float32)
        band = (finer - coarser)[core]
        deviation = max(float(band.std()), 1e-6)
        tails.append(float(np.log(max(((band - band.mean()) ** 4).mean() / deviation**4, 1e-3))))
        strengths.append(float(np.log(max(deviation, 1e-4) / contrast)))
        finer = coarser
    return [*tails, *strengths, contrast, float(crop[core].mean()), *_directions(crop, core)]


def _directions(crop: FloatImage, core: Region) -> list[float]:
    """Share of the commonest direction among the edges, entropy of all, and how few are strong."""
    smooth = cv2.GaussianBlur(crop, (0, 0), 1)
    x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)[core]
    y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)[core]
    strength = np.hypot(x, y)
    bins = np.minimum((np.arctan2(y, x) % np.pi / np.pi * _DIRECTIONS).astype(int), _DIRECTIONS - 1)
    sums = np.asarray(np.bincount(bins, weights=strength, minlength=_DIRECTIONS), np.float64)
    share = sums / max(float(sums.sum()), 1e-9)
    present = share[share > 0]
    return [
        float(share.max()),
        float(-(present * np.log(present)).sum()),
        percentiles(strength, [90])[0] / max(float(strength.mean()), 1e-6),
    ]


def _rings(crop: FloatImage, mask: MaskImage) -> list[float]:
    """Mean and spread in rings from the outline to the middle: scalp, skull, brain."""
    pixels = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    depth = pixels / max(float(pixels.max()), 1e-6)
    numbers = []
    for near, far in pairwise(_RINGS):
        ring = crop[(mask > 0) & (depth >= near) & (depth < far)]
        numbers += [float(ring.mean()), float(ring.std())] if ring.size else [0.0, 0.0]
    return numbers


def _symmetry(crop: FloatImage, mask: MaskImage) -> list[float]:
    """Correlation with the mirror image, the better of the two axes first."""
    smooth = cv2.GaussianBlur(crop, (0, 0), 2)
    found = []
    for axis in (0, 1):
        both = (mask > 0) & (np.flip(mask, axis) > 0)
        one, other = smooth[both], np.flip(smooth, axis)[both]
        flat = one.size < _FEWEST or min(float(one.std()), float(other.std())) < 1e-5
        found.append(0.0 if flat else float(np.corrcoef(one, other)[0, 1]))
    return [max(found), min(found)]
