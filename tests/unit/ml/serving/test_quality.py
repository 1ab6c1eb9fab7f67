"""Poor versions of real slices are flagged for what was done to them; the slices are not."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from config import REPOSITORY
from ml.dataset import read_manifest
from ml.imaging import read_path
from ml.imaging.pictures import Pixels
from ml.preprocess import to_grey
from ml.serving.quality import QualityFlag, quality_flags

Floats = npt.NDArray[np.float64]
SAMPLES = [
    to_grey(read_path(entry.path)[0].pixels)
    for entry in read_manifest(REPOSITORY / "ml" / "samples" / "manifest.csv")
]


def stretched(grey: npt.NDArray[np.float32]) -> Floats:
    return np.clip(grey / np.percentile(grey, 99.5), 0, 1).astype(np.float64) * 255


def noise(shape: tuple[int, ...]) -> Floats:
    return np.random.default_rng(0).normal(size=shape)


def ghosted(image: Floats) -> Floats:
    """A fifth of the head again, half a field of view away."""
    return image + 0.2 * np.roll(image, image.shape[0] // 2, axis=0)


POOR: dict[QualityFlag, Callable[[Floats], Floats]] = {
    QualityFlag.TOO_SMALL: lambda image: cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA),
    QualityFlag.SATURATED: lambda image: image * 2.5,
    QualityFlag.MOSTLY_BLACK: lambda image: np.pad(image, int(1.3 * max(image.shape))),
    QualityFlag.LOW_CONTRAST: lambda image: 60 + image * 0.12,
    QualityFlag.BLURRED: lambda image: cv2.GaussianBlur(image, (0, 0), image.shape[0] / 90),
    QualityFlag.MOTION: ghosted,
    QualityFlag.NOISY: lambda image: image + noise(image.shape) * 45,
    QualityFlag.SEVERAL_SLICES: lambda image: np.hstack([np.pad(image, 8)] * 2),
    QualityFlag.CUT_OFF: lambda image: np.vstack([image[: len(image) // 2], 0 * image[::2]]),
}


def flags_of(image: Floats) -> tuple[QualityFlag, ...]:
    return quality_flags(np.clip(image, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("flag", POOR)
def test_most_poor_versions_are_flagged_for_what_was_done(flag: QualityFlag) -> None:
    flagged = [flag in flags_of(POOR[flag](stretched(sample))) for sample in SAMPLES]
    assert sum(flagged) >= 0.6 * len(flagged)


def test_samples_are_hardly_ever_flagged() -> None:
    flags = [flag for sample in SAMPLES for flag in flags_of(sample.astype(np.float64))]
    assert len(flags) <= 1


def test_sixteen_bits_are_judged_as_eight() -> None:
    eight = stretched(SAMPLES[0]).astype(np.uint8)
    assert quality_flags(eight.astype(np.uint16) * 256) == quality_flags(eight)


def test_coarse_pixels_are_too_small_however_many() -> None:
    pixels = stretched(SAMPLES[0]).astype(np.uint8)
    assert QualityFlag.TOO_SMALL in quality_flags(pixels, (1.0, 4.0))
    assert QualityFlag.TOO_SMALL not in quality_flags(pixels, (1.0, 1.0))


def test_blank_slice_has_no_quality_to_speak_of() -> None:
    assert quality_flags(np.zeros((64, 64), np.uint8)) == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (5, 5), (40, 900, 3)])
def test_every_shape_of_picture_gets_an_answer(shape: tuple[int, ...]) -> None:
    pixels: Pixels = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    assert all(isinstance(flag, QualityFlag) for flag in quality_flags(pixels))


@pytest.mark.data
def test_each_flag_marks_few_real_slices(data_root: Path) -> None:
    entries = read_manifest(data_root / "brain-mri" / "manifest.csv")[::11]
    found = [quality_flags(read_path(entry.path)[0].pixels) for entry in entries]
    for flag in QualityFlag:
        assert sum(flag in flags for flags in found) <= 0.02 * len(found), flag
