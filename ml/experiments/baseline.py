"""The baseline: a classifier without a network, on twelve statistics of each picture.

If the classes of a collection come from different hospitals, brightness and texture alone separate
them. A network could reach the baseline's accuracy without recognising tumours. So its accuracy is
meaningful only as far as it exceeds the baseline's, on the same folds, and where source and class
do not coincide.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm import tqdm

from ml.dataset import Entry, Split, content_hash, folds_against_source, folds_by_group
from ml.dataset.pixels import named
from ml.errors import UnreadableImage
from ml.evaluation.metrics import Floats, classification_figures
from ml.experiments.baseline_statistics import STATISTICS, file_statistics, statistics
from ml.imaging import read_path
from ml.imaging.slices import Pixels
from ml.labels import INDEX, LABELS
from ml.preprocess import head_crop
from ml.training.augmentation import augment

SIZE = 176  # px; side of the prepared slice, as for the networks
KINDS = {
    "raw": "the file as it is",
    "prepared": "the prepared slice",
    "augmented": "the prepared slice, augmented as in training",
}
# Augmented versions of each slice: the last is for testing, the others for training.
_DRAWS = 3
_BATCH = 32  # slices augmented together, as in training, because they exchange histograms
_SEED = 20261123

Float = np.float32
Features = npt.NDArray[np.float32]


def baseline_figures(
    entries: list[Entry],
    *,
    folds: int,
    seed: int,
    kinds: Collection[str] = tuple(KINDS),
    elsewhere: Sequence[Entry] = (),
    size: int = SIZE,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Cross-validate the baseline by group, for each kind of picture.

    ``against_source`` has the same figures for folds in which a slice's source predicts no class or
    the wrong one, see :func:`ml.dataset.folds_against_source`; None if no source has slices both
    with and without tumours. ``elsewhere`` is another collection on which the baseline, fitted on
    all of ``entries``, is tested.

    Raises:
        UnreadableImage: a file cannot be read; the message names it.
        InvalidManifest: see :func:`ml.dataset.folds_by_group`.
    """
    splits = folds_by_group(entries, folds=folds, seed=seed)
    against = folds_against_source(splits)
    features = read_features(entries, kinds=kinds, size=size, cache=cache)
    other = read_features(list(elsewhere), kinds=kinds, size=size) if elsewhere else None
    measured: dict[str, Any] = {}
    for kind in kinds:
        mine = features[kind]
        parts = measured[kind] = {
            "folds": _measured(entries, _cross_validated(entries, splits, mine)),
            "against_source": None,
        }
        if against:
            chances = _cross_validated(entries, against, mine)
            parts["against_source"] = _measured(entries, chances)
        if other is not None:
            chances = _chances(_fitted(mine, entries), other[kind][-1])
            parts["elsewhere"] = _measured(list(elsewhere), chances)
    commonest = max(sum(entry.label is label for entry in entries) for label in LABELS)
    return {
        "statistics": list(STATISTICS),
        "folds": folds,
        "seed": seed,
        "size": size,
        "commonest_class": commonest / len(entries),
        "kinds": measured,
    }


def baseline_probabilities(
    entries: list[Entry],
    folds: list[Split],
    *,
    kind: str = "prepared",
    size: int = SIZE,
    cache: Path | None = None,
) -> Floats:
    """(N, 4) probabilities of the baseline for each entry, from the fold that measures it.

    It is trained on the training and calibration parts, as it needs no calibration. NaN for
    entries that no fold measures.

    Raises:
        UnreadableImage: a file cannot be read; the message names it.
    """
    features = read_features(entries, kinds=(kind,), size=size, cache=cache)
    return _cross_validated(entries, folds, features[kind])


def read_features(
    entries: list[Entry],
    *,
    kinds: Collection[str] = tuple(KINDS),
    size: int = SIZE,
    cache: Path | None = None,
) -> dict[str, Features]:
    """Statistics (draws, N, 12) for each of ``kinds``; one draw for all but ``augmented``.

    Args:
        kinds: some of :data:`KINDS`; augmenting takes most of the time.
        cache: a ``.npz`` file with the results; it is rebuilt if it is damaged or was made from
            other files or another size.

    Raises:
        UnreadableImage: a file cannot be read; the message names it.
    """
    key = _key(entries, size)
    kept = _kept(cache, key) if cache is not None else {}
    missing = [kind for kind in kinds if kind not in kept]
    if missing:
        kept |= _computed(entries, missing, size)
        if cache is not None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            arrays: dict[str, Any] = {"key": np.array(key), **kept}
            with cache.open("wb") as file:
                np.savez_compressed(file, **arrays)
    return {kind: kept[kind] for kind in kinds}


def table(figures: Mapping[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [
        f"commonest class: {figures['commonest_class']:.1%} of the slices",
        f"{'':12s}{'measured':16s}{'n':>6s}{'accuracy':>24s}{'balanced':>10s}{'tumour AUROC':>24s}",
    ]
    for kind, parts in figures["kinds"].items():
        for name, part in parts.items():
            if part is not None:
                lines.append(f"{kind:12s}{name.replace('_', ' '):16s}{_row(part)}")
    return "\n".join(lines)


def _row(part: Mapping[str, Any]) -> str:
    intervals = part["intervals_95"]
    accuracy = f"{part['accuracy']:.3f} {_range(intervals['accuracy'])}"
    auroc = "-"
    if part["auroc_tumor"] is not None:
        auroc = f"{part['auroc_tumor']:.3f} {_range(intervals['auroc_tumor'])}"
    return f"{part['n']:6d}{accuracy:>24s}{part['balanced_accuracy']:10.3f}{auroc:>24s}"


def _range(interval: Sequence[float]) -> str:
    return f"({interval[0]:.3f} to {interval[1]:.3f})"


def _computed(entries: list[Entry], kinds: Collection[str], size: int) -> dict[str, Features]:
    found = {
        kind: np.empty((_DRAWS if kind == "augmented" else 1, len(entries), len(STATISTICS)), Float)
        for kind in kinds
    }
    bar = tqdm(total=len(entries), desc="reading statistics", unit="slice", disable=None)
    for number, batch in enumerate(_batches(len(entries))):
        files = [_pixels(entries[index].path) for index in batch]
        if "raw" in found:
            found["raw"][0, batch] = [file_statistics(pixels) for pixels in files]
        if "prepared" in found or "augmented" in found:
            images = np.stack([head_crop(pixels, size).image for pixels in files])
            for kind in found.keys() - {"raw"}:
                found[kind][:, batch] = _drawn(images, number if kind == "augmented" else None)
        bar.update(len(batch))
    bar.close()
    return found


def _drawn(images: Features, seed: int | None) -> list[list[Features]]:
    """Statistics of prepared slices (N, S, S); augmented several times if a seed is given."""
    if seed is None:
        return [[statistics(image) for image in images]]
    generator = torch.Generator().manual_seed(_SEED + seed)
    batch = torch.from_numpy(images)[:, None]
    draws = (augment(batch, generator)[0][:, 0].numpy() for _ in range(_DRAWS))
    return [[statistics(image) for image in draw] for draw in draws]


def _pixels(path: Path) -> Pixels:
    """A file's pixels; not blank, so that they can be prepared."""
    with named(path):
        pixels = read_path(path)[0].pixels
    if pixels.max() == pixels.min():
        raise UnreadableImage("blank", f"{path} is blank.")
    return pixels


def _batches(count: int) -> Iterator[npt.NDArray[np.int64]]:
    """All indices in random order, so that batches mix the classes."""
    order = np.random.default_rng(_SEED).permutation(count)
    for start in range(0, count, _BATCH):
        yield order[start : start + _BATCH]


def _key(entries: list[Entry], size: int) -> str:
    """The cache key: a hash of the files' contents in order, and the size."""
    digest = hashlib.sha256(f"{size} {_DRAWS} {_SEED} {STATISTICS}".encode())
    for entry in entries:
        digest.update(content_hash(entry.path).encode())
    return digest.hexdigest()


def _kept(cache: Path, key: str) -> dict[str, Features]:
    """The cached statistics for ``key``; empty without a valid cache."""
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            same = str(kept["key"]) == key
            return {kind: kept[kind] for kind in KINDS if same and kind in kept}
    except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile):
        return {}


def _cross_validated(entries: list[Entry], folds: list[Split], features: Features) -> Floats:
    row = {entry: index for index, entry in enumerate(entries)}
    chances = np.full((len(entries), len(LABELS)), np.nan)
    for split in folds:
        learnt = split.training + split.calibration
        fitted = _fitted(features[:, [row[entry] for entry in learnt]], learnt)
        measured = [row[entry] for entry in split.validation]
        chances[measured] = _chances(fitted, features[-1, measured])
    return chances


def _fitted(features: Features, entries: Sequence[Entry]) -> HistGradientBoostingClassifier:
    """Fit to all draws (D, N, 12) except the last, or to the only one."""
    learnt = features[: max(1, len(features) - 1)]
    labels = np.tile([INDEX[entry.label.value] for entry in entries], len(learnt))
    classifier = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.08, early_stopping=False, random_state=_SEED
    )
    return classifier.fit(learnt.reshape(-1, learnt.shape[-1]), labels)


def _chances(fitted: HistGradientBoostingClassifier, features: Features) -> Floats:
    """(N, 4) probabilities; zero for a class that is missing in training."""
    chances = np.zeros((len(features), len(LABELS)))
    chances[:, fitted.classes_] = fitted.predict_proba(features)
    return chances


def _measured(entries: list[Entry], chances: Floats) -> dict[str, Any]:
    """Figures of the entries that were measured."""
    rows = np.flatnonzero(~np.isnan(chances[:, 0]))
    wanted = np.array([INDEX[entries[row].label.value] for row in rows])
    return classification_figures(chances[rows], wanted, [entries[row].group for row in rows])
