"""WebP and HEIC are read as JPEG is: upright, bounded, and without what phones add."""

import contextlib
import io
from collections.abc import Callable

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from ml.errors import UnreadableImage
from ml.imaging import Limits, read_bytes, sniff
from ml.imaging.footprints import of_picture
from ml.imaging.pictures import encode_png
from tests.photos import heic, webp

# Brighter to the right and below, with a bright corner above on the left.
PICTURE = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
PICTURE[:12, :12] = 255


def animated() -> bytes:
    first, second = (Image.new("L", (64, 64), level) for level in (0, 9))
    return webp(first, save_all=True, append_images=[second])


def code_of(content: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(content, limits)
    return caught.value.code


Encode = Callable[..., bytes]
both = pytest.mark.parametrize("encode", [webp, heic])


@both
def test_pixels_are_kept(encode: Encode) -> None:
    image = Image.fromarray(PICTURE).convert("RGB")
    (one,) = read_bytes(encode(image))
    assert one.pixels.shape == (48, 64, 3)
    assert np.abs(one.pixels.astype(int) - np.asarray(image)).max() <= 2


@both
def test_transparent_pixels_become_black(encode: Encode) -> None:
    image = Image.new("RGBA", (64, 48), (200, 100, 50, 0))
    (one,) = read_bytes(encode(image))
    assert not one.pixels.any()


@both
def test_pictures_are_turned_upright(encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    (one,) = read_bytes(encode(Image.fromarray(PICTURE).convert("RGB"), exif=exif.tobytes()))
    assert one.pixels.shape[:2] == (64, 48)
    assert one.pixels[:10, -10:].min() > 250


@both
def test_nothing_but_pixels_is_kept(encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    content = encode(Image.fromarray(PICTURE).convert("RGB"), exif=exif.tobytes())
    assert b"Jane" in content
    assert b"Jane" not in encode_png(read_bytes(content)[0].pixels)


@both
def test_limits_are_those_of_other_pictures(encode: Encode) -> None:
    content = encode(Image.new("RGB", (64, 40)))
    assert code_of(content, Limits(max_pixels=1000)) == "too_many_pixels"
    assert code_of(content, Limits(min_side=50)) == "too_small"
    assert of_picture(content).checking >= 64 * 40 * 3 + len(content)


@both
def test_what_is_cut_off_is_named(encode: Encode) -> None:
    noise = Image.effect_noise((128, 128), 90).filter(ImageFilter.BLUR).convert("RGB")
    content = encode(noise)
    for end in (20, 40, len(content) // 3, len(content) // 2):
        assert code_of(content[:end]) == "truncated"


def test_animated_webp_is_refused() -> None:
    assert code_of(animated()) == "animated"


def test_a_canvas_beyond_all_measure_takes_no_memory() -> None:
    content = bytearray(
        webp(Image.new("RGBA", (64, 64)), exif=b"Exif\0\0" + Image.Exif().tobytes())
    )
    assert content[12:16] == b"VP8X"
    content[24:30] = b"\xff" * 6
    assert code_of(bytes(content)) == "too_many_pixels"


def test_of_several_pictures_in_a_heic_file_the_main_one_is_read() -> None:
    file = pillow_heif.HeifFile()
    for level in (10, 200, 90):
        file.add_from_pillow(Image.new("RGB", (64, 64), (level,) * 3))
    buffer = io.BytesIO()
    file.save(buffer, quality=-1, primary_index=1)
    (one,) = read_bytes(buffer.getvalue())
    assert abs(int(one.pixels.mean()) - 200) <= 2


@pytest.mark.parametrize("brand", [b"heic", b"heix"])
def test_heic_is_known_by_any_of_its_brands(brand: bytes) -> None:
    content = (24).to_bytes(4, "big") + b"ftypmif1" + bytes(4) + b"mif1" + brand
    assert sniff(content).format == "HEIF"


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_else(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(8, len(content) - 1) | st.integers(8, 300))
        content[min(at, len(content) - 1)] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    with contextlib.suppress(UnreadableImage):
        read_bytes(bytes(content[:end]), Limits(max_pixels=100_000))


WHOLE = (webp(Image.fromarray(PICTURE)), heic(Image.fromarray(PICTURE)), animated())
