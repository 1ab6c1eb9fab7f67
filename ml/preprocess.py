"""The pipeline from a decoded slice to the model's input, shared by training and serving.

Steps of ``head-crop``, the default: to grey; find the head (Otsu threshold, largest contour);
blank the pixels outside its convex hull, so that scanner noise and burned-in text at the border
cannot influence the class; crop to the hull; scale intensities to 0..1 by robust percentiles of
the head; resize with the aspect ratio kept and pad with zeros.

``original`` (the pipeline of the student project that Sulcus is based on), ``raw``, ``clahe`` and
``denoise`` are kept for comparison.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from ml.errors import UnreadableImage

FloatImage = npt.NDArray[np.float32]
MaskImage = npt.NDArray[np.uint8]

LEAST_HEAD = 0.1  # share of the slice's area; a smaller region may be only part of a dark head
_WORKING_SIDE = 256  # px; the head is searched on a copy of this size, whatever the input's size


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the source slice; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top


@dataclass(frozen=True)
class Prepared:
    """The model's input and the mapping back to the source slice.

    Attributes:
        image: (size, size) float32 in 0..1.
        source: the rectangle of the source slice that was used.
        placed: where that rectangle lies inside ``image``.
        shape: (height, width) of the source slice.
        head_share: share of the slice's area that the convex hull of the head covers; 1 for
            pipelines without head detection.
    """

    image: FloatImage
    source: Box
    placed: Box
    shape: tuple[int, int]
    head_share: float = 1.0

    def from_source(self, field: FloatImage) -> FloatImage:
        """Map a field on the source slice, such as a tumour's mask, to the model's input.

        Args:
            field: (height, width) float32 in the pixels of the source slice.

        Returns:
            (size, size) float32; zero where the input is padding.
        """
        return _placed(field, self.source, self.placed, self.image.shape[0])

    def to_source(self, field: FloatImage) -> FloatImage:
        """Map a square field on the model's input (any resolution) back to the source slice.

        Args:
            field: (n, n) float32 covering the whole input.

        Returns:
            (height, width) float32; zero outside the rectangle that was used.
        """
        size = self.image.shape[0]
        enlarged = cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)
        inside = enlarged[
            self.placed.top : self.placed.bottom, self.placed.left : self.placed.right
        ]
        result = np.zeros(self.shape, np.float32)
        result[self.source.top : self.source.bottom, self.source.left : self.source.right] = (
            cv2.resize(
                np.ascontiguousarray(inside),
                (self.source.width, self.source.height),
                interpolation=cv2.INTER_LINEAR,
            )
        )
        return result


def to_grey(pixels: npt.NDArray[np.generic]) -> FloatImage:
    """Convert (height, width) or (height, width, 3) RGB of any numeric type to float32 grey."""
    image = np.ascontiguousarray(pixels, dtype=np.float32)
    if image.ndim == 2:
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def percentiles(values: npt.NDArray[np.generic], shares: Sequence[float]) -> list[float]:
    """Percentiles by linear interpolation, equal to :func:`numpy.percentile`.

    Args:
        values: not empty, any shape.
        shares: in 0..100.
    """
    places = np.asarray(shares) / 100 * (values.size - 1)
    below = places.astype(np.int64)
    above = np.minimum(below + 1, values.size - 1)
    # One partial sort for all of them takes a quarter of the time of a full one.
    ordered = np.partition(values, np.unique([below, above]), axis=None)
    low, high = ordered[below].astype(np.float64), ordered[above].astype(np.float64)
    return [float(value) for value in low + (high - low) * (places - below)]


def head_mask(grey: FloatImage) -> MaskImage:
    """Find the head: a filled convex region, 1 inside and 0 outside, in the slice's size.

    Otsu's threshold (Otsu 1979) on intensities clipped at their 99th percentile, so that a bright
    lesion or fat does not pull the threshold above brain tissue; then the convex hull of the
    largest contour. If that covers less than a tenth of the slice, the mask is the whole slice.
    """
    mask, _share = _find_head(grey)
    return mask


def _find_head(grey: FloatImage) -> tuple[MaskImage, float]:
    """The mask of :func:`head_mask`, and the share of the slice that the hull itself covers."""
    height, width = grey.shape
    scale = _WORKING_SIDE / max(height, width)
    small_size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(grey, small_size, interpolation=cv2.INTER_AREA)
    (ceiling,) = percentiles(small, [99])
    floor = float(small.min())
    if ceiling <= floor:
        return np.ones((height, width), np.uint8), 0.0
    levels = np.clip((small - floor) / (ceiling - floor), 0, 1)
    # The square root raises dark tissue (cerebrospinal fluid, low-signal T1) above the background.
    levels8 = cv2.GaussianBlur((np.sqrt(levels) * 255).astype(np.uint8), (5, 5), 0)
    _, binary = cv2.threshold(levels8, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    binary = cv2.morphologyEx(binary, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    mask = np.zeros(small.shape, np.uint8)
    share = 0.0
    if contours:
        hull = cv2.convexHull(max(contours, key=cv2.contourArea))
        share = cv2.contourArea(hull) / small.size
        if share >= LEAST_HEAD:
            cv2.fillConvexPoly(mask, hull, 1)
            mask = np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    if not mask.any():
        mask[:] = 1
    full = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(full, dtype=np.uint8), share


def head_crop(pixels: npt.NDArray[np.generic], size: int) -> Prepared:
    """The default pipeline, described in the module docstring.

    Args:
        pixels: (height, width) or (height, width, 3) RGB of any numeric type and range.
        size: side of the square result in pixels.

    Raises:
        UnreadableImage: ``blank`` if all pixels have the same value.
    """
    grey = to_grey(pixels)
    _refuse_blank(grey)
    mask, share = _find_head(grey)
    source = _bounding_box(mask)
    inside = grey[mask > 0]
    low, high = percentiles(inside, [1, 99])
    if high <= low:
        low, high = float(inside.min()), float(inside.max()) + 1e-6
    normalised = np.clip((grey - low) / (high - low), 0, 1) * mask
    return replace(_fit(normalised, source, size), head_share=share)


def original(pixels: npt.NDArray[np.generic], size: int) -> Prepared:
    """The student project's pipeline: crop, square resize, min-max, Gaussian 1.3, stretch 22..97.

    Same arguments and errors as :func:`head_crop`; the aspect ratio is not kept.
    """
    grey = to_grey(pixels)
    _refuse_blank(grey)
    source = _bounding_box(head_mask(grey))
    cropped = grey[source.top : source.bottom, source.left : source.right]
    image = cv2.resize(cropped, (size, size), interpolation=cv2.INTER_AREA)
    image = cv2.normalize(image, None, 0.0, 1.0, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    image = cv2.GaussianBlur(image, (0, 0), 1.3)
    low, high = percentiles(image, [22, 97])
    stretched = np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return Prepared(stretched, source, Box(0, 0, size, size), (grey.shape[0], grey.shape[1]))


def raw(pixels: npt.NDArray[np.generic], size: int) -> Prepared:
    """The whole slice with its border, scaled from its darkest to its brightest pixel.

    Same arguments and errors as :func:`head_crop`; kept for comparison, as the next two.
    """
    grey = to_grey(pixels)
    _refuse_blank(grey)
    height, width = grey.shape
    low, high = float(grey.min()), float(grey.max())
    return _fit((grey - low) / (high - low), Box(0, 0, width, height), size)


def clahe(pixels: npt.NDArray[np.generic], size: int) -> Prepared:
    """:func:`head_crop`, then local histogram equalisation (CLAHE; Zuiderveld 1994)."""
    even = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
    return _changed(head_crop(pixels, size), even.apply)


def denoise(pixels: npt.NDArray[np.generic], size: int) -> Prepared:
    """:func:`head_crop`, then non-local means (Buades, Coll and Morel 2005, CVPR)."""
    return _changed(
        head_crop(pixels, size),
        lambda levels: cv2.fastNlMeansDenoising(
            levels, None, h=8, templateWindowSize=5, searchWindowSize=15
        ),
    )


Pipeline = Callable[[npt.NDArray[np.generic], int], Prepared]
PIPELINES: dict[str, Pipeline] = {
    "head-crop": head_crop,
    "original": original,
    "raw": raw,
    "clahe": clahe,
    "denoise": denoise,
}


def _changed(prepared: Prepared, change: Callable[[MaskImage], MatLike]) -> Prepared:
    """Apply ``change`` to the 8-bit levels; black pixels stay black."""
    levels = np.round(prepared.image * 255).astype(np.uint8)
    changed = np.asarray(change(levels), np.float32) / np.float32(255)
    changed[prepared.image == 0] = 0
    return replace(prepared, image=changed)


def _refuse_blank(grey: FloatImage) -> None:
    if float(grey.max()) <= float(grey.min()):
        raise UnreadableImage("blank", "The image is blank: all its pixels have the same value.")


def _bounding_box(mask: MaskImage) -> Box:
    left, top, width, height = cv2.boundingRect(mask)
    return Box(left, top, left + width, top + height)


def _fit(image: FloatImage, source: Box, size: int) -> Prepared:
    """Resize the rectangle so that its longer side fills ``size``, centred on zeros."""
    scale = size / max(source.width, source.height)
    width = max(1, round(source.width * scale))
    height = max(1, round(source.height * scale))
    left, top = (size - width) // 2, (size - height) // 2
    placed = Box(left, top, left + width, top + height)
    canvas = _placed(image, source, placed, size)
    return Prepared(canvas, source, placed, (image.shape[0], image.shape[1]))


def _placed(image: FloatImage, source: Box, placed: Box, size: int) -> FloatImage:
    """The rectangle ``source`` of an image, resized to ``placed`` on a square of zeros."""
    cropped = image[source.top : source.bottom, source.left : source.right]
    shrinks = placed.width < source.width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    canvas = np.zeros((size, size), np.float32)
    canvas[placed.top : placed.bottom, placed.left : placed.right] = cv2.resize(
        cropped, (placed.width, placed.height), interpolation=interpolation
    )
    return canvas
