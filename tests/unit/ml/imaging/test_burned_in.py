"""Letters in the pixels: found whatever they are drawn with, and not seen where there are none."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont

from ml.imaging import read_path
from ml.imaging.burned_in import TextBox, find_text, mask_text
from tests.dicoms import SAMPLES

Grey = npt.NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
TEXT = "KOVARIK ILSE 17.04.1961"
NAMES = [path.name for path in sorted(SAMPLES.glob("*.jpg"))]


def slice_of(name: str = "glioma-1.jpg", side: int = 512) -> Grey:
    """A head that leaves room beside it."""
    pixels = read_path(SAMPLES / name)[0].pixels
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    small = cv2.resize(grey, (side * 3 // 4, side * 3 // 4), interpolation=cv2.INTER_AREA)
    canvas = np.zeros((side, side), np.uint8)
    canvas[side // 8 : side // 8 + len(small), side // 8 : side // 8 + len(small)] = small
    return canvas


def ink(font: Font, *, smooth: bool = True, text: str = TEXT) -> Grey:
    image = Image.new("L", (340, 40))
    draw = ImageDraw.Draw(image)
    draw.fontmode = "L" if smooth else "1"
    draw.text((2, 2), text, fill=255, font=font)
    drawn = np.asarray(image)
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    return drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def scalable(size: float) -> Font:
    return ImageFont.load_default(size)


INKS: dict[str, Callable[[], Grey]] = {
    "smooth, 9 px": lambda: ink(scalable(13)),
    "smooth, 16 px": lambda: ink(scalable(23)),
    "without grey edges": lambda: ink(scalable(14), smooth=False),
    "pixel font": lambda: ink(ImageFont.load_default_imagefont()),
    "pixel font, twice": lambda: np.kron(
        ink(ImageFont.load_default_imagefont()), np.ones((2, 2), np.uint8)
    ),
    "Greek": lambda: ink(scalable(16), text="Παπαδόπουλος 1961"),
    "umlauts": lambda: ink(scalable(16), text="MÜLLER JÖRG"),
}


def covers(boxes: list[TextBox], drawn: npt.NDArray[np.bool_]) -> bool:
    inside = np.zeros_like(drawn)
    for box in boxes:
        inside[box.top : box.bottom, box.left : box.right] = True
    return bool(inside[drawn].mean() > 0.95)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("name", INKS)
def test_captions_of_every_font_are_found_whichever_way_they_run(name: str, turns: int) -> None:
    drawn = np.rot90(INKS[name](), turns)
    pixels, full = slice_of(), np.zeros((512, 512), np.uint8)
    full[4 : 4 + drawn.shape[0], 4 : 4 + drawn.shape[1]] = drawn
    boxes = find_text(np.maximum(pixels, full))
    assert covers(boxes, full > 127)


@pytest.mark.parametrize(
    "colour", [(255, 255, 0), (255, 0, 0), (0, 255, 0), (20, 40, 255), (0, 220, 255)]
)
def test_captions_in_colour_are_found(colour: tuple[int, int, int]) -> None:
    drawn = ink(scalable(16))
    pixels = np.repeat(slice_of()[..., None], 3, axis=2)
    full = np.zeros((512, 512), np.float32)
    full[490 : 490 + drawn.shape[0], 150 : 150 + drawn.shape[1]] = drawn / 255
    mixed = pixels * (1 - full[..., None]) + np.array(colour) * full[..., None]
    assert covers(find_text(np.asarray(mixed, np.uint8)), full > 0.5)


def test_black_letters_on_a_white_bar_are_found() -> None:
    drawn = ink(scalable(16))
    pixels = slice_of()
    pixels[0:30, :] = 255
    full = np.zeros((512, 512), np.uint8)
    full[8 : 8 + drawn.shape[0], 8 : 8 + drawn.shape[1]] = drawn
    assert covers(find_text(np.minimum(pixels, 255 - full)), full > 127)


def test_letters_in_12_of_16_bits_are_found() -> None:
    drawn = ink(ImageFont.load_default_imagefont())
    pixels = slice_of().astype(np.uint16) * 4
    pixels[8 : 8 + drawn.shape[0], 8 : 8 + drawn.shape[1]][drawn > 0] = 4095
    assert find_text(pixels)


def test_what_is_blacked_out_holds_no_letters_any_more() -> None:
    drawn = ink(scalable(16))
    pixels = slice_of()
    pixels[4 : 4 + drawn.shape[0], 4 : 4 + drawn.shape[1]] = drawn
    masked = mask_text(pixels, find_text(pixels))
    assert not find_text(masked)
    assert masked[4 : 4 + drawn.shape[0], 4 : 4 + drawn.shape[1]].max() < 60


@pytest.mark.parametrize("name", NAMES)
def test_slices_without_letters_show_none(name: str) -> None:
    assert find_text(read_path(SAMPLES / name)[0].pixels) == []


@pytest.mark.parametrize("side", [256, 512])
def test_noise_is_no_writing(side: int) -> None:
    random = np.random.default_rng(1)
    air = random.rayleigh(10, (side, side))
    even = cv2.GaussianBlur(random.normal(size=(side, side)), (0, 0), 1) + 4
    for noise in (air, even):
        assert find_text(np.asarray(noise / noise.max() * 255, np.uint8)) == []


def test_line_that_fills_the_whole_row_ends_where_it_ends() -> None:
    """A row without a pixel beside the line has nothing to be compared with."""
    drawn = ink(scalable(16))
    pixels = np.zeros((200, drawn.shape[1]), np.uint8)
    pixels[4 : 4 + drawn.shape[0]] = drawn
    assert find_text(pixels)


def test_second_slice_of_a_montage_is_no_writing() -> None:
    """Rows of specks in a head count for little, whichever head it is."""
    pair = np.hstack([slice_of(NAMES[0], 256), slice_of(NAMES[9], 256)])
    assert find_text(pair) == []
