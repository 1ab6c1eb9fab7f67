"""Sensitivity and false alarm rate of the checks for damaged images.

Damages real images in ways that occur in practice: rows of a wrong length, a JPEG 2000 stream
whose end was never written, a truncated JPEG that a decoder filled with grey and saved again.

    .venv/bin/python -m benchmarks.damage --data-root FOLDER [--every 1]
"""

import argparse
import csv
import io
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from openjpeg.utils import encode_array
from PIL import Image, ImageFile

from ml.imaging import read_path
from ml.imaging.jpeg2000 import has_gap
from ml.imaging.rows import missing_rows, row_length
from ml.imaging.slices import Pixels
from ml.preprocess import to_grey

WRONG_BY = (-40, -8, -2, -1, 1, 2, 8, 40)  # columns
RATES = (1, 5, 10, 20)  # compression ratios; 1 is lossless
KEPT = (0.95, 0.8, 0.5)  # share of a file that was written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--every", type=int, default=1, help="of the pictures, one in so many")
    options = parser.parse_args()
    noticed: dict[str, list[bool]] = defaultdict(list)
    alarms: dict[str, list[bool]] = defaultdict(list)
    seconds = []
    for number, (source, pixels) in enumerate(images(options.data_root, options.every)):
        started = time.perf_counter()
        alarms[f"rows, {source}"].append(row_length(pixels) != pixels.shape[1])
        seconds.append(time.perf_counter() - started)
        alarms[f"missing rows, {source}"].append(missing_rows(to_grey(pixels)) > 0)
        if source.endswith("volumes"):
            damage_streams(pixels, noticed, alarms)
        if number % 10 == 0:
            damage_rows(pixels, noticed)
            damage_picture(pixels, noticed)
    for title, groups in (("damage noticed", noticed), ("whole images called damaged", alarms)):
        print(title)
        for name, results in groups.items():
            print(f"  {name:42s} {sum(results):5d} of {len(results):5d}")
    print(f"\nlength of rows: median {1000 * np.median(seconds):.2f} ms")


def images(root: Path, every: int) -> Iterator[tuple[str, Pixels]]:
    """(source, grey pixels) of all images that are not blank."""
    volumes = [*(root / "nifti-glioma").glob("*/*.gz"), *(root / "dicom-t1-healthy").glob("*.dcm")]
    for path in sorted(volumes):
        for one in read_path(path):
            if one.pixels.max() > one.pixels.min():
                yield "outlines" if "Mask" in path.name else "volumes", one.pixels
    with (root / "brain-mri" / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pictures = [root / "brain-mri" / row["path"] for row in rows[::every]]
    for path in sorted([*pictures, *(root / "originals-512").glob("*/*.jpg")]):
        yield "pictures", np.asarray(np.rint(to_grey(read_path(path)[0].pixels)), np.uint8)


def damage_rows(pixels: Pixels, noticed: dict[str, list[bool]]) -> None:
    """Reshape the values of ``pixels`` into rows of a wrong length and check the result."""
    for wrong in WRONG_BY:
        width = pixels.shape[1] + wrong
        height = pixels.size // width
        sheared = pixels.ravel()[: height * width].reshape(height, width)
        noticed[f"rows of {wrong:+d} columns"].append(row_length(sheared) != width)


def damage_streams(
    pixels: Pixels, noticed: dict[str, list[bool]], alarms: dict[str, list[bool]]
) -> None:
    """Check JPEG 2000 streams, both complete and with zeros at the end."""
    for rate in RATES:
        lossy = {} if rate == 1 else {"compression_ratios": [4.0 * rate, float(rate)]}
        stream = encode_array(pixels, bits_stored=16, photometric_interpretation=2, **lossy)
        alarms[f"JPEG 2000, 1 : {rate}"].append(has_gap(stream))
        for share in KEPT:
            written = int(share * len(stream))
            damaged = stream[:written] + bytes(len(stream) - written - 2) + b"\xff\xd9"
            noticed[f"JPEG 2000, zeros after {share:.0%}"].append(has_gap(damaged))


def damage_picture(pixels: Pixels, noticed: dict[str, list[bool]]) -> None:
    """Check JPEG pictures that were truncated, decoded anyway and saved again."""
    levels = np.asarray(to_grey(pixels) * (255 / max(1.0, float(pixels.max()))), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=90)
    content = buffer.getvalue()
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    for share in KEPT[1:]:
        with Image.open(io.BytesIO(content[: int(share * len(content))])) as image:
            filled = np.asarray(image, np.float32)
        noticed[f"picture filled up after {share:.0%}"].append(missing_rows(filled) > 0)
        zeroed = np.asarray(to_grey(pixels)).copy()
        zeroed[int(share * len(zeroed)) :] = 0
        noticed[f"picture of zeros after {share:.0%}"].append(missing_rows(zeroed) > 0)
    ImageFile.LOAD_TRUNCATED_IMAGES = False


if __name__ == "__main__":
    main()
