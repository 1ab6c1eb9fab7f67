"""What a file takes is told from its header, before anything is decoded."""

import gzip
import tracemalloc
import zlib

import nibabel
import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ml.imaging import Limits, footprint, open_bytes, read_bytes, strip_nifti
from ml.imaging.dicom_file import inflated_size, read_header
from tests.dicoms import as_bytes, mr_slice

RANDOM = np.random.default_rng(7)


def enhanced(syntax: str, frames: int = 6, side: int = 256) -> bytes:
    dataset = mr_slice(RANDOM.integers(0, 4096, (side, side), np.uint16))
    if syntax == ExplicitVRLittleEndian:
        dataset.PixelData = dataset.PixelData * frames
    else:
        dataset.compress(syntax)
        (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
        dataset.PixelData = encapsulate([frame] * frames)
    dataset.NumberOfFrames = frames
    return as_bytes(dataset)


def volume(side: int = 160) -> bytes:
    pixels = RANDOM.integers(0, 255, (side, side, side), np.uint8)
    return bytes(nibabel.Nifti1Image(pixels, np.eye(4)).to_bytes())


def peak_of(work: object) -> int:
    tracemalloc.start()
    try:
        work()  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless]
)
def test_dicom_takes_no_more_than_its_header_says(syntax: str) -> None:
    content = enhanced(syntax)

    def read() -> None:
        for _slice in open_bytes(content):
            pass

    assert peak_of(read) <= footprint(content).reading


def test_frames_of_dicom_cost_nothing_until_they_are_asked_for() -> None:
    few, many = (footprint(enhanced(RLELossless, frames=frames)) for frames in (2, 6))
    one = 256 * 256 * 2
    assert many.reading - few.reading < 12 * one


@pytest.mark.parametrize("packed", [False, True])
def test_nifti_takes_no_more_than_its_header_says(packed: bool) -> None:
    content = gzip.compress(volume(), 1) if packed else volume()

    def read() -> None:
        for _slice in open_bytes(content):
            pass

    assert peak_of(read) <= footprint(content).reading + 2**20
    assert peak_of(lambda: strip_nifti(content, Limits())) <= footprint(content).checking


def test_slices_asked_for_one_at_a_time_are_those_of_the_whole() -> None:
    for content in (volume(40), enhanced(RLELossless)):
        opened, whole = open_bytes(content), read_bytes(content)
        assert len(opened) == len(whole)
        for number in reversed(range(len(whole))):
            np.testing.assert_array_equal(opened[number].pixels, whole[number].pixels)
        with pytest.raises(IndexError):
            opened[len(whole)]


def test_a_header_is_read_without_its_pixels() -> None:
    content = enhanced(ExplicitVRLittleEndian)
    found = read_header(content)
    assert found is not None
    header, start = found
    assert (header.Rows, header.NumberOfFrames) == (256, 6)
    assert "PixelData" not in header
    assert 0 < len(content) - start - 6 * 256 * 256 * 2 < 64


def test_what_is_deflated_is_counted_and_not_kept() -> None:
    dataset = mr_slice(np.zeros((2048, 2048), np.uint16))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = as_bytes(dataset)
    assert len(content) < 2**17
    assert peak_of(lambda: inflated_size(content)) < 4 * 2**20
    assert 2**23 < inflated_size(content) < 2**24
    assert footprint(content).checking > 2**24


@pytest.mark.parametrize(
    "content", [b"", b"DICM", zlib.compress(b"?"), enhanced(RLELossless)[:400], volume(40)[:300]]
)
def test_what_cannot_be_read_is_left_to_whoever_decodes_it(content: bytes) -> None:
    assert footprint(content).checking <= 2**28
