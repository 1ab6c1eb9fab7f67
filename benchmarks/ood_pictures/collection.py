"""All drawn pictures: the same on every machine, as files that ``python -m ml ood`` takes."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from benchmarks.ood_pictures.drawings import drawings
from benchmarks.ood_pictures.medical import medical
from benchmarks.ood_pictures.photographs import photographs
from benchmarks.ood_pictures.pictures import Drawn
from benchmarks.ood_pictures.writing import writing
from ml.evaluation.ood.collection import OODPicture, write_collection
from ml.imaging.pictures import encode_png


def drawn_pictures() -> list[Drawn]:
    """All of them, in a fixed order.

    Raises:
        SulcusMLError: scikit-image, or a picture that a package should ship, is missing.
    """
    return list(chain(photographs(), medical(), drawings(), writing()))


def write_pictures(pictures: Sequence[Drawn], folder: Path) -> Path:
    """Write every picture as a PNG, and ``pictures.csv`` that lists them; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for number, one in enumerate(tqdm(pictures, "writing", unit="picture", disable=None)):
        path = folder / f"{number:03}.png"
        path.write_bytes(encode_png(one.pixels))
        listed.append(OODPicture(path, one.kind, one.source))
    manifest = folder / "pictures.csv"
    write_collection(manifest, listed)
    return manifest
