"""Letters on what a scanner has measured, and in volumes."""

import io

import cv2
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from ml.imaging import Limits, read_bytes
from ml.imaging.drawn_text import drawn_in_stack, evenly, find_drawn_text, plateau
from ml.imaging.nifti import PLANES, mask_nifti
from tests.dicoms import head

Grey = npt.NDArray[np.uint16]
NAME = "ROENTGEN W 1947"


def measured(side: int = 256) -> Grey:
    """A head of 12 bits with the noise of a scanner."""
    noise = np.abs(np.random.default_rng(3).normal(0, 25, (side, side)))
    return (head(0, 1, side) * 0.8 + noise).astype(np.uint16)


def drawn(pixels: Grey, value: int, at: tuple[int, int] = (8, 24), text: str = NAME) -> Grey:
    ink = np.zeros(pixels.shape, np.uint8)
    cv2.putText(ink, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 2, cv2.LINE_AA)
    share = ink / 255
    return np.rint(pixels * (1 - share) + value * share).astype(np.uint16)


@pytest.mark.parametrize("value", [2600, 4095, 65535])
def test_letters_of_the_highest_value_are_found(value: int) -> None:
    boxes = find_drawn_text(drawn(measured(), value))
    assert boxes
    assert min(box.top for box in boxes) < 14
    assert max(box.right for box in boxes) > 150


def test_letters_below_a_few_brighter_pixels_are_found() -> None:
    pixels = drawn(measured(), 2600)
    pixels[100:103, 100:102] = np.arange(6).reshape(3, 2) + 3000
    assert find_drawn_text(pixels)


def test_measured_slices_have_no_plateau() -> None:
    pixels = measured()
    assert plateau(pixels) is None
    assert plateau(np.zeros((64, 64), np.uint16)) is None


@pytest.mark.parametrize("share", [99.5, 99, 98])
def test_saturated_vessels_are_no_letters(share: float) -> None:
    pixels = measured()
    assert not find_drawn_text(np.minimum(pixels, np.uint16(np.percentile(pixels, share))))


def volume(axis: int) -> Grey:
    """(slices, height, width) with a name in the middle of one plane."""
    side = 160
    stack = np.stack([head(number, side, side) for number in range(side)])
    noise = np.abs(np.random.default_rng(4).normal(0, 25, stack.shape))
    stack = (stack * 0.8 + noise).astype(np.uint16)
    plane = np.moveaxis(stack, axis, 0)[side // 2]
    plane[...] = drawn(np.ascontiguousarray(plane), 4095, (4, 20), "ROENTGEN W")
    return stack


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_letters_in_any_plane_of_a_volume_are_found(axis: int) -> None:
    found = list(drawn_in_stack(volume(axis), None))
    assert any((one.axis, one.index) == (axis, 80) for one in found)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("codes", ["RAS", "PIR"])
def test_what_is_hidden_in_a_volume_is_what_the_slices_showed(plane: str, codes: str) -> None:
    voxels = np.random.default_rng(5).integers(100, 1000, (36, 48, 34)).astype(np.int16)
    target = nib.orientations.axcodes2ornt(tuple(codes))
    start = nib.orientations.axcodes2ornt(("R", "A", "S"))
    image = nib.Nifti1Image(voxels, np.eye(4)).as_reoriented(
        nib.orientations.ornt_transform(start, target)
    )
    buffer = io.BytesIO()
    image.to_file_map({"image": nib.FileHolder(fileobj=buffer)})
    before = np.stack([one.pixels for one in read_bytes(buffer.getvalue(), plane=plane)])
    hidden = np.zeros(before.shape, bool)
    hidden[3, 5:20, 7:9] = True
    kept = mask_nifti(buffer.getvalue(), hidden, Limits(), plane)
    after = np.stack([one.pixels for one in read_bytes(kept, plane=plane)])
    assert np.array_equal(after[~hidden], before[~hidden])
    assert set(after[hidden]) == {before.min()}


def test_a_few_of_many_are_taken_evenly() -> None:
    assert evenly(range(101), 3) == [0, 50, 100]
    assert evenly([1, 2], 3) == [1, 2]
    assert evenly([], 3) == []
