"""Images that are damaged where no decoder notices: refused if certain, else flagged."""

import copy
import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image, ImageFile
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless

from ml.errors import UnreadableImage
from ml.imaging import read_bytes, read_path
from ml.imaging.rows import missing_rows, row_length
from ml.preprocess import to_grey
from tests.dicoms import SAMPLES, as_bytes, head, mr_slice
from webapp.deidentification.pixel_data import keep_only_pixels

Grey = npt.NDArray[np.uint16]
END = b"\xff\xd9"


def jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def compressed(syntax: UID) -> tuple[pydicom.Dataset, bytes]:
    """An image, and its one frame."""
    dataset = mr_slice(head(0, 1, 256))
    if syntax == JPEGBaseline8Bit:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.file_meta.TransferSyntaxUID = syntax
        return dataset, jpeg((head(0, 1, 256) // 8).astype(np.uint8))
    dataset.compress(syntax)
    return dataset, next(generate_frames(dataset.PixelData, number_of_frames=1)).rstrip(b"\0")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut to 80 %": lambda frame: frame[: len(frame) * 4 // 5],
    "cut to 50 %": lambda frame: frame[: len(frame) // 2],
    "cut to 80 % and closed": lambda frame: frame[: len(frame) * 4 // 5] + END,
    "cut to 50 % and closed": lambda frame: frame[: len(frame) // 2] + END,
    "half of zeros": lambda frame: frame[: len(frame) // 2] + bytes(len(frame) // 2),
    "half of zeros and closed": lambda frame: (
        frame[: len(frame) // 2] + bytes(len(frame) // 2) + END
    ),
}


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("damage", DAMAGE)
def test_compressed_frames_that_are_not_whole_are_refused_at_the_door(
    syntax: UID, damage: str
) -> None:
    dataset, frame = compressed(syntax)
    for content, is_whole in ((frame, True), (DAMAGE[damage](frame), False)):
        one = copy.deepcopy(dataset)
        one.PixelData = encapsulate([content])
        one["PixelData"].VR = "OB"
        if is_whole:
            keep_only_pixels(one)
            continue
        with pytest.raises(UnreadableImage) as caught:
            keep_only_pixels(one)
        assert caught.value.code == "truncated"


@pytest.mark.parametrize("wrong", [-64, -5, -1, 1, 5, 64])
def test_rows_of_a_wrong_length_are_refused(wrong: int) -> None:
    pixels, columns = head(0, 1, 256), 256 + wrong
    dataset = mr_slice(pixels)
    dataset.Columns = columns
    dataset.Rows = pixels.size // columns
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(as_bytes(dataset))
    assert caught.value.code == "header_lies"


def test_rows_and_columns_exchanged_are_refused() -> None:
    dataset = mr_slice(head(0, 1, 256)[:, 30:226])
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(as_bytes(dataset))
    assert caught.value.code == "header_lies"


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.jpg")), ids=lambda path: path.stem)
def test_real_slices_are_whole(path: object) -> None:
    grey = to_grey(read_path(SAMPLES / str(path))[0].pixels)
    for turned in (grey, grey.T, grey[::-1], grey + np.indices(grey.shape).sum(axis=0) % 7):
        assert row_length(turned) == turned.shape[1]
    assert missing_rows(grey) == 0


def test_noise_and_nothing_have_the_rows_that_they_say() -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (100, 130))
    for pixels in (noise, 0 * noise, np.full((40, 60), np.nan), noise[:2]):
        assert row_length(pixels) == pixels.shape[1]


def test_what_a_decoder_filled_up_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    content = (SAMPLES / "glioma-1.jpg").read_bytes()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with Image.open(io.BytesIO(content[: len(content) // 2])) as image:
        filled = np.asarray(image.convert("L"), np.float32)
    assert missing_rows(filled) > len(filled) // 5


def test_zeros_below_a_head_that_goes_on_are_missing_rows_and_air_is_none() -> None:
    whole = head(0, 1, 256).astype(np.float32)
    cut = whole.copy()
    cut[150:] = 0
    assert missing_rows(cut) == 106
    assert missing_rows(np.pad(whole, ((0, 60), (0, 0)))[:, 20:-20]) == 0
