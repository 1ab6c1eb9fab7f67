"""How often the watch raises an alarm: in weeks like the baseline, and in weeks of other input.

python -m benchmarks.drift --manifest brain-mri/manifest.csv [--seed N] [--cache FILE.npz]

A week is one random slice of each of so many patients. Patients of the baseline are in no week.
Weeks with other input are of the same patients: blurred, with inverted contrast, smaller and with
little contrast as children's heads in a large field of view, or in another plane. Everything goes
through the predictor that serves and the thresholds that are in force.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ml.dataset import Entry
from ml.dataset.manifest import read_manifest
from ml.dataset.pixels import pixels_of
from ml.dataset.reference import BUNDLED, MANIFEST
from ml.evaluation.drift import OWN, Level, compare, is_raised, levels_of
from ml.evaluation.observing import observed_path, read_observed
from ml.preprocess import PIPELINES, to_grey
from ml.registry import SERVING
from ml.serving.observation import Family, Sample, image_statistics, observe
from ml.serving.predictor import Predictor, Result

_FAMILIES = (Family.IMAGE, Family.FEATURES, Family.LABELS, Family.DOUBT)
_OF_A_PATIENT = 2  # slices that are observed; changed ones of every second patient

_EVERY, _TIMED, _ROUNDS = 20, 40, 7  # slices and repetitions that are timed
_COLUMNS = ("group", "plane", "figures", "label", "several", "unfamiliar")

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Study:
    group: str
    plane: str
    figures: npt.NDArray[np.float32]
    label: str
    several: bool
    unfamiliar: bool


def same(picture: Picture) -> Picture:
    return picture


def blurred(picture: Picture) -> Picture:
    """As by motion or a thick slice: Gaussian, 1 % of the picture's side."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(picture.shape) / 100), np.uint8)


def inverted(picture: Picture) -> Picture:
    """The head's contrast inverted, the air around it left dark."""
    head = cv2.morphologyEx(
        (picture > 20).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8)
    )
    return np.asarray(np.where(head > 0, 255 - picture, picture), np.uint8)


def paediatric(picture: Picture) -> Picture:
    """A head of three quarters of the size, with half the contrast."""
    height, width = picture.shape
    small = cv2.resize(picture, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    inside = small > 20
    level = float(small[inside].mean()) if inside.any() else 0.0
    flat = np.where(inside, level + 0.5 * (small - level), small).astype(np.uint8)
    canvas = np.zeros((height, width), np.uint8)
    top, left = (height - flat.shape[0]) // 2, (width - flat.shape[1]) // 2
    canvas[top : top + flat.shape[0], left : left + flat.shape[1]] = flat
    return canvas


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "same": same, "blurred": blurred, "inverted": inverted, "paediatric-like": paediatric,
}  # fmt: skip


def main() -> None:
    options = _options()
    if options.cost:
        _report_cost(options.manifest)
        return
    studies = _observed(options)
    published = read_observed(observed_path(SERVING), sha256=Predictor.load().sha256)
    print(f"seed {options.seed}, {options.studies} studies a week, {options.weeks} weeks each")
    random = np.random.default_rng(options.seed)
    patients = np.array(sorted({one.group for one in studies["same"]}))
    random.shuffle(patients)
    before, after = set(patients[: len(patients) // 2]), set(patients[len(patients) // 2 :])
    baseline = _sample(_draw(studies["same"], before, len(before), random))
    print(f"baseline: {len(baseline)} studies of other patients, all planes")
    for name, those in studies.items():
        _report(name, those, after, baseline, options, random)
    for plane in ("sagittal", "coronal", "axial"):
        those = [one for one in studies["same"] if one.plane == plane]
        _report(f"{plane} alone", those, after, baseline, options, random)
    axial = [one for one in studies["same"] if one.plane == "axial"]
    baseline = _sample(_draw(axial, before, len(before), random))
    print(f"baseline: {len(baseline)} studies, axial alone")
    for plane in ("axial", "sagittal", "coronal"):
        those = [one for one in studies["same"] if one.plane == plane]
        _report(plane, those, after, baseline, options, random)
    if published is not None:
        print(f"the published reference is of {len(published)} slices")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--manifest", type=Path, default=BUNDLED / MANIFEST)
    parser.add_argument("--weeks", type=int, default=20)
    parser.add_argument("--studies", type=int, default=40, help="in a week")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="keep what the predictor said there")
    parser.add_argument("--cost", action="store_true", help="only what observing a slice costs")
    return parser.parse_args()


def _report_cost(manifest: Path) -> None:
    """Time of the observation beside that of the whole answer, on the same slices, in turn."""
    predictor = Predictor.load()
    pipeline = PIPELINES[predictor.card["input"]["preprocessing"]]
    pictures = [pixels_of(one) for one in read_manifest(manifest)[::_EVERY]][:_TIMED]
    prepared = [pipeline(one, predictor.size) for one in pictures]
    answers, observations = [], []
    for _round in range(_ROUNDS):
        started = time.perf_counter()
        for start in range(0, len(pictures), 8):
            predictor.predict(pictures[start : start + 8])
        between = time.perf_counter()
        for picture, one in zip(pictures, prepared, strict=True):
            image_statistics(picture, one)
        answers.append((between - started) / len(pictures))
        observations.append((time.perf_counter() - between) / len(pictures))
    whole, part = min(answers), min(observations)
    print(
        f"{len(pictures)} slices, best of {_ROUNDS}: answer {whole * 1e3:.2f} ms, of it the "
        f"observation {part * 1e3:.2f} ms, {part / whole:.2%} ({predictor.engine})"
    )


def _observed(options: argparse.Namespace) -> dict[str, list[Study]]:
    if options.cache and options.cache.is_file():
        with np.load(options.cache) as kept:
            return {name: _unpacked(kept, name) for name in CHANGES}
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in read_manifest(options.manifest):
        groups[entry.group].append(entry)
    random = np.random.default_rng(0)
    few = {
        name: [those[n] for n in random.permutation(len(those))[:_OF_A_PATIENT]]
        for name, those in sorted(groups.items())
    }
    predictor = Predictor.load()
    found = {}
    for name, change in CHANGES.items():
        chosen = list(few.values()) if name == "same" else [one[:1] for one in few.values()][::2]
        entries = [one for those in chosen for one in those]
        found[name] = _ask(predictor, entries, change, name)
    if options.cache:
        columns = {
            f"{name} {column}": np.array([getattr(one, column) for one in those])
            for name, those in found.items()
            for column in _COLUMNS
        }
        np.savez(options.cache, **columns)
    return found


def _unpacked(kept: Mapping[str, npt.NDArray[Any]], name: str) -> list[Study]:
    columns = [kept[f"{name} {column}"] for column in _COLUMNS]
    return [
        Study(str(group), str(plane), figures, str(label), bool(several), bool(unfamiliar))
        for group, plane, figures, label, several, unfamiliar in zip(*columns, strict=True)
    ]


def _ask(
    predictor: Predictor, entries: Sequence[Entry], change: Callable[[Picture], Picture], name: str
) -> list[Study]:
    found = []
    for start in tqdm(range(0, len(entries), 8), name, disable=None):
        some = entries[start : start + 8]
        pictures = [change(to_grey(pixels_of(one)).astype(np.uint8)) for one in some]
        for entry, result in zip(some, predictor.predict(pictures), strict=True):
            if isinstance(result, Result):  # a refused slice is observed nowhere
                found.append(_study(entry, result))
    return found


def _study(entry: Entry, result: Result) -> Study:
    figures = observe(
        result.image_statistics,
        result.features,
        ood_score=result.ood_score,
        set_size=len(result.prediction_set),
        probabilities=result.probabilities,
    )
    several = len(result.prediction_set) != 1
    return Study(
        entry.group, entry.plane or "", figures, result.label.value, several,
        not result.in_distribution,
    )  # fmt: skip


def _draw(
    studies: Sequence[Study], patients: set[str], most: int, random: np.random.Generator
) -> list[Study]:
    """One random slice of each of at most so many patients."""
    groups: dict[str, list[Study]] = defaultdict(list)
    for one in studies:
        if one.group in patients:
            groups[one.group].append(one)
    names = sorted(groups)
    chosen = random.permutation(len(names))[:most]
    return [groups[names[n]][random.integers(len(groups[names[n]]))] for n in chosen]


def _sample(studies: Sequence[Study]) -> Sample:
    return Sample(
        np.stack([one.figures for one in studies]).astype(np.float32),
        tuple(one.label for one in studies),
        tuple(one.several for one in studies),
        tuple(one.unfamiliar for one in studies),
    )


def _report(
    name: str,
    studies: Sequence[Study],
    patients: set[str],
    baseline: Sample,
    options: argparse.Namespace,
    random: np.random.Generator,
) -> None:
    """Alarms in the first week, and in so many weeks one after the other."""
    first: dict[Family, int] = defaultdict(int)
    weeks_with: dict[Family, int] = defaultdict(int)
    largest: dict[str, float] = defaultdict(float)
    raised = dict.fromkeys(_FAMILIES, False)
    history: dict[Family, list[Level]] = defaultdict(list)
    any_first = any_week = 0
    for _week in range(options.weeks):
        week = _sample(_draw(studies, patients, options.studies, random))
        figures = compare(week, baseline, OWN, _FAMILIES)
        levels = levels_of([one.plain() for one in figures])
        alone = {one for one in _FAMILIES if is_raised(False, [levels[one]], is_over=True)}
        any_first += bool(alone)
        for one in _FAMILIES:
            history[one].append(levels[one])
            raised[one] = is_raised(raised[one], history[one], is_over=True)
            first[one] += one in alone
            weeks_with[one] += raised[one]
        any_week += any(raised.values())
        for figure in figures:
            largest[figure.statistic] = max(largest[figure.statistic], figure.distance)
    several = ", ".join(f"{one.value} {first[one]}/{weeks_with[one]}" for one in _FAMILIES)
    top = sorted(largest.items(), key=lambda pair: -pair[1])[:5]
    print(
        f"{name:16} weeks that alone raise an alarm: {any_first:2} of {options.weeks}; weeks with "
        f"one, by hysteresis: {any_week:2} ({several}); largest distances: "
        + ", ".join(f"{key} {value:.2f}" for key, value in top)
    )


if __name__ == "__main__":
    main()
