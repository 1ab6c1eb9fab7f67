"""Pictures as other machines would show them, so that no collection's look is learnt."""

import cv2
import numpy as np
import numpy.typing as npt

from ml.imaging.pictures import Pixels
from ml.preprocess import FloatImage, MaskImage, head_mask, to_grey

Grey = npt.NDArray[np.uint8]
Random = np.random.Generator

_SIDE = 256  # px


def varied(pixels: Pixels, random: Random, *, is_brain: bool) -> Grey:
    """One random variation: skull removed, other contrast, uneven coil, blur, noise, turn, size.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.
        is_brain: only a brain may lose its skull.
    """
    whole = to_bytes(to_grey(pixels)).astype(np.float32) / np.float32(255)
    scale = _SIDE / max(whole.shape)
    size = (max(16, round(whole.shape[1] * scale)), max(16, round(whole.shape[0] * scale)))
    image: FloatImage = np.asarray(
        cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.float32
    )
    mask = head_mask(image)
    if is_brain and random.random() < 0.35:
        image, mask = _without_skull(image, mask, random)
    if random.random() < 0.3:
        image = _turned_round(image, mask, random)
    image = image ** np.float32(np.exp(random.uniform(-0.8, 0.6)))
    if random.random() < 0.4:
        image = np.minimum(image * np.float32(random.uniform(1, 1.8)), 1)
    if random.random() < 0.5:
        image = image * _uneven(image.shape, random)
    image = _as_acquired(image, random)
    brightest = max(float(image.max()), 1e-6)
    return np.asarray(np.clip(image / brightest, 0, 1) * 255, np.uint8)


def to_bytes(field: npt.NDArray[np.generic]) -> Grey:
    """Stretch any numbers to 0..255 between their 0.5th and 99.5th percentile."""
    values = np.asarray(field, np.float64)
    low, high = np.percentile(values, [0.5, 99.5])
    if high <= low:
        low, high = float(values.min()), float(values.max()) + 1e-9
    return np.asarray(np.clip((values - low) / (high - low), 0, 1) * 255, np.uint8)


def _without_skull(
    image: FloatImage, mask: MaskImage, random: Random
) -> tuple[FloatImage, MaskImage]:
    """Keep what lies deeper under the outline than scalp and skull reach, with a wavy border."""
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    reach = float(random.uniform(0.16, 0.3)) * float(depth.max())
    wave = cv2.GaussianBlur(random.normal(size=image.shape), (0, 0), 6)
    kept = depth > reach * (1 + 0.12 * wave / max(float(wave.std()), 1e-6))
    if kept.sum() < 100:
        return image, mask
    ceiling = max(float(np.percentile(image[kept], 99)), 1e-3)
    return np.minimum(image * kept / ceiling, 1).astype(np.float32), kept.astype(np.uint8)


def _turned_round(image: FloatImage, mask: MaskImage, random: Random) -> FloatImage:
    """Dark tissue bright and bright tissue dark, as between T1 and T2; air stays dark."""
    tissue = (mask > 0) & (image > 0.08)
    return np.where(tissue, 1 - float(random.uniform(0.5, 1)) * image, image).astype(np.float32)


def _uneven(shape: tuple[int, ...], random: Random) -> FloatImage:
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    angle, strength = random.uniform(0, 2 * np.pi), random.uniform(0, 0.5)
    slope = np.cos(angle) * columns + np.sin(angle) * rows
    return np.asarray(np.clip(1 + strength * slope, 0.2, 2), np.float32)


def _as_acquired(image: FloatImage, random: Random) -> FloatImage:
    """Blur, the noise of a magnitude image (Gudbjartsson and Patz 1995), turn, zoom, size."""
    if random.random() < 0.35:
        image = _floats(cv2.GaussianBlur(image, (0, 0), float(random.uniform(0.5, 2))))
    if random.random() < 0.35:
        sigma = random.uniform(0.005, 0.08)
        real, imaginary = random.normal(size=(2, *image.shape)) * sigma
        image = np.hypot(image + real, imaginary).astype(np.float32)
    if random.random() < 0.5:
        quarter = float(random.choice([90, 180, 270])) if random.random() < 0.2 else 0.0
        angle = quarter or float(random.uniform(-25, 25))
        height, width = image.shape
        zoom = float(random.uniform(0.7, 1.1))
        move = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
        image = _floats(cv2.warpAffine(image, move, (width, height)))
    if random.random() < 0.3:
        scale = float(random.uniform(60, 200)) / max(image.shape)
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = _floats(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return image


def _floats(image: np.ndarray) -> FloatImage:
    return np.asarray(image, np.float32)
