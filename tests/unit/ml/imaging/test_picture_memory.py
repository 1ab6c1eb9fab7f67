"""Pictures that are small as files and large once they are opened."""

import io
import tracemalloc
import zlib

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ml.errors import UnreadableImage
from ml.imaging import Limits, footprint, read_bytes
from ml.imaging.pictures import encode_png

RANDOM = np.random.default_rng(5)
TALL = (1500, 700)  # several strips and a rest


def png(pixels: npt.NDArray[np.generic]) -> bytes:
    done, buffer = cv2.imencode(".png", pixels)
    assert done
    return bytes(buffer.tobytes())


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def opaque(values: npt.NDArray[np.generic], alpha: npt.NDArray[np.generic], top: int) -> object:
    return values.astype(np.float64) * (alpha.astype(np.float64) / top)


def test_16_bit_colour_with_alpha_is_laid_on_black_in_all_strips() -> None:
    pixels = RANDOM.integers(0, 65536, (*TALL, 4)).astype(np.uint16)
    found = read_bytes(png(pixels))[0].pixels
    assert found.dtype == np.uint16
    expected = opaque(pixels[..., 2::-1], pixels[..., 3:], 65535)
    np.testing.assert_allclose(found, expected, atol=0.51)


def test_16_bit_colour_without_alpha_is_kept_exactly() -> None:
    pixels = RANDOM.integers(0, 65536, (*TALL, 3)).astype(np.uint16)
    np.testing.assert_array_equal(read_bytes(encode_png(pixels))[0].pixels, pixels)


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2)])
def test_8_bit_with_alpha_is_laid_on_black_in_all_strips(mode: str, channels: int) -> None:
    pixels = RANDOM.integers(0, 256, (*TALL, channels)).astype(np.uint8)
    found = read_bytes(saved(Image.fromarray(pixels, mode)))[0].pixels
    colours = pixels[..., 0] if mode == "LA" else pixels[..., :3]
    alpha = pixels[..., -1] if mode == "LA" else pixels[..., 3:]
    assert found.shape == colours.shape
    np.testing.assert_allclose(found, opaque(colours, alpha, 255), atol=1.01)


def test_a_colour_that_is_named_as_transparent_becomes_black_in_all_strips() -> None:
    pixels = RANDOM.integers(0, 4, TALL).astype(np.uint8)
    image = Image.fromarray(pixels, "P")
    image.putpalette([200, 10, 20, 30, 200, 50, 60, 70, 200, 90, 90, 90])
    found = read_bytes(saved(image, transparency=1))[0].pixels
    assert not found[pixels == 1].any()
    assert (found[pixels == 2] == [60, 70, 200]).all()


def test_16_bit_colour_with_alpha_takes_little_more_than_its_pixels() -> None:
    content = png(np.zeros((2000, 2000, 4), np.uint16))
    tracemalloc.start()
    try:
        read_bytes(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80 * 10**6  # 32 MB as decoded, 24 MB to be kept


@pytest.mark.parametrize("size", [(32, 2_000_000), (2_000_000, 32), (32, 2**15 + 1)])
def test_a_picture_too_long_to_be_resampled_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(saved(Image.new("L", size)))
    assert caught.value.code == "too_many_pixels"


@pytest.mark.parametrize("channels", [3, 4])
def test_damaged_16_bit_colour_is_refused(channels: int) -> None:
    content = bytearray(png(RANDOM.integers(0, 65536, (64, 64, channels)).astype(np.uint16)))
    content[len(content) // 2] ^= 0xFF
    for damaged in (bytes(content), bytes(content[: len(content) // 2])):
        with pytest.raises(UnreadableImage):
            read_bytes(damaged)


@pytest.mark.parametrize("at", [24, 25])
def test_a_head_that_makes_no_sense_is_refused(at: int) -> None:
    content = bytearray(png(np.zeros((64, 64, 3), np.uint16)))
    content[at] = 9
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(UnreadableImage):
        read_bytes(bytes(content))


def test_what_a_picture_takes_is_known_before_it_is_decoded() -> None:
    small = png(np.zeros((1000, 1000), np.uint8))
    deep = png(np.zeros((1000, 1000, 4), np.uint16))
    assert 10**7 < footprint(small).checking < footprint(deep).checking < 10**8
    assert footprint(b"no picture").checking == 20


def test_a_volume_of_single_bytes_counts_as_what_it_becomes() -> None:
    content = nibabel.Nifti1Image(np.zeros((64, 64, 64), np.uint8), np.eye(4)).to_bytes()
    assert len(read_bytes(content, Limits(max_total_bytes=2 * 64**3))) == 64
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(content, Limits(max_total_bytes=2 * 64**3 - 1))
    assert caught.value.code == "too_many_pixels"
