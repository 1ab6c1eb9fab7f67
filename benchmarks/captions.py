"""Sensitivity and false alarm rate of the text detector on slices.

Draws random captions (font, height, position, rotation, colour, language) on real slices without
text and searches for them. Prints the share found, the share of those whose ink lies in the boxes,
and the false alarm rate on the unchanged slices.

    .venv/bin/python -m benchmarks.captions --data-root FOLDER [--captions 1500] [--free 600]
"""

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ml.imaging import read_path
from ml.imaging.burned_in import TextBox, find_text
from ml.imaging.montage import several_slices
from ml.imaging.slices import Pixels
from ml.preprocess import head_mask, to_grey

Ink = npt.NDArray[np.float32]  # (height, width), 0 for no ink, 1 for full ink
Random = np.random.Generator

SEED = 20261128
SIDES = (256, 512)  # px
HEIGHTS = (7, 9, 12, 16, 24)  # px of a capital
TURNS = (0, 0, 0, 90, 180, 270)  # degrees
_SHOWN = 0.9  # share of a caption's ink in boxes from which it counts as blacked out

TEXTS = {
    "latin": ("KOVARIK ILSE", "Smith^John", "17.04.1961", "ID 4711-083", "Acc: A2093377", "F 63Y"),
    "umlauts": ("MÜLLER JÖRG", "Žižka Přemysl", "Ångström Åsa"),
    "cyrillic": ("ИВАНОВ ПЁТР", "Больница 12"),
    "greek": ("ΠΑΠΑΔΟΠΟΥΛΟΣ", "Αθήνα 1961"),
}
_ASCII = "latin"

_TRUETYPE = {
    "sans": ("liberation/LiberationSans-Regular.ttf", "dejavu/DejaVuSans.ttf"),
    "serif": ("liberation/LiberationSerif-Regular.ttf", "dejavu/DejaVuSerif.ttf"),
    "mono": ("liberation/LiberationMono-Regular.ttf", "dejavu/DejaVuSansMono.ttf"),
    "bold": ("liberation/LiberationSans-Bold.ttf", "dejavu/DejaVuSans-Bold.ttf"),
}
_FONT_FOLDER = Path("/usr/share/fonts/truetype")
# Columns of a 5 x 7 character generator; the lowest bit is the top row.
_FIVE_BY_SEVEN = {
    "0": "3E5149453E", "1": "00427F4000", "2": "4261514946", "3": "2141454B31",
    "4": "1814127F10", "5": "2745454539", "6": "3C4A494930", "7": "0171090503",
    "8": "3649494936", "9": "064949291E", "A": "7E1111117E", "B": "7F49494936",
    "C": "3E41414122", "D": "7F4141221C", "E": "7F49494941", "F": "7F09090901",
    "G": "3E4149497A", "H": "7F0808087F", "I": "00417F4100", "J": "2040413F01",
    "K": "7F08142241", "L": "7F40404040", "M": "7F020C027F", "N": "7F0408107F",
    "O": "3E4141413E", "P": "7F09090906", "Q": "3E4151215E", "R": "7F09192946",
    "S": "4649494931", "T": "01017F0101", "U": "3F4040403F", "V": "1F2040201F",
    "W": "3F4038403F", "X": "6314081463", "Y": "0708700807", "Z": "6151494543",
    ".": "0060600000", "-": "0808080808", ":": "0036360000", "^": "0402010204",
}  # fmt: skip
FONTS = ("hershey", "bundled", "pixel 6x11", "pixel 5x7", "pixel sans", *_TRUETYPE)
_ASCII_FONTS = {"hershey", "pixel 6x11", "pixel 5x7"}

GREYS = {"white": 1.0, "grey": 0.6, "black on white": 0.0}
COLOURS = {
    "yellow": (1.0, 1.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "cyan": (0.0, 0.9, 1.0),
    "blue": (0.1, 0.2, 1.0),
}
MONTAGES = ((1, 2), (2, 1), (2, 2), (2, 3), (3, 3), (4, 5))  # rows, columns
PLACES = ("corner", "edge", "head", "head, outlined")


@dataclass(frozen=True)
class Caption:
    """Text, font, size, position and colour of one caption."""

    font: str
    script: str
    text: str
    height: int
    side: int
    place: str
    turn: int
    colour: str
    bits: int


@dataclass(frozen=True)
class Drawn:
    """A slice with a caption; ``ink`` marks the caption's pixels."""

    caption: Caption
    pixels: Pixels
    ink: npt.NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--captions", type=int, default=1500)
    parser.add_argument("--free", type=int, default=600, help="slices without text at most")
    parser.add_argument(
        "--montages", type=int, default=0, metavar="N", help="instead, N montages of each kind"
    )
    options = parser.parse_args()
    slices = list(text_free(options.data_root, options.free))
    if options.montages:
        report_montages(slices, options.montages)
        return
    report_captions([one for _source, one in slices], options.captions)
    report_false_alarms(slices)


def text_free(root: Path, at_most: int) -> Iterator[tuple[str, Pixels]]:
    """(source, pixels) of slices without text, including all slices of the volumes."""
    for path in sorted((root / "nifti-glioma").glob("*/*_Scan_*.nii.gz")):
        for one in read_path(path):
            if one.pixels.max() > one.pixels.min():
                yield "glioma volumes", one.pixels
    for path in sorted((root / "dicom-t1-healthy").glob("*.dcm")):
        yield "healthy volume", read_path(path)[0].pixels
    for path in sorted((root / "originals-512").glob("*/*.jpg")):
        yield "figshare, 512 px", read_path(path)[0].pixels
    # Scans of figshare carry no text; pictures of the other sources may.
    with (root / "brain-mri" / "manifest.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["mirrored"] == "0"]
    for row in rows[:: max(1, len(rows) // max(1, at_most))]:
        yield "figshare, 224 px", read_path(root / "brain-mri" / row["path"])[0].pixels


def captions(count: int, random: Random) -> Iterator[Caption]:
    """Captions with each font equally often and all other properties random."""
    for number in range(count):
        font = FONTS[number % len(FONTS)]
        script = _ASCII if font in _ASCII_FONTS else str(random.choice(list(TEXTS)))
        place = str(random.choice(PLACES, p=(0.4, 0.3, 0.15, 0.15)))
        colour = str(random.choice([*GREYS, *COLOURS], p=(0.4, 0.15, 0.1, *[0.07] * 5)))
        if colour == "black on white":
            place = "corner"
        yield Caption(
            font=font,
            script=script,
            text=str(random.choice(TEXTS[script])),
            height=int(random.choice(HEIGHTS)),
            side=int(random.choice(SIDES)),
            place=place,
            turn=int(random.choice(TURNS)),
            colour=colour,
            bits=int(random.choice((8, 16))),
        )


def ink_of(caption: Caption) -> Ink:
    """The caption alone, upright and cropped to its ink."""
    if caption.font == "pixel 5x7":
        return _enlarged(_five_by_seven(caption.text), caption.height, 7)
    if caption.font == "pixel 6x11":
        font = ImageFont.load_default_imagefont()
        return _enlarged(_rendered(caption.text, font), caption.height, 7)
    if caption.font == "hershey":
        return _hershey(caption.text, caption.height)
    name = caption.font
    if name == "bundled":
        return _rendered(caption.text, _of_height("", caption.height))
    files = _TRUETYPE["sans" if name == "pixel sans" else name]
    file = files[len(caption.text) % len(files)]
    return _rendered(caption.text, _of_height(file, caption.height), smooth=name != "pixel sans")


def drawn(caption: Caption, pixels: Pixels, random: Random) -> Drawn:
    """Draw the caption on the slice scaled to its side, shifted if needed so that it fits."""
    canvas = _levels(pixels, caption.side)
    ink = np.rot90(ink_of(caption), caption.turn // 90)
    if max(ink.shape) > caption.side - 8:
        return drawn(replace(caption, text=caption.text[: len(caption.text) // 2]), pixels, random)
    top, left = _corner(caption, ink.shape, random)
    where = np.s_[top : top + ink.shape[0], left : left + ink.shape[1]]
    full = np.zeros(canvas.shape, np.float32)
    full[where] = ink
    if caption.colour == "black on white":
        pad = max(2, caption.height // 3)
        canvas[
            max(0, top - pad) : top + ink.shape[0] + pad,
            max(0, left - pad) : left + ink.shape[1] + pad,
        ] = 1
    if caption.place == "head, outlined":
        canvas *= 1 - cv2.dilate(full, np.ones((3, 3), np.uint8))
    if caption.colour in GREYS:
        canvas = canvas * (1 - full) + GREYS[caption.colour] * full
    else:
        colour = np.array(COLOURS[caption.colour], np.float32)
        canvas = canvas[..., None] * (1 - full[..., None]) + colour * full[..., None]
    place = caption.place
    if place in {"corner", "edge"}:
        head = head_mask(_levels(pixels, caption.side))
        touched = float(head[full > 0.5].mean()) if head.mean() < 0.9 else 0.0
        place = place if touched < 0.05 else "beside, touching the head"
    top_value = 255 if caption.bits == 8 else 4095
    stored = np.rint(canvas * top_value).astype(np.uint8 if caption.bits == 8 else np.uint16)
    return Drawn(replace(caption, place=place), stored, full > 0.5)


def report_captions(slices: Sequence[Pixels], count: int) -> None:
    """Print the share of captions found, by each property."""
    random = np.random.default_rng(SEED)
    found: dict[str, dict[str, list[tuple[bool, bool]]]] = defaultdict(lambda: defaultdict(list))
    seconds = defaultdict(list)
    for caption in captions(count, random):
        one = drawn(caption, slices[int(random.integers(len(slices)))], random)
        started = time.perf_counter()
        boxes = find_text(one.pixels)
        seconds[f"{caption.side} px"].append(time.perf_counter() - started)
        share = _share_in(boxes, one.ink)
        result = (share > 0, share >= _SHOWN)
        outside = one.caption.place in {"corner", "edge"}
        large = caption.height >= 9
        at = "outside the head" if outside else "on the head or touching it"
        found["all"][f"{at}, {'from 9 px' if large else '7 px'}"].append(result)
        found["place"][one.caption.place].append(result)
        if not outside or not large:
            continue
        for name, value in (
            ("font", caption.font),
            ("script", caption.script),
            ("height", f"{caption.height:2d} px"),
            ("side", f"{caption.side} px"),
            ("turn", f"{caption.turn:3d} degrees"),
            ("colour", caption.colour),
            ("bits", f"{caption.bits:2d} bit"),
        ):
            found[name][value].append(result)
    for name, groups in found.items():
        where = "" if name in {"all", "place"} else " (outside the head, from 9 px)"
        print(f"\n{name}{where}: found, blacked out")
        for value, results in sorted(groups.items()):
            hits, whole = (sum(result[at] for result in results) for at in (0, 1))
            print(
                f"  {value:42s} {hits:5d} of {len(results):5d} {hits / len(results):7.1%}"
                f" {whole / len(results):7.1%}"
            )
    print("\ntime a slice")
    for side, times in sorted(seconds.items()):
        print(f"  {side:42s} median {1000 * np.median(times):6.1f} ms")


def report_false_alarms(slices: Sequence[tuple[str, Pixels]]) -> None:
    """Print the share of slices without text in which text is detected."""
    alarms: dict[str, list[bool]] = defaultdict(list)
    for source, pixels in slices:
        alarms[source].append(bool(find_text(pixels)))
    print("\nslices without text: false alarms")
    for source, results in [*alarms.items(), ("all", list(chain(*alarms.values())))]:
        share = sum(results) / max(1, len(results))
        print(f"  {source:42s} {sum(results):5d} of {len(results):5d} {share:7.1%}")


def report_montages(slices: Sequence[tuple[str, Pixels]], each: int) -> None:
    """Print the share of montages and of single slices that are classified as several slices."""
    random = np.random.default_rng(SEED)
    print("\nmontages called several slices")
    for rows, columns in MONTAGES:
        for gap, level in ((0, 0), (4, 0), (4, 1)):
            hits = 0
            for _ in range(each):
                side = max(96, 512 // max(rows, columns))
                chosen = random.integers(len(slices), size=rows * columns)
                tiles = [_levels(slices[at][1], side) for at in chosen]
                tiles = [np.pad(one, ((0, gap), (0, gap)), constant_values=level) for one in tiles]
                lines = [np.hstack(tiles[at * columns :][:columns]) for at in range(rows)]
                hits += several_slices(np.asarray(np.vstack(lines) * 255, np.uint8)) > 1
            name = f"{rows} x {columns}, gap {gap} px, {'white' if level else 'black'}"
            print(f"  {name:42s} {hits:5d} of {each:5d} {hits / each:7.1%}")
    print("\nsingle slices called several")
    alarms: dict[str, list[bool]] = defaultdict(list)
    for source, pixels in slices:
        alarms[source].append(several_slices(pixels) > 1)
    for source, results in alarms.items():
        print(f"  {source:42s} {sum(results):5d} of {len(results):5d}")


def _share_in(boxes: Sequence[TextBox], ink: npt.NDArray[np.bool_]) -> float:
    """The share of the caption's ink that lies inside boxes."""
    inside = np.zeros_like(ink)
    for box in boxes:
        inside[box.top : box.bottom, box.left : box.right] = True
    return float(inside[ink].mean())


def _levels(pixels: Pixels, side: int) -> Ink:
    """The slice as grey in 0..1, scaled down and padded with black to a square."""
    grey = to_grey(pixels)
    low, high = float(grey.min()), float(np.percentile(grey, 99.9))
    levels = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)
    scale = 0.86 * side / max(levels.shape)
    levels = cv2.resize(levels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((side, side), np.float32)
    top, left = ((side - length) // 2 for length in levels.shape)
    canvas[top : top + levels.shape[0], left : left + levels.shape[1]] = levels
    return canvas


def _corner(caption: Caption, shape: tuple[int, ...], random: Random) -> tuple[int, int]:
    free = [caption.side - length - 4 for length in shape]
    if caption.place == "corner":
        return int(random.choice((4, free[0]))), int(random.choice((4, free[1])))
    if caption.place == "edge":
        along, near = int(random.integers(2)), int(random.integers(2))
        place = [int(random.integers(4, max(5, length + 1))) for length in free]
        place[along] = (4, free[along])[near]
        return place[0], place[1]
    return tuple(  # type: ignore[return-value]
        int(np.clip(length / 2 + random.normal() * 0.12 * caption.side, 4, max(4, length)))
        for length in free
    )


@cache
def _of_height(file: str, height: int) -> ImageFont.FreeTypeFont:
    """The font scaled to capitals ``height`` px high; Pillow's default font without a file."""
    sizes = [
        ImageFont.truetype(str(_FONT_FOLDER / file), size)
        if file
        else ImageFont.load_default(float(size))
        for size in range(height, 2 * height + 4)
    ]
    fonts = [font for font in sizes if isinstance(font, ImageFont.FreeTypeFont)]
    return min(fonts, key=lambda font: abs(_capital(font) - height))


def _capital(font: ImageFont.FreeTypeFont) -> float:
    _left, top, _right, bottom = font.getbbox("H")
    return bottom - top


def _rendered(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, *, smooth: bool = True
) -> Ink:
    _left, _top, right, bottom = (int(side) for side in font.getbbox(text))
    image = Image.new("L", (right + 4, bottom + 4))
    draw = ImageDraw.Draw(image)
    draw.fontmode = "L" if smooth else "1"
    draw.text((2, 2), text, fill=255, font=font)
    return _trimmed(np.asarray(image, np.float32) / 255)


def _hershey(text: str, height: int) -> Ink:
    thickness = max(1, round(height / 10))
    scale = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, height, thickness)
    (width, high), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    canvas = np.zeros((high + base + 8, width + 8), np.uint8)
    at, line = (4, high + 4), cv2.LINE_AA
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, line)
    return _trimmed(canvas.astype(np.float32) / 255)


def _five_by_seven(text: str) -> Ink:
    columns: list[int] = []
    for letter in text.upper():
        columns += [*bytes.fromhex(_FIVE_BY_SEVEN.get(letter, "0000000000")), 0]
    return np.array([[column >> row & 1 for column in columns] for row in range(8)], np.float32)


def _enlarged(ink: Ink, height: int, own: int) -> Ink:
    """Enlarge a pixel font by a whole factor."""
    factor = max(1, round(height / own))
    return np.kron(_trimmed(ink), np.ones((factor, factor), np.float32))


def _trimmed(ink: Ink) -> Ink:
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return np.ascontiguousarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


if __name__ == "__main__":
    main()
