"""Detect text in the pixels of a picture: a name on a film, a date on a screenshot.

A classical detector without weights. Letters are thin shapes of uniform brightness that stand out
from their surroundings, have about the same height and form a horizontal or vertical line. The
search covers several brightness thresholds, brightness and colour planes, and two scales: letters
of an anti-aliased font separate only when enlarged, those of a pixel font only at the original
scale. Captions usually lie beside the head; on the head only longer lines count, so short ones can
be missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ml.imaging.montage import heads_in
from ml.imaging.slices import Pixels
from ml.preprocess import MaskImage, head_mask, percentiles, to_grey

_LONGEST = 2048  # px; larger pictures are searched on a smaller copy
_ENLARGED = 640  # px; smaller pictures are searched enlarged as well
_LEVELS = (0.15, 0.5)  # contrast of a letter to its surroundings, as a share of the picture's range
_SURROUNDINGS = 31  # px; strokes are narrower than that
_LEAST_HEIGHT = 5  # px of a letter
_MOST_HEIGHT = 1 / 6  # of the picture's longer side
_CHROMA = 0.15  # of the picture's range; artefacts of colour JPEG stay below
_FEWEST = 3  # letters in a line outside of the head
_FEWEST_ON_HEAD = 6  # tissue also contains short rows of specks
_CROWD = (150, 400)  # shapes beside the head; from so many on, noise contains rows of 3 and of 6
_FEWEST_IN_CROWD = (6, 10)
_UNEVEN_INK = 0.15  # standard deviation of the letters' brightness relative to its mean
_STROKE = 0.5  # of a letter's height
_PAIRS = 1_000_000  # neighbours processed at once
_LEAST_INK = 0.06  # share of pixels as bright as the letters, in a square beside the line
_MOST_INK = 0.3  # the same in the rest of the row, where tissue is as bright as letters

Levels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextBox:
    """A line of letters, in pixels of the picture; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class _Shapes:
    """Connected shapes of a picture as parallel arrays, sorted from left to right."""

    left: Numbers
    top: Numbers
    width: Numbers
    height: Numbers
    number: Numbers  # in ``labels``
    outside: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int32]
    raised: Levels  # brightness above the surroundings

    @property
    def right(self) -> Numbers:
        return self.left + self.width

    @property
    def bottom(self) -> Numbers:
        return self.top + self.height

    @property
    def fewest(self) -> int:
        """The smallest number of letters in a line that is unlikely to be chance."""
        count = int(self.outside.sum())
        above = [few for crowd, few in zip(_CROWD, _FEWEST_IN_CROWD, strict=True) if count > crowd]
        return max(above, default=_FEWEST)

    def turned(self) -> "_Shapes":
        """The shapes transposed, to find vertical lines."""
        order = np.argsort(self.top, kind="stable")
        return _Shapes(
            left=self.top[order],
            top=self.left[order],
            width=self.height[order],
            height=self.width[order],
            number=self.number[order],
            outside=self.outside[order],
            labels=self.labels.T,
            raised=self.raised.T,
        )


def find_text(pixels: Pixels) -> list[TextBox]:
    """Find lines of at least three letters or digits, on the head of at least six.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.

    Returns:
        One box per line, from top to bottom.
    """
    grey = to_grey(pixels)
    if float(grey.max()) <= float(grey.min()):
        return []
    outside = _outside(grey)
    boxes = []
    for plane in _planes(pixels, grey):
        for scale in _scales(max(grey.shape)):
            levels, free = _scaled(plane, scale), _scaled(outside, scale)
            boxes += [_unscaled(box, scale, grey.shape) for box in _lines(levels, free, scale)]
    return sorted(_merged(boxes), key=lambda box: (box.top, box.left))


def _planes(pixels: Pixels, grey: npt.NDArray[np.float32]) -> Iterator[Levels]:
    """The brightness and, for a colour picture, its brightest channel and its chroma."""
    low, high = float(grey.min()), percentiles(grey, [99.9])[0]
    if high <= low:
        high = float(grey.max())
    yield _as_levels(grey, low, high)
    if pixels.ndim == 2:
        return
    brightest = pixels.max(axis=2).astype(np.float32)
    chroma = brightest - pixels.min(axis=2)
    if float(chroma.max()) > _CHROMA * (high - low):
        yield _as_levels(chroma, 0, max(percentiles(chroma, [99.9])[0], high - low))
        yield _as_levels(brightest, float(brightest.min()), percentiles(brightest, [99.9])[0])


def _as_levels(values: npt.NDArray[np.float32], low: float, high: float) -> Levels:
    scaled = np.clip((values - low) * (255 / max(high - low, 1e-6)), 0, 255)
    return np.asarray(np.rint(scaled), np.uint8)


def _scales(side: int) -> tuple[float, ...]:
    if side > _LONGEST:
        return (_LONGEST / side,)
    return (1.0, 2.0) if side <= _ENLARGED else (1.0,)


def _scaled(plane: Levels, scale: float) -> Levels:
    if scale == 1:
        return plane
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(plane, None, fx=scale, fy=scale, interpolation=smooth), np.uint8)


def _lines(levels: Levels, outside: MaskImage, scale: float) -> Iterator[TextBox]:
    """Horizontal and vertical lines of bright and of dark letters at every contrast level."""
    free = np.asarray(cv2.integral(outside), np.int32)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (_SURROUNDINGS, _SURROUNDINGS))
    for bright in (levels, 255 - levels):
        raised = np.asarray(cv2.morphologyEx(bright, cv2.MORPH_TOPHAT, kernel), np.uint8)
        for level in _LEVELS:
            shapes = _shapes(raised, round(level * 255), free, scale)
            for line in _written(shapes):
                yield _to_the_end(line, bright)
            for line in _written(shapes.turned()):
                yield _turned(_to_the_end(line, bright.T))


def _shapes(raised: Levels, level: int, free: npt.NDArray[np.int32], scale: float) -> _Shapes:
    """Shapes of a letter's size that are brighter than their surroundings by ``level``."""
    binary = np.asarray(raised > level, np.uint8)
    # Grana's algorithm takes a third of the time of the one that OpenCV chooses.
    _count, found, stats, _centres = cv2.connectedComponentsWithStatsWithAlgorithm(
        binary, 8, cv2.CV_32S, cv2.CCL_GRANA
    )
    labels = np.asarray(found, np.int32)
    left, top, width, height, area = stats.T.astype(np.int64)
    longer, shorter = np.maximum(width, height), np.minimum(width, height)
    fits = (longer >= _LEAST_HEIGHT * scale) & (longer <= _MOST_HEIGHT * max(raised.shape))
    fill = area / (width * height)
    fits &= (fill >= 0.12) & ((fill <= 0.95) | (shorter <= 0.4 * longer))
    fits[0] = False  # the background
    number = np.flatnonzero(fits)
    number = number[np.argsort(left[number], kind="stable")]
    left, top, width, height = (of[number] for of in (left, top, width, height))
    right, bottom = left + width, top + height
    inside = free[bottom, right] - free[top, right] - free[bottom, left] + free[top, left]
    return _Shapes(left, top, width, height, number, inside >= 0.5 * width * height, labels, raised)


def _written(shapes: _Shapes) -> Iterator[TextBox]:
    for line in _chains(shapes):
        if _looks_written(shapes, line):
            yield TextBox(
                left=int(shapes.left[line].min()),
                top=int(shapes.top[line].min()),
                right=int(shapes.right[line].max()),
                bottom=int(shapes.bottom[line].max()),
            )


def _chains(shapes: _Shapes) -> Iterator[Numbers]:
    """Chains of at least three neighbours of similar size and vertical position."""
    before, after = _neighbours(shapes)
    # Each shape is linked to its nearest successor and its nearest predecessor.
    nearest = np.lexsort((shapes.left[after], before))
    before, after = before[nearest], after[nearest]
    first = np.unique(before, return_index=True)[1]
    before, after = before[first], after[first]
    nearest = np.lexsort((-shapes.right[before], after))
    before, after = before[nearest], after[nearest]
    first = np.unique(after, return_index=True)[1]
    following = dict(zip(before[first].tolist(), after[first].tolist(), strict=True))
    for start in following.keys() - set(following.values()):
        line = [start]
        while line[-1] in following:
            line.append(following[line[-1]])
        if len(line) >= _FEWEST:
            yield np.array(line)


def _neighbours(shapes: _Shapes) -> tuple[Numbers, Numbers]:
    """Pairs of shapes where the second may be the next letter after the first."""
    written = np.flatnonzero((shapes.width <= 2.2 * shapes.height) & (shapes.height > 0))
    left, right = shapes.left[written], shapes.right[written]
    height, top = shapes.height[written], shapes.top[written]
    low = np.searchsorted(left, right - 0.36 * height)
    high = np.searchsorted(left, right + 2.34 * height, side="right")
    counts = high - low
    found: list[tuple[Numbers, Numbers]] = []
    start = 0
    ends = np.cumsum(counts)
    while start < len(written):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS)))
        some = counts[start:stop]
        one = np.repeat(np.arange(start, stop), some)
        other = np.arange(len(one)) - np.repeat(np.cumsum(some) - some, some)
        other = other + np.repeat(low[start:stop], some)
        taller = np.maximum(height[one], height[other])
        gap = left[other] - right[one]
        middle = np.abs(2 * (top[one] - top[other]) + height[one] - height[other]) / 2
        fits = (
            (left[other] > left[one])
            & (taller <= 1.8 * np.minimum(height[one], height[other]))
            & (middle <= 0.35 * taller)
            & (gap >= -0.2 * taller)
            & (gap <= 1.3 * taller)
        )
        found.append((written[one[fits]], written[other[fits]]))
        start = stop
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def _looks_written(shapes: _Shapes, line: Numbers) -> bool:
    """Whether the shapes are thin, equally bright, of similar height and on one baseline."""
    heights, feet, tops = shapes.height[line], shapes.bottom[line], shapes.top[line]
    mean = float(heights.mean())
    if heights.std() > 0.2 * mean:
        return False
    outside = shapes.outside[line].mean() >= 0.5
    if len(line) < (shapes.fewest if outside else max(_FEWEST_ON_HEAD, shapes.fewest)):
        return False
    # In upside-down text the tops lie on the baseline.
    off = min(float(np.median(np.abs(ends - np.median(ends)))) for ends in (feet, tops))
    if off > 0.06 * mean + 1:
        return False
    inks, strokes = zip(*(_ink_and_stroke(shapes, at) for at in line), strict=True)
    return bool(
        np.std(inks) <= _UNEVEN_INK * np.mean(inks) and np.median(strokes) <= _STROKE * mean
    )


def _ink_and_stroke(shapes: _Shapes, at: int) -> tuple[float, float]:
    """The largest contrast of a shape to its surroundings, and its stroke width."""
    where = np.s_[
        shapes.top[at] : shapes.bottom[at],
        shapes.left[at] : shapes.right[at],
    ]
    own = shapes.labels[where] == shapes.number[at]
    ink = float(shapes.raised[where][own].max())
    framed = cv2.copyMakeBorder(own.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    return ink, 2 * float(cv2.distanceTransform(framed, cv2.DIST_L2, 3).max()) - 1


def _to_the_end(line: TextBox, levels: Levels) -> TextBox:
    """Extend the line by pixels as bright as its letters: initials, letters touching the head."""
    rows = levels[line.top : line.bottom]
    height = line.bottom - line.top
    inked = rows[:, line.left : line.right]
    ink = 0.9 * float(np.percentile(inked, 95))
    bright = (rows >= ink).mean(axis=0)
    # Where tissue is as bright as the letters, the line is not extended.
    beside = np.concatenate([bright[: line.left], bright[line.right :]])
    if beside.size and beside.mean() > _MOST_INK:
        return line
    left, right = line.left, line.right
    while right < len(bright) and bright[right : right + height].mean() >= _LEAST_INK:
        right += height
    while left > 0 and bright[max(0, left - height) : left].mean() >= _LEAST_INK:
        left -= height
    return TextBox(max(0, left), line.top, min(right, len(bright)), line.bottom)


def _turned(box: TextBox) -> TextBox:
    return TextBox(left=box.top, top=box.left, right=box.bottom, bottom=box.right)


def _unscaled(box: TextBox, scale: float, shape: tuple[int, ...]) -> TextBox:
    return TextBox(
        left=max(0, int(box.left / scale) - 1),
        top=max(0, int(box.top / scale) - 1),
        right=min(shape[1], int(np.ceil(box.right / scale)) + 1),
        bottom=min(shape[0], int(np.ceil(box.bottom / scale)) + 1),
    )


def _merged(boxes: list[TextBox]) -> list[TextBox]:
    """Merge overlapping boxes: an outlined letter is found both as bright and as dark."""
    merged: list[TextBox] = []
    for box in boxes:
        while others := [one for one in merged if _overlap(one, box)]:
            merged = [one for one in merged if one not in others]
            box = TextBox(
                min(box.left, *(other.left for other in others)),
                min(box.top, *(other.top for other in others)),
                max(box.right, *(other.right for other in others)),
                max(box.bottom, *(other.bottom for other in others)),
            )
        merged.append(box)
    return merged


def _overlap(one: TextBox, other: TextBox) -> bool:
    return (
        one.left < other.right
        and other.left < one.right
        and one.top < other.bottom
        and other.top < one.bottom
    )


def mask_text(pixels: Pixels, boxes: list[TextBox]) -> Pixels:
    """A copy in which each box is filled with the median of its surroundings."""
    masked = pixels.copy()
    height, width = pixels.shape[:2]
    for box in boxes:
        pad = max(2, min(box.bottom - box.top, box.right - box.left) // 4)
        top, bottom = max(0, box.top - pad), min(height, box.bottom + pad)
        left, right = max(0, box.left - pad), min(width, box.right + pad)
        edge = np.concatenate(
            [
                masked[top, left:right].reshape(-1, *pixels.shape[2:]),
                masked[bottom - 1, left:right].reshape(-1, *pixels.shape[2:]),
            ]
        )
        masked[top:bottom, left:right] = np.median(edge, axis=0).astype(pixels.dtype)
    return masked


def _outside(grey: npt.NDArray[np.float32]) -> MaskImage:
    """1 outside the head; the whole picture if no head is found."""
    head = head_mask(grey)
    if head.mean() > 0.9:
        return np.ones_like(head)
    for _further in range(heads_in(grey) - 1):
        more = head_mask(np.where(head > 0, grey.min(), grey).astype(np.float32))
        if more.mean() > 0.9:  # no head that is large enough
            break
        head = np.maximum(head, more)
    return np.asarray(1 - head, dtype=np.uint8)
