"""Find letters in the pixels of a picture: a name on a film, a date on a screenshot.

A classical detector without weights: letters are compact, stand out from their surroundings, have
about the same height and follow one another in a line. Overlays are drawn beside the head; on the
head itself only longer lines are believed, and short ones can be missed.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ml.imaging.slices import Pixels
from ml.preprocess import MaskImage, head_mask, to_grey

_SIDE = 896  # px; letters are searched on a copy of this size, or of four times the picture's
_CONTRAST = 0.16  # of the picture's range, between a letter and what surrounds it
_HEIGHTS = (8, 110)  # px of a letter on that copy
_FEWEST = 3  # letters in a line outside of the head
_FEWEST_ON_HEAD = 6  # tissue makes short rows of specks, too
_LEAST_INK = 0.06  # share of pixels as bright as the letters, in a square beside the line
_MOST_INK = 0.3  # the same in the rest of the row, where tissue is as bright as letters


@dataclass(frozen=True)
class TextBox:
    """A line of letters, in pixels of the picture; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class _Letter:
    left: int
    top: int
    width: int
    height: int
    outside: bool

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


def find_text(pixels: Pixels) -> list[TextBox]:
    """Lines of at least three letters or digits, on the head itself of at least six.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.

    Returns:
        One box for each line, from above to below.
    """
    grey = to_grey(pixels)
    low, high = float(grey.min()), float(np.percentile(grey, 99.9))
    if high <= low:
        return []
    levels = np.clip((grey - low) / (high - low), 0, 1)
    scale = min(4.0, _SIDE / max(grey.shape))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    levels = cv2.resize(levels, None, fx=scale, fy=scale, interpolation=smooth)
    outside = _outside(levels.astype(np.float32))
    found = []
    for bright in (levels, 1 - levels):
        lines = _lines(_letters(bright.astype(np.float32), outside))
        found += [_to_the_end(line, bright) for line in lines]
    boxes = _merged([_unscaled(box, scale, grey.shape) for box in found])
    return sorted(boxes, key=lambda box: (box.top, box.left))


def _merged(boxes: list[TextBox]) -> list[TextBox]:
    """Boxes that overlap are one: an outlined letter is found as bright and as dark."""
    merged: list[TextBox] = []
    for box in boxes:
        for other in [one for one in merged if _overlap(one, box)]:
            merged.remove(other)
            box = TextBox(
                min(box.left, other.left),
                min(box.top, other.top),
                max(box.right, other.right),
                max(box.bottom, other.bottom),
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
    """A copy in which the boxes hold the median of what surrounds each."""
    masked = pixels.copy()
    height, width = pixels.shape[:2]
    for box in boxes:
        pad = max(2, (box.bottom - box.top) // 4)
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


def _outside(levels: npt.NDArray[np.float32]) -> MaskImage:
    """1 where the head is not; the whole picture where no head stands out from it."""
    head = head_mask(levels)
    if head.mean() > 0.9:
        return np.ones_like(head)
    return np.asarray(1 - head, dtype=np.uint8)


def _letters(levels: npt.NDArray[np.float32], outside: MaskImage) -> list[_Letter]:
    """Compact shapes that are brighter than the ground around them and lie outside."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (31, 31))
    raised = cv2.morphologyEx(levels, cv2.MORPH_TOPHAT, kernel)
    shapes = (raised > _CONTRAST).astype(np.uint8)
    stats = cv2.connectedComponentsWithStats(shapes, connectivity=8)[2]
    letters = []
    for left, top, width, height, area in stats[1:]:
        if not _HEIGHTS[0] <= height <= _HEIGHTS[1] or width > 2.2 * height:
            continue
        if not 0.12 <= area / (width * height) <= 0.95:
            continue
        free = bool(outside[top : top + height, left : left + width].mean() >= 0.5)
        letters.append(_Letter(int(left), int(top), int(width), int(height), free))
    return letters


def _lines(letters: list[_Letter]) -> list[TextBox]:
    """Chains of neighbours of like height at like height."""
    rest = sorted(letters, key=lambda letter: letter.left)
    lines = []
    while rest:
        line = [rest.pop(0)]
        for letter in list(rest):
            if _follows(line[-1], letter):
                line.append(letter)
                rest.remove(letter)
        if _looks_written(line):
            lines.append(line)
    return [
        TextBox(
            left=min(letter.left for letter in line),
            top=min(letter.top for letter in line),
            right=max(letter.right for letter in line),
            bottom=max(letter.top + letter.height for letter in line),
        )
        for line in lines
    ]


def _to_the_end(line: TextBox, levels: npt.NDArray[np.floating]) -> TextBox:
    """The line with what goes on as bright as its letters: those that touch the head, initials."""
    rows = levels[line.top : line.bottom]
    height = line.bottom - line.top
    inked = rows[:, line.left : line.right]
    ink = 0.9 * float(np.percentile(inked, 95))
    bright = (rows >= ink).mean(axis=0)
    # Tissue as bright as ink cannot be told from it: there the line ends where it ended.
    if bright[: line.left].mean() + bright[line.right :].mean() > _MOST_INK:
        return line
    left, right = line.left, line.right
    while right < len(bright) and bright[right : right + height].mean() >= _LEAST_INK:
        right += height
    while left > 0 and bright[max(0, left - height) : left].mean() >= _LEAST_INK:
        left -= height
    return TextBox(max(0, left), line.top, min(right, len(bright)), line.bottom)


def _follows(last: _Letter, letter: _Letter) -> bool:
    taller = max(last.height, letter.height)
    return (
        0.55 <= letter.height / last.height <= 1.8
        and abs(letter.middle - last.middle) <= 0.35 * taller
        and -0.2 * taller <= letter.left - last.right <= 1.3 * taller
    )


def _looks_written(line: list[_Letter]) -> bool:
    """Letters of a line have nearly one height and stand on one line; specks do not."""
    heights = np.array([letter.height for letter in line])
    feet = np.array([letter.bottom for letter in line])
    alike = heights.std() <= 0.2 * heights.mean()
    free = sum(letter.outside for letter in line)
    if free >= 0.5 * len(line):
        return bool(alike and len(line) >= _FEWEST)
    level = np.median(np.abs(feet - np.median(feet))) <= 0.06 * heights.mean() + 1
    return bool(alike and level and len(line) >= _FEWEST_ON_HEAD)


def _unscaled(box: TextBox, scale: float, shape: tuple[int, ...]) -> TextBox:
    return TextBox(
        left=max(0, int(box.left / scale) - 1),
        top=max(0, int(box.top / scale) - 1),
        right=min(shape[1], int(np.ceil(box.right / scale)) + 1),
        bottom=min(shape[0], int(np.ceil(box.bottom / scale)) + 1),
    )
