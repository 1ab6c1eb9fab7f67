"""Preprocessing finds the head, forgets scale and border, and can be undone in place."""

from pathlib import Path

import numpy as np
import pytest

from ml.errors import UnreadableImage
from ml.imaging import read_path
from ml.preprocess import PIPELINES, head_crop, head_mask, to_grey

SAMPLES = sorted((Path(__file__).parents[3] / "ml" / "samples").glob("*.jpg"))


def head(height: int = 300, width: int = 240) -> np.ndarray:
    """An ellipse with texture on a dark, noisy background."""
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - 150) / 110) ** 2 + ((columns - 120) / 80) ** 2 < 1
    noise = np.random.default_rng(0).integers(0, 12, (height, width))
    return (noise + inside * (120 + 60 * np.sin(rows / 9))).astype(np.uint8)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("size", [128, 224])
def test_output_is_square_and_between_0_and_1(name: str, size: int) -> None:
    prepared = PIPELINES[name](head(), size)
    assert prepared.image.shape == (size, size)
    assert prepared.image.dtype == np.float32
    assert prepared.image.min() >= 0
    assert prepared.image.max() <= 1


def test_head_is_found() -> None:
    prepared = head_crop(head(), 224)
    assert abs(prepared.source.top - 40) <= 6
    assert abs(prepared.source.bottom - 260) <= 6
    assert abs(prepared.source.left - 40) <= 6
    assert abs(prepared.source.right - 200) <= 6


def test_aspect_ratio_is_kept() -> None:
    placed = head_crop(head(), 224).placed
    assert placed.height == 224
    assert placed.width / placed.height == pytest.approx(160 / 220, abs=0.03)


def test_background_is_blanked() -> None:
    prepared = head_crop(head(), 224)
    assert prepared.image[:8, :8].max() == 0


def test_intensity_scale_does_not_matter() -> None:
    eight = head_crop(head(), 224).image
    sixteen = head_crop(head().astype(np.uint16) * 200 + 1000, 224).image
    np.testing.assert_allclose(eight, sixteen, atol=0.02)


def test_colour_and_grey_copies_agree() -> None:
    grey = head()
    np.testing.assert_allclose(
        head_crop(grey, 128).image, head_crop(np.dstack([grey] * 3), 128).image, atol=1e-3
    )


def test_raw_keeps_the_border_and_the_whole_slice() -> None:
    prepared = PIPELINES["raw"](head(), 224)
    assert (prepared.source.width, prepared.source.height) == (240, 300)
    assert prepared.image[:8, 112 - 40 : 112 + 40].max() > 0


def test_denoising_smooths_and_clahe_evens_out_without_touching_the_background() -> None:
    random = np.random.default_rng(1)
    noisy = np.clip(head() + random.normal(0, 12, (300, 240)), 0, 255).astype(np.uint8)
    names = ("head-crop", "denoise", "clahe")
    plain, smooth, even = (PIPELINES[name](noisy, 224).image for name in names)
    roughness = [np.abs(np.diff(image[:, 112])).mean() for image in (plain, smooth)]
    assert roughness[1] < 0.7 * roughness[0]
    assert not np.allclose(plain, even, atol=0.05)
    for image in (smooth, even):
        assert (image[plain == 0] == 0).all()


@pytest.mark.parametrize("name", PIPELINES)
def test_blank_slice_is_refused(name: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        PIPELINES[name](np.full((64, 64), 7, np.uint8), 224)
    assert caught.value.code == "blank"


def test_map_over_the_input_returns_to_its_place() -> None:
    pixels = head()
    prepared = head_crop(pixels, 224)
    field = np.zeros((14, 14), np.float32)
    field[7, 7] = 1
    back = prepared.to_source(field)
    assert back.shape == pixels.shape
    row, column = np.unravel_index(back.argmax(), back.shape)
    assert abs(row - 150) < 14
    assert abs(column - 120) < 14
    assert back[:30].max() == 0


def test_share_of_the_head_is_told_also_where_the_whole_slice_is_taken() -> None:
    rows, columns = np.mgrid[:200, :200]
    for radius in (20, 40, 80):
        pixels = ((rows - 100) ** 2 + (columns - 100) ** 2 < radius**2) * 200
        prepared = head_crop(pixels.astype(np.uint8), 64)
        assert prepared.head_share == pytest.approx(np.pi * radius**2 / 200**2, rel=0.1)
    assert head_crop(pixels.astype(np.uint8), 64).source.width < 170
    small = ((rows - 100) ** 2 + (columns - 100) ** 2 < 20**2) * 200
    assert head_crop(small.astype(np.uint8), 64).source.width == 200


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_real_slices_keep_most_of_the_head(path: Path) -> None:
    grey = to_grey(read_path(path)[0].pixels)
    share = head_mask(grey).mean()
    assert 0.2 < share < 0.95
