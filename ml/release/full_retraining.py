"""Retrain the last layers on a snapshot's slices beside some of the base collection."""

import csv
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ml.architectures import Network
from ml.dataset import Entry, Split, split_as_kept, without_mirrored_twins
from ml.dataset.snapshot import HOLDOUT_FOLDS, fold_of
from ml.errors import InvalidConfiguration, InvalidManifest, InvalidModel
from ml.files import stage
from ml.registry import read_card, write_card
from ml.release.features import exact_engine, features_of
from ml.release.head import Local, check_groups
from ml.release.inspection import inspect, issue_facts
from ml.release.label_issues import write_label_issues
from ml.release.material import ISSUES, Material, history, measured, name_candidate
from ml.release.packaging import measure_model, package, reference_features, said_unseen
from ml.release.progress import Progress
from ml.release.replay import Replay, drawn, load_replay, make_replay
from ml.training.recipe import Recipe, Stage, kept_values
from ml.training.trainer import LOG, Trained, train
from ml.uncertainty.doubt import Doubt

# What 300 slices bear on two cores: the frozen layers see each slice once a variant.
_EPOCHS = 4
_VARIANTS = 2
_BASE_FOR_EACH = 3  # slices of the base beside each of the snapshot
_FEWEST_BASE = 600
_CALIBRATION_FOLD = HOLDOUT_FOLDS  # the first of those that are learnt from otherwise


@dataclass(frozen=True)
class Parts:
    """What is done with both collections' slices.

    Attributes:
        split: training, calibration and, of the snapshot alone, what is held out.
        local: the snapshot's slices of the training part.
    """

    split: Split
    local: list[Entry]


def retrain_layers(material: Material, progress: Progress) -> Path:
    """Train the last layers; return the card of the candidate.

    Raises:
        InvalidConfiguration: the base collection is not named.
        InvalidManifest: it is another one, or no group of the snapshot is left to calibrate on.
        Cancelled: it is not wanted any more.
    """
    if material.order.base is None:
        raise InvalidConfiguration("--mode full learns beside the base collection: name --base.")
    check_groups(one.group for one in material.learnt)
    folder = material.order.folder
    base = split_as_kept(list(material.order.base), material.model.card)
    issues = folder / "labels"
    stage(issues, lambda where: _look_at_labels(material, base, where, progress))
    shutil.copy(issues / ISSUES, folder / ISSUES)
    found = read_card(issues / "issues.json")
    parts = _parts(material, base, {one["sha256"] for one in found["slices"] if not one["learnt"]})
    recipe = last_recipe(material)
    calibrated = folder / "calibrated"

    def make(where: Path) -> None:
        trained = train(
            recipe,
            parts.split.training,
            parts.split.calibration,
            folder=folder / "training",
            told=_with_epochs(progress, folder / "training" / LOG),
        )
        _package(material, trained, recipe, parts, found, where)

    def measure(where: Path) -> None:
        with measured(material, calibrated, where, progress) as card:
            measure_model(card, parts.split, quantised=True)

    stage(calibrated, make)
    stage(folder / "model", measure)
    return material.candidate


def _with_epochs(progress: Progress, log: Path) -> Callable[[str, int, int], None]:
    """Tells with each step what the trainer's log says of the epochs that have ended."""

    def told(step: str, done: int, total: int) -> None:
        progress.tell(step, done, total, epochs=_epochs(log))

    return told


def _epochs(log: Path) -> list[dict[str, float]]:
    if not log.exists():
        return []
    with log.open(newline="") as file:
        found = [
            {name: float(row[name]) for name in ("loss", "held_out_accuracy")}
            for row in csv.DictReader(file)
        ]
    # JSON knows no NaN.
    return [one for one in found if all(math.isfinite(value) for value in one.values())]


def last_recipe(material: Material) -> Recipe:
    """The last step of the model's own recipe, with few epochs and its last layers alone."""
    card = material.model.card
    told: dict[str, Any] = card["training"]
    while "head" in told:  # a head that was fitted anew: what it started from
        told = told["started_from"]["training"]
    while "after" in told:
        told = told["after"]
    if told.get("architecture") != card["architecture"]:
        told = {}
    known = {one.name for one in fields(Recipe)}
    values = {name: value for name, value in kept_values(told).items() if name in known}
    size = int(card["input"]["size"])
    return Recipe(
        **values
        | {
            "architecture": card["architecture"],
            "preprocessing": card["input"]["preprocessing"],
            "start": str(material.order.card),
            "start_name": "",
            "stages": (Stage(size, _EPOCHS),),
            "input_size": size,
            "flip": bool(card["input"].get("both_sides", False)),
            "frozen": _frozen(material.model.network),
            "variants": _VARIANTS,
        }
    )


def _frozen(network: Network) -> int:
    """As many layers as the network can keep, or all but its last quarter."""
    if network.most_frozen is not None:
        return network.most_frozen
    return len(network.features) - len(network.last_layers)


def _parts(material: Material, base: Split, left_out: set[str]) -> Parts:
    learnt = [one for one in material.learnt if fold_of(one.group) != _CALIBRATION_FOLD]
    calibration = [one for one in material.learnt if fold_of(one.group) == _CALIBRATION_FOLD]
    learnt = [one for one in learnt if one.sha256 not in left_out]
    if not calibration or not learnt:
        raise InvalidManifest("The snapshot's groups are too few to learn from and calibrate on.")
    most = max(_FEWEST_BASE, _BASE_FOR_EACH * len(learnt))
    known = sorted(without_mirrored_twins(base.training), key=drawn)[:most]
    split = Split(
        training=[*learnt, *known],
        calibration=[*calibration, *base.calibration],
        validation=material.snapshot.holdout,
    )
    return Parts(split, learnt)


def _look_at_labels(material: Material, base: Split, where: Path, progress: Progress) -> None:
    """List the labels that heads which leave groups out contradict."""
    model = material.model
    replay = _replay(material, base, progress)
    watch = progress.step("features in float32")
    exact = features_of(exact_engine(model), model, material.learnt, watch)
    inspected = inspect(material, replay, Local(exact, [exact]), progress)
    handling = material.order.label_issues
    write_label_issues(where / ISSUES, inspected.issues, handling=handling)
    write_card(issue_facts(material, inspected), where / "issues.json")


def _replay(material: Material, base: Split, progress: Progress) -> Replay:
    """Replayed features that lie beside the weights, or of some slices of the base."""
    try:
        return load_replay(material.order.card, material.model)
    except InvalidModel:
        return make_replay(
            material.model,
            base,
            lambda part: progress.step(f"features of the {part}"),
            learnt=_FEWEST_BASE,
            unlearnt=_FEWEST_BASE,
        )


def _package(
    material: Material,
    trained: Trained,
    recipe: Recipe,
    parts: Parts,
    issues: dict[str, Any],
    where: Path,
) -> None:
    """Fit doubt in float32 and write weights and card."""
    model, split = material.model, parts.split
    reference = reference_features(trained.network, recipe, split.training, exact=True)
    said = said_unseen(trained.network, recipe, reference, split.calibration, exact=True)
    facts = history(material, parts.local) | {
        "operating_points": model.card.get("operating_points", {}),
        "data": model.card["data"],
        "label_issues": issues,
    }
    path = package(
        trained,
        recipe,
        split,
        folder=where,
        stem=material.stem,
        facts=facts,
        doubt=Doubt.fit(said, reference),
    )
    # Held out of the base is what always was; of the snapshot tells its own entry.
    write_card(read_card(path) | {"split": model.card["split"]}, path)
    name_candidate(path)
