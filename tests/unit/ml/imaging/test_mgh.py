"""MGH volumes of FreeSurfer show the same slices as NIfTI, and nothing else of them is kept."""

import contextlib
import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.dataset.stacks import read_volumes
from ml.errors import UnreadableImage
from ml.imaging import Limits, inspect, read_bytes, sniff
from tests.volumes import SHAPE, as_mgh, as_nifti_file, looks, small_volume

LIMITS = Limits()
PLANES = ("auto", "axial", "coronal", "sagittal")


def code_of(content: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(content, limits)
    return caught.value.code


def with_field(at: int, code: str, value: float) -> bytes:
    content = bytearray(as_mgh(small_volume()))
    struct.pack_into(f">{code}", content, at, value)
    return bytes(content)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("codes", ["RAS", "LPI", "PSR", "SAL"])
def test_slices_are_those_of_the_same_volume_as_nifti(codes: str, plane: str) -> None:
    volume = small_volume(codes)
    expected = looks(as_nifti_file(volume), plane)
    assert looks(as_mgh(volume), plane) == expected
    assert looks(gzip.compress(as_mgh(volume)), plane) == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_all_types_of_voxels_are_read(dtype: type) -> None:
    volume = small_volume(dtype=dtype)
    assert looks(as_mgh(volume)) == looks(as_nifti_file(volume))


def test_what_is_kept_is_nifti_without_names() -> None:
    content = as_mgh(small_volume()) + b"mri_convert /home/jane-doe/001.mgz"
    reader = sniff(content)
    assert reader.format == "MGH"
    assert reader.as_nifti is not None
    kept = reader.as_nifti(content, LIMITS)
    assert b"jane" not in gzip.decompress(kept)
    assert inspect(kept) == inspect(content)
    assert inspect(kept).format == "NIFTI"


def test_volumes_to_learn_from_are_given_as_nifti(tmp_path: Path) -> None:
    path = tmp_path / "head.mgz"
    path.write_bytes(gzip.compress(as_mgh(small_volume())))
    (found,) = read_volumes(path)
    assert sniff(found).format == "NIFTI"
    assert looks(found) == looks(as_nifti_file(small_volume()))


def test_without_orientation_slices_are_coronal_as_the_format_says() -> None:
    facts = inspect(with_field(28, "h", 0), plane="coronal")
    assert len(facts.frames) == SHAPE[2]  # the last axis runs towards the front
    assert facts.frames[0].spacing == (1.0, 1.0)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (lambda: with_field(16, "i", 2), "four_dimensional"),
        (lambda: with_field(4, "i", 0), "no_voxels"),
        (lambda: with_field(4, "i", -36), "no_voxels"),
        (lambda: with_field(4, "i", 2**31 - 1), "too_many_pixels"),
        (lambda: with_field(4, "i", 32_000), "truncated"),
        (lambda: with_field(20, "i", 6), "unsupported"),
        (lambda: with_field(20, "i", 600), "unsupported"),
        (lambda: with_field(30, "f", 4000.0), "voxel_size"),
        (lambda: with_field(30, "f", float("nan")), "no_orientation"),
        (lambda: as_mgh(small_volume())[:5000], "truncated"),
        (lambda: as_mgh(small_volume())[:100], "truncated"),
        (lambda: gzip.compress(as_mgh(small_volume()))[:-500], "truncated"),
    ],
)
def test_what_cannot_be_read_is_named(content: Callable[[], bytes], code: str) -> None:
    assert code_of(content()) == code


def test_limits_are_those_of_nifti() -> None:
    content = as_mgh(small_volume())
    assert code_of(content, Limits(max_slices=20)) == "too_many_slices"
    assert code_of(content, Limits(max_total_bytes=1000)) == "too_many_pixels"
    assert code_of(content, Limits(min_side=40)) == "too_small"


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_else(data: st.DataObject) -> None:
    content = bytearray(as_mgh(small_volume()))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, 95) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    packed = gzip.compress(bytes(content), 1) if data.draw(st.booleans()) else bytes(content)
    end = data.draw(st.integers(0, len(packed)) | st.just(len(packed)))
    with contextlib.suppress(UnreadableImage):
        read_bytes(packed[:end], Limits(max_total_bytes=2**24))
