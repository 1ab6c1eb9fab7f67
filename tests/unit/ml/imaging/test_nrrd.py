"""NRRD volumes show the same slices as NIfTI; no header makes the reader open or hold anything."""

import contextlib
import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.errors import UnreadableImage
from ml.imaging import Limits, inspect, read_bytes, sniff
from tests.volumes import as_nifti_file, as_nrrd, looks, small_volume

LIMITS = Limits()
ENCODINGS = ("raw", "gzip", "bzip2", "ascii")
SPACES = ("left-posterior-superior", "right-anterior-superior", "left-anterior-superior")


def code_of(content: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(content, limits)
    return caught.value.code


def changed(old: str, new: str, encoding: str = "raw") -> bytes:
    """A file with another text in its header."""
    content = as_nrrd(small_volume(), encoding=encoding)
    assert old.encode() in content
    return content.replace(old.encode(), new.encode(), 1)


def with_text(text: bytes) -> bytes:
    """A file of numbers with something else in place of one."""
    return as_nrrd(small_volume(), encoding="ascii").replace(b" 7 ", text, 1)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("codes", ["RAS", "LPI", "PSR"])
def test_slices_are_those_of_the_same_volume_as_nifti(codes: str, space: str) -> None:
    volume = small_volume(codes)
    for plane in ("auto", "axial", "coronal", "sagittal"):
        assert looks(as_nrrd(volume, space=space), plane) == looks(as_nifti_file(volume), plane)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_all_encodings_and_types_are_read(dtype: type, encoding: str) -> None:
    volume = small_volume(dtype=dtype)
    expected = looks(as_nifti_file(volume))
    assert looks(as_nrrd(volume, encoding=encoding)) == expected
    assert looks(as_nrrd(volume, encoding=encoding, endian="big")) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("space: left-posterior-superior", "space: LPS"),
        ("Space".lower() + " origin", "Space Origin"),
        ("type: int32", "type: signed int"),
        ("\n# made", "\r\n# made"),
        ("kinds: domain domain domain", 'space units: "mm" "mm" "mm"'),
    ],
)
def test_other_spellings_mean_the_same(old: str, new: str) -> None:
    assert looks(changed(old, new)) == looks(as_nifti_file(small_volume()))


def test_lines_and_bytes_in_front_of_the_values_are_skipped() -> None:
    expected = looks(as_nifti_file(small_volume()))
    head, values = as_nrrd(small_volume(), "line skip: 2", "byte skip: 3").split(b"\n\n", 1)
    assert looks(head + b"\n\none\ntwo\nxyz" + values) == expected
    assert (
        looks(head.replace(b"byte skip: 3", b"byte skip: -1") + b"\n\n\n\nxyz" + values) == expected
    )
    head, values = as_nrrd(small_volume(), "byteskip: 3", encoding="gzip").split(b"\n\n", 1)
    packed = gzip.compress(b"xyz" + gzip.decompress(values))
    assert looks(head + b"\n\n" + packed) == expected


def test_other_units_are_turned_into_millimetres() -> None:
    content = changed("kinds: domain domain domain", 'space units: "m" "m" "m"')
    head, values = content.split(b"\n\n", 1)
    for old, new in ((b"1.0", b"0.001"), (b"2.0", b"0.002")):
        head = head.replace(old, new)
    frame = inspect(head + b"\n\n" + values, plane="coronal").frames[0]
    assert frame.spacing == pytest.approx((2.0, 1.0))


def test_an_axis_of_one_value_is_no_axis() -> None:
    content = changed("dimension: 3", "dimension: 4").replace(b"sizes: ", b"sizes: 1 ")
    content = content.replace(b"directions: ", b"directions: none ")
    content = content.replace(b"kinds: ", b"kinds: list ")
    assert looks(content) == looks(as_nifti_file(small_volume()))
    assert code_of(content.replace(b"sizes: 1", b"sizes: 3")) == "four_dimensional"
    colour = content.replace(b"sizes: 1", b"sizes: 3").replace(b"kinds: list", b"kinds: RGB-color")
    assert code_of(colour) == "colour_volume"


def test_what_is_kept_is_nifti_without_comments_and_keys() -> None:
    content = as_nrrd(small_volume(), "# Jane Doe", "patient:=Jane Doe", "content: Jane Doe")
    reader = sniff(content)
    assert reader.format == "NRRD"
    assert reader.as_nifti is not None
    kept = reader.as_nifti(content, LIMITS)
    assert b"Jane" not in gzip.decompress(kept)
    assert inspect(kept) == inspect(content)


@pytest.mark.parametrize("field", ["data file", "datafile", "Data File"])
def test_a_file_that_a_header_names_is_never_opened(tmp_path: Path, field: str) -> None:
    values = tmp_path / "values.raw"
    values.write_bytes(as_nrrd(small_volume()).split(b"\n\n", 1)[1])
    content = as_nrrd(small_volume(), f"{field}: {values}")
    assert code_of(content) == "detached_header"
    assert code_of(content.split(b"\n\n", 1)[0] + b"\n") == "detached_header"
    assert code_of(as_nrrd(small_volume(), f"{field}: LIST")) == "detached_header"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (lambda: changed("encoding: raw", "encoding: hex"), "unsupported_transfer_syntax"),
        (lambda: changed("type: int32", "type: block"), "unsupported"),
        (lambda: changed("left-posterior-superior", "scanner-xyz"), "no_orientation"),
        (lambda: changed("space directions", "spacings"), "no_orientation"),
        (lambda: changed("space directions: (-1.0,", "space directions: (nan,"), "no_orientation"),
        (lambda: changed("space directions: (-1.0,", "space directions: (-0.0,"), "no_orientation"),
        (lambda: changed("space directions: (-1.0,", "space directions: (-900,"), "voxel_size"),
        (lambda: changed("left-posterior-superior", "LPST"), "four_dimensional"),
        (lambda: changed("sizes: 36", "sizes: 0"), "no_voxels"),
        (lambda: changed("sizes: 36", "sizes: -36"), "no_voxels"),
        (lambda: changed("sizes: 36", "sizes: 36e9"), "too_many_pixels"),
        (lambda: changed("sizes: 36", "sizes: 37"), "truncated"),
        (lambda: changed("sizes: 36", "sizes: 37", "gzip"), "truncated"),
        (lambda: changed("sizes: 36", "sizes: 37", "bzip2"), "truncated"),
        (lambda: changed("sizes: 36", "sizes: 37", "ascii"), "truncated"),
        (lambda: changed("sizes: 36", "sizes: thirty"), "truncated"),
        (lambda: changed("dimension: 3", "dimension: 2"), "truncated"),
        (lambda: changed("endian: little", "endian: middle"), "truncated"),
        (lambda: changed("encoding: raw", "encoding: gzip"), "truncated"),
        (lambda: changed("kinds", "byte skip: -2\nkinds"), "truncated"),
        (lambda: changed("kinds", "byte skip: 5\nkinds"), "truncated"),
        (lambda: changed("kinds", "line skip: 99999999999\nkinds"), "truncated"),
        (lambda: changed("kinds", "byte skip: 99999999999\nkinds", "gzip"), "truncated"),
        (lambda: changed("kinds", "space units: " + '"' * 9000 + "\nkinds"), "truncated"),
        (lambda: changed("kinds", "encoding: raw\nkinds"), "truncated"),
        (lambda: changed("NRRD0004", "NRRD0009"), "truncated"),
        (lambda: as_nrrd(small_volume())[:-1], "truncated"),
        (lambda: as_nrrd(small_volume())[:100], "truncated"),
        (lambda: with_text(b" x "), "truncated"),
        (lambda: with_text(b" 9e9 "), "truncated"),
        (
            lambda: as_nrrd(small_volume(), encoding="ascii").replace(b" 7 ", b"7" * 9000),
            "truncated",
        ),
    ],
)
def test_what_cannot_be_read_is_named(content: Callable[[], bytes], code: str) -> None:
    assert code_of(content()) == code


def test_little_is_held_of_values_that_grow() -> None:
    content = as_nrrd(small_volume(), encoding="gzip").split(b"\n\n", 1)[0]
    bomb = content + b"\n\n" + gzip.compress(bytes(100 * 2**20), 1)
    tracemalloc.start()
    try:
        read_bytes(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_else(data: st.DataObject) -> None:
    content = bytearray(as_nrrd(small_volume(), encoding=data.draw(st.sampled_from(ENCODINGS))))
    start = content.index(b"\n\n")
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, start + 1) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255) | st.sampled_from(b'\n0919-()": #'))
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    with contextlib.suppress(UnreadableImage):
        read_bytes(bytes(content[:end]), Limits(max_total_bytes=2**24))
