"""Geometry of a stack of slices: spacing, direction, and whether they are aligned."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ml.imaging.facts import Geometry

_MOST_SHEAR = 0.035  # sine of two degrees
_ROUNDED = 0.53  # mm; tolerance of rounded positions to the true ones, and to a tested step
_TRIED = 81  # steps
_FEWEST_ROUNDED = 5  # slices that show a pattern of rounding
_EVEN = 0.1  # distances may differ by a tenth and still be called even
_NAMED = 0.7  # cosine to an axis of the body from which a plane is named after it
_PLANES = ("sagittal", "coronal", "axial")
ASIDE = 1.0  # mm; slices of one level that lie farther apart are no copies
SAME_PLACE = 0.01  # mm along the normal


def spacing_of(positions: npt.NDArray[np.float64]) -> tuple[float | None, int, bool]:
    """(usual distance, slices missing, whether the distances are even)."""
    if len(positions) < 2:
        return None, 0, False
    distances = np.diff(positions)
    if (step := step_before_rounding(positions)) is not None:
        return step, 0, True
    usual = float(np.median(distances))
    if usual < SAME_PLACE:
        return None, 0, False
    steps = np.maximum(1, np.round(distances / usual))
    even = bool(np.all(np.abs(distances - steps * usual) <= _EVEN * usual))
    missing = int((steps - 1).sum()) if even else 0
    return usual, missing, even


def step_before_rounding(positions: npt.NDArray[np.float64]) -> float | None:
    """The even step before rounding to whole millimetres (1, 2, 1, 1, 1, 2 ...); None if uneven.

    With steps of about 1 mm this pattern resembles missing slices. There several of the longer
    steps have to be spread evenly.
    """
    if len(positions) < _FEWEST_ROUNDED or np.abs(positions - np.round(positions)).max() > 1e-3:
        return None
    distances = np.diff(positions)
    step = float(distances.mean())
    if set(np.round(distances)) != {math.floor(step), math.ceil(step)}:
        return None
    if step < 2 and (distances > step).sum() < 3:
        return None
    # Both ends are rounded too, so the step is only known within a range.
    numbers = np.arange(len(positions))
    steps = step + np.linspace(-1, 1, _TRIED) / numbers[-1]
    off = positions - steps[:, None] * numbers
    widths = off.max(axis=1) - off.min(axis=1)
    best = int(widths.argmin())
    return float(steps[best]) if widths[best] <= 2 * _ROUNDED else None


def is_upright(points: npt.NDArray[np.float64], geometry: Geometry) -> bool:
    """Whether the stack runs along the normal of its slices; a gantry tilt shears it."""
    along = points[-1] - points[0]
    length = float(np.linalg.norm(along))
    aside = along - np.array(geometry.normal) * cosine(along, geometry.normal)
    # Over a short distance rounding causes a large angle.
    return float(np.linalg.norm(aside)) <= max(ASIDE, length * _MOST_SHEAR)


def is_stack(
    positions: npt.NDArray[np.float64], points: npt.NDArray[np.float64], spacing: float | None
) -> bool:
    """Whether each slice has its own level and lies behind the previous one."""
    if len(positions) < 3 or float(np.diff(positions).min()) < SAME_PLACE:
        return False
    shares = (positions - positions[0]) / (positions[-1] - positions[0])
    return is_straight(points, shares, spacing)


def is_straight(
    points: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], spacing: float | None
) -> bool:
    """Whether the slices lie one behind the other without individual sideways shifts.

    Args:
        shares: (n,) expected position of each as a share of the way from the first to the last.
    """
    line = points[0] + shares[:, None] * (points[-1] - points[0])
    farthest = float(np.linalg.norm(points - line, axis=1).max())
    return farthest <= max(1.0, spacing or 0.0)


def plane_of(geometry: Geometry) -> str:
    """The plane of the body that the slices lie in, or ``oblique``."""
    normal = np.abs(geometry.normal)
    return _PLANES[int(normal.argmax())] if normal.max() >= _NAMED else "oblique"


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of the angle between two unit vectors."""
    return sum(one * other for one, other in zip(a, b, strict=True))
