"""TIFF files give all their pages with all their bits, and what they store otherwise is named."""

import contextlib
import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ml.errors import UnreadableImage
from ml.imaging import Limits, inspect, read_bytes, sniff
from ml.imaging.tiffs import Tiff
from tests.tiffs import as_tiff

LIMITS = Limits()


def ramp(dtype: type = np.uint8, channels: int = 0) -> npt.NDArray[np.generic]:
    """(40, 60) or (40, 60, channels); no two corners look alike."""
    rows, columns = np.mgrid[:40, :60]
    grey = rows * 5 + columns
    if channels:
        grey = np.stack([grey + 7 * one for one in range(channels)], axis=2)
    return (grey * (1 if np.dtype(dtype).itemsize == 1 else 211)).astype(dtype)


def saved(*pages: npt.NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    first, *rest = [Image.fromarray(one) for one in pages]
    first.save(buffer, "TIFF", save_all=True, append_images=rest, **options)
    return buffer.getvalue()


def code_of(content: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(content, limits)
    return caught.value.code


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pages_come_in_their_order_with_all_bits(dtype: type, channels: int, big: bool) -> None:
    pages = [ramp(dtype, channels), ramp(dtype, channels)[::-1], ramp(dtype, channels)[:, ::-1]]
    content = as_tiff(*pages, big=big)
    for one, expected in zip(read_bytes(content), pages, strict=True):
        assert one.pixels.dtype == dtype
        assert np.array_equal(one.pixels, expected)
    facts = inspect(content)
    assert (facts.format, [frame.index for frame in facts.frames]) == ("TIFF", [0, 1, 2])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_byte_order_makes_no_difference(dtype: type) -> None:
    for channels in (0, 3):
        (one,) = read_bytes(as_tiff(ramp(dtype, channels), order=">"))
        assert np.array_equal(one.pixels, ramp(dtype, channels))


@pytest.mark.parametrize(
    "compression", ["tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate"]
)
def test_compressed_pages_are_read(compression: str) -> None:
    for pixels in (ramp(), ramp(np.uint16), ramp(np.uint8, 3)):
        (one,) = read_bytes(saved(pixels, compression=compression))
        assert np.array_equal(one.pixels, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pages_are_turned_upright(dtype: type, orientation: int) -> None:
    picture = Image.fromarray(ramp())
    picture.getexif()[274] = orientation
    upright = np.asarray(ImageOps.exif_transpose(picture)).astype(np.int64)
    for channels in (0, 3):
        content = as_tiff(ramp(dtype, channels), tags={274: [orientation]})
        (one,) = read_bytes(content)
        shown = one.pixels[..., 0] if channels else one.pixels
        assert np.array_equal(shown // (211 if dtype is np.uint16 else 1), upright)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_where_white_is_zero_bright_is_bright(dtype: type) -> None:
    (one,) = read_bytes(as_tiff(ramp(dtype), tags={262: 0}))
    assert np.array_equal(one.pixels, ~ramp(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_pixels_become_black(dtype: type) -> None:
    pixels = ramp(dtype, 4)
    pixels[..., 3] = 0
    pixels[20:, :, 3] = np.iinfo(dtype).max
    (one,) = read_bytes(as_tiff(pixels, tags={338: [2]}))
    assert not one.pixels[:20].any()
    assert np.array_equal(one.pixels[20:], pixels[20:, :, :3])


def test_pages_of_several_sizes_are_read() -> None:
    slices = read_bytes(as_tiff(ramp(), np.zeros((64, 32), np.uint8)))
    assert [one.pixels.shape for one in slices] == [(40, 60), (64, 32)]


def test_reduced_copies_are_passed_over_and_counted() -> None:
    small = np.zeros((33, 33), np.uint8)
    content = as_tiff(small, ramp(), small, each=[{254: 1}, {254: 0}, {254: 1}])
    (one,) = read_bytes(content)
    assert np.array_equal(one.pixels, ramp())
    assert Tiff(content, LIMITS).reduced == [0, 2]
    assert len(read_bytes(as_tiff(small, tags={254: 1}))) == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (lambda: as_tiff(ramp(np.float32)), "sample_type"),
        (lambda: as_tiff(ramp(np.float64)), "sample_type"),
        (lambda: as_tiff(ramp(np.int16)), "sample_type"),
        (lambda: as_tiff(ramp(np.uint32)), "sample_type"),
        (lambda: as_tiff(ramp(np.uint16, 2), tags={338: [2]}), "sample_type"),
        (lambda: as_tiff(ramp(), ramp(np.uint16, 2), tags={338: [2]}), "sample_type"),
        (lambda: as_tiff(ramp(), big=True, order=">"), "sample_type"),
        (lambda: as_tiff(ramp(), tags={259: 34925}), "unsupported_transfer_syntax"),
        (lambda: as_tiff(ramp(), tags={259: 6}), "unsupported_transfer_syntax"),
        (lambda: as_tiff(ramp()[:20]), "too_small"),
        (lambda: as_tiff(ramp(), tags={256: 70_000, 257: 70_000}), "too_many_pixels"),
        (lambda: as_tiff(ramp(), tags={256: 40_000}), "too_many_pixels"),
        (lambda: as_tiff(ramp(), tags={257: 50}), "truncated"),
        (lambda: as_tiff(ramp(np.uint16, 3), tags={279: 100}), "truncated"),
        (
            lambda: as_tiff(ramp(), tags={270: b"ImageJ=1.54\nimages=9\nslices=9\n\0"}),
            "more_frames",
        ),
        (lambda: as_tiff(ramp())[:1000], "truncated"),
        (lambda: saved(ramp(), compression="tiff_lzw").replace(b"\x80", b"\xff", 1), "truncated"),
        (lambda: b"II*\0", "truncated"),
    ],
)
def test_what_cannot_be_read_is_named(content: Callable[[], bytes], code: str) -> None:
    assert code_of(content()) == code


def test_pages_are_bounded() -> None:
    content = as_tiff(*[ramp()] * 5)
    assert code_of(content, Limits(max_slices=4)) == "too_many_slices"
    assert code_of(content, Limits(max_total_bytes=10_000)) == "too_many_pixels"


def test_pages_that_follow_one_another_in_a_circle_end() -> None:
    content = bytearray(as_tiff(ramp(), ramp()))
    first = content[4:8]
    content[-4:] = first
    assert len(read_bytes(bytes(content))) == 2


def test_a_dicom_file_with_a_preamble_of_tiff_stays_dicom() -> None:
    from tests.dicoms import as_bytes, head, mr_slice

    content = as_bytes(mr_slice(head(0, 1, 64)))
    assert sniff(b"II*\0" + content[4:]).format == "DICOM"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_else(data: st.DataObject) -> None:
    pixels = data.draw(st.sampled_from([ramp(), ramp(np.uint16), ramp(np.uint8, 3)]))
    packing = data.draw(st.sampled_from([None, "tiff_lzw", "tiff_deflate", "jpeg"]))
    if packing is None or (packing == "jpeg" and pixels.dtype == np.uint16):
        content = bytearray(as_tiff(pixels, ramp(np.uint16, 3), big=data.draw(st.booleans())))
    else:
        content = bytearray(saved(pixels, pixels, compression=packing))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(
            st.integers(0, 40)
            | st.integers(0, len(content) - 1)
            | st.integers(1, 300).map(lambda n: -n)
        )
        content[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    with contextlib.suppress(UnreadableImage):
        read_bytes(bytes(content[:end]), Limits(max_pixels=100_000))
