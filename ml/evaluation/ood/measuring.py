"""How many OOD pictures and how many brain slices are called unfamiliar, by kind and source."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ml.dataset import Entry
from ml.dataset.out_of_scope import OutOfScope
from ml.dataset.pixels import named, pixels_of
from ml.errors import InvalidManifest, UnreadableImage
from ml.evaluation.ood.collection import OODPicture, held_out_sources
from ml.imaging import square_pixels
from ml.imaging.pictures import Pixels
from ml.imaging.studies import read_study
from ml.preprocess import head_mask, to_grey
from ml.serving.predictor import Predictor, Result

_BATCH = 16
_HEAD_SHARE = 0.5  # of the volume's largest head area, in a slice that shows brain


@dataclass(frozen=True)
class Shown:
    """A picture and what it counts for.

    Attributes:
        groups: names of the lines in which it is counted.
    """

    pixels: Pixels
    groups: tuple[str, ...]


def measure_ood(
    predictor: Predictor,
    pictures: Sequence[OODPicture],
    entries: Sequence[Entry],
    volumes: Sequence[Path],
) -> dict[str, Any]:
    """Figures of the ``ood`` command.

    A picture that cannot be classified at all because it is blank counts as flagged.

    Args:
        pictures: no MRI of a brain.
        entries: brain slices; those with an identifier of the figshare set are one source.
        volumes: studies of brains, one a source; of each the slices that show half of the
            volume's largest head area or more are counted.

    Raises:
        SulcusMLError: a picture or file is missing or cannot be read.
    """
    held_out = held_out_sources(pictures)
    shown = (
        Shown(one.pixels(), (one.kind, "held out" if one.source in held_out else "tuned on"))
        for one in pictures
    )
    brains = list(_slices(entries))
    for folder in volumes:
        brains += _brain_slices(folder)
    return {
        "model": predictor.name,
        "ood": _flagged(predictor, shown, len(pictures)),
        "brain": _flagged(predictor, (one() for one in brains), len(brains)),
    }


def measure_out_of_scope(predictor: Predictor, slices: Sequence[OutOfScope]) -> dict[str, Any]:
    """How many of a snapshot's slices of none of the classes are flagged, by finding.

    Raises:
        UnreadableImage: a file cannot be read.
    """
    shown = (Shown(one.pixels(), (one.finding or "unnamed",)) for one in slices)
    return _flagged(predictor, shown, len(slices))


def table(figures: dict[str, Any]) -> str:
    """The shares as lines of text."""
    lines = []
    for part, words in (
        ("ood", "out-of-distribution pictures flagged"),
        ("brain", "brain slices flagged"),
    ):
        for name, found in figures[part]["by_group"].items():
            lines.append(f"  {name:46}{found['flagged']:5} of {found['n']:5}")
        whole = figures[part]
        share = whole["flagged"] / whole["n"]
        lines.append(f"{words:48}{whole['flagged']:5} of {whole['n']:5}  {share:.1%}")
    return "\n".join(lines)


def _slices(entries: Sequence[Entry]) -> Iterator[Callable[[], Shown]]:
    for entry in entries:
        source = "figshare" if entry.original else "other sources"
        yield partial(_read, entry, source)


def _read(entry: Entry, source: str) -> Shown:
    with named(entry.path):
        return Shown(pixels_of(entry), (source,))


def _brain_slices(folder: Path) -> list[Callable[[], Shown]]:
    """The slices of a study that show brain."""
    slices = []
    for found in read_study(folder):
        if isinstance(found.slice, UnreadableImage):
            raise UnreadableImage(found.slice.code, f"{found.path}: {found.slice}")
        # A mask that lies beside its scan is no picture of a brain.
        if "_Mask" not in Path(found.path).name:
            slices.append(square_pixels(found.slice))
    if not slices:
        raise InvalidManifest(f"{folder} holds no slices.")
    areas = [_head_area(pixels) for pixels in slices]
    enough = _HEAD_SHARE * max(areas)
    return [
        partial(Shown, pixels, (folder.name,))
        for pixels, area in zip(slices, areas, strict=True)
        if area >= enough
    ]


def _head_area(pixels: Pixels) -> float:
    """The head's share of the picture; 0 for a blank one."""
    grey = to_grey(pixels)
    return float(head_mask(grey).mean()) if float(grey.max()) > float(grey.min()) else 0.0


def _flagged(predictor: Predictor, shown: Iterable[Shown], total: int) -> dict[str, Any]:
    counts: dict[str, list[bool]] = defaultdict(list)
    flags: list[bool] = []
    waiting = iter(shown)
    with tqdm(total=total, desc="looking", unit="picture", disable=None) as progress:
        while batch := list(islice(waiting, _BATCH)):
            for one, result in zip(
                batch, predictor.predict([b.pixels for b in batch]), strict=True
            ):
                unfamiliar = not isinstance(result, Result) or not result.in_distribution
                flags.append(unfamiliar)
                for group in one.groups:
                    counts[group].append(unfamiliar)
            progress.update(len(batch))
    return {
        "n": len(flags),
        "flagged": sum(flags),
        "by_group": {
            name: {"n": len(found), "flagged": sum(found)} for name, found in counts.items()
        },
    }
