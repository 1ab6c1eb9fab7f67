"""Compare networks, and preprocessings of one of them, with equal folds, budget and measures."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from ml.architectures import ARCHITECTURES
from ml.dataset import Entry
from ml.errors import InvalidConfiguration
from ml.evaluation.cost import measure_cost
from ml.evaluation.metrics import Floats, classification_figures
from ml.evaluation.significance import Right, difference, holm
from ml.experiments.baseline import baseline_probabilities
from ml.experiments.crossvalidation import Fold, cross_validate, pooled, splits_by_group
from ml.labels import INDEX
from ml.training.configuration import from_table, read_toml
from ml.training.distributed import Distributed
from ml.training.recipe import Recipe, with_current_names

BASELINE = "baseline without a network"
# Fields that each network may set itself; all others are shared.
_OWN = ("architecture", "start", "start_name", "body_rate", "head_rate", "frozen", "weight_decay")


@dataclass(frozen=True)
class Candidate:
    """One row of the comparison."""

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class Comparison:
    """The candidates and the budget of a comparison.

    Attributes:
        networks: the first one is the reference.
        ablation: the reference with other preprocessings.
        measured_folds: number of ``folds`` to train and measure; 0 for all.
        slices_per_group, groups_per_class: maximum numbers; 0 for all.
    """

    networks: tuple[Candidate, ...]
    ablation: tuple[Candidate, ...]
    folds: int
    measured_folds: int
    slices_per_group: int
    groups_per_class: int
    seed: int

    @property
    def reference(self) -> Candidate:
        """The candidate that all others are compared with."""
        return self.networks[0]

    def starting_from(self, files: Mapping[str, str]) -> Self:
        """The same comparison with starting weights from ``files`` (network's name -> path).

        Raises:
            InvalidConfiguration: a network is unknown.
        """
        if strange := sorted(set(files) - {one.name for one in self.networks}):
            raise InvalidConfiguration(f"The comparison has no network {strange[0]!r}.")
        first = self.reference.name

        def moved(one: Candidate, name: str) -> Candidate:
            file = files.get(name)
            return one if file is None else replace(one, recipe=replace(one.recipe, start=file))

        return replace(
            self,
            networks=tuple(moved(one, one.name) for one in self.networks),
            ablation=tuple(moved(one, first) for one in self.ablation),
        )


@dataclass(frozen=True)
class _File:
    """The configuration as in the file."""

    recipe: dict[str, Any]
    networks: tuple[dict[str, Any], ...]
    ablation: tuple[str, ...] = ()
    folds: int = 5
    measured_folds: int = 0
    slices_per_group: int = 0
    groups_per_class: int = 0
    seed: int = 20261123


def read_comparison(path: Path) -> Comparison:
    """Read the configuration; ``ml/recipes/comparison.toml`` explains it.

    Raises:
        InvalidConfiguration: a field is unknown, missing or wrong.
    """
    file = from_table(_File, read_toml(path), where=str(path))
    if not file.networks:
        raise InvalidConfiguration(f"{path}, networks is empty.")
    if min(file.slices_per_group, file.groups_per_class) < 0:
        raise InvalidConfiguration(f"{path}: a limit is negative.")
    if not 0 <= file.measured_folds <= file.folds:
        raise InvalidConfiguration(f"{path}: measured_folds goes from 0 to {file.folds}.")
    networks = tuple(_candidate(file, own, str(path)) for own in file.networks)
    names = [one.name for one in networks]
    if len(set(names)) < len(names):
        raise InvalidConfiguration(f"{path}: two networks have one name; give them a name each.")
    first = networks[0].recipe
    return Comparison(
        networks=networks,
        ablation=tuple(
            Candidate(preprocessing, replace(first, preprocessing=preprocessing))
            for preprocessing in file.ablation
            if preprocessing != first.preprocessing
        ),
        folds=file.folds,
        measured_folds=file.measured_folds or file.folds,
        slices_per_group=file.slices_per_group,
        groups_per_class=file.groups_per_class,
        seed=file.seed,
    )


def chosen_entries(entries: list[Entry], comparison: Comparison) -> list[Entry]:
    """The random part of the data that the budget allows, by the comparison's seed."""
    draw = random.Random(comparison.seed)
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.group].append(entry)
    by_class: dict[str, list[str]] = defaultdict(list)
    for name, members in groups.items():
        by_class[members[0].label.value].append(name)
    chosen: list[Entry] = []
    for names in by_class.values():
        draw.shuffle(names)
        for name in names[: comparison.groups_per_class or None]:
            members = draw.sample(groups[name], len(groups[name]))
            chosen += members[: comparison.slices_per_group or None]
    kept = {entry.path for entry in chosen}
    return [entry for entry in entries if entry.path in kept]


def compare(
    entries: list[Entry],
    comparison: Comparison,
    *,
    folder: Path,
    distributed: Distributed,
) -> dict[str, Any]:
    """Cross-validate every candidate, or resume a previous run.

    Args:
        entries: from :func:`chosen_entries`.
        folder: receives one folder per candidate, and ``figures.json``.

    Returns:
        What ``figures.json`` holds: ``networks``, ``ablation`` and ``baseline``; of each
        candidate what :func:`ml.experiments.crossvalidation.pooled` gives, its cost, and its
        difference from the reference. Nothing where another process is the main one.
    """
    dealt = splits_by_group(entries, folds=comparison.folds, seed=comparison.seed)
    splits = dict(islice(dealt.items(), comparison.measured_folds))
    numbers = range(1, comparison.measured_folds + 1)

    def run(kind: str, candidate: Candidate) -> list[Fold]:
        place = folder / re.sub(r"\W+", "-", f"{kind}-{candidate.name}".lower())
        done = cross_validate(
            dealt, candidate.recipe, folder=place, distributed=distributed, only=numbers
        )
        return [fold for fold in done if fold.name in splits]

    networks = {one.name: run("network", one) for one in comparison.networks}
    ablation = {one.name: run("preprocessing", one) for one in comparison.ablation}
    if not distributed.is_main:
        return {}
    figures: dict[str, Any] = {
        "slices": len(entries),
        "groups": len({entry.group for entry in entries}),
        "folds": comparison.folds,
        "measured_folds": comparison.measured_folds,
        "measured_slices": sum(len(split.validation) for split in splits.values()),
        "seed": comparison.seed,
        "reference": comparison.reference.name,
        "networks": {name: pooled(folds) for name, folds in networks.items()},
        "ablation": {name: pooled(folds) for name, folds in ablation.items()},
    }
    for one in comparison.networks:
        figures["networks"][one.name] |= _facts(one.recipe)
    measured = [entry for split in splits.values() for entry in split.validation]
    right = {name: _right(folds) for name, folds in (networks | ablation).items()}
    chances = baseline_probabilities(
        entries,
        list(splits.values()),
        size=comparison.reference.recipe.input_size,
        cache=folder / "baseline.npz",
    )
    figures["baseline"], right[BASELINE] = _baseline(chances, entries, measured)
    differences = _differences(right, comparison.reference.name, measured)
    for part in ("networks", "ablation", "baseline"):
        for name in set(figures[part]) & set(differences):
            figures[part][name]["difference"] = differences[name]
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def _facts(recipe: Recipe) -> dict[str, Any]:
    network = ARCHITECTURES[recipe.architecture].build()
    return {
        "title": ARCHITECTURES[recipe.architecture].title,
        "cost": asdict(measure_cost(network, recipe.input_size)),
    }


def _right(folds: list[Fold]) -> Right:
    return np.array([one.called is one.label for fold in folds for one in fold.answers])


def _baseline(
    chances: Floats, entries: list[Entry], measured: list[Entry]
) -> tuple[dict[str, Any], Right]:
    """The baseline's row, and its correctness for each slice in the order of measurement."""
    place = {entry.path: number for number, entry in enumerate(entries)}
    ordered = chances[[place[entry.path] for entry in measured]]
    wanted = np.array([INDEX[entry.label.value] for entry in measured])
    figures = classification_figures(ordered, wanted, [entry.group for entry in measured])
    return {BASELINE: figures}, ordered.argmax(1) == wanted


def _differences(
    right: dict[str, Right], reference: str, measured: list[Entry]
) -> dict[str, dict[str, Any]]:
    """Differences of all candidates from the reference, with corrected p values."""
    groups = [entry.group for entry in measured]
    found = {
        name: difference(mine, right[reference], groups)
        for name, mine in right.items()
        if name != reference
    }
    corrected = holm({name: one.p for name, one in found.items()})
    return {name: asdict(one) | {"p_holm": corrected[name]} for name, one in found.items()}


def _candidate(file: _File, own: dict[str, Any], where: str) -> Candidate:
    """The shared recipe with a network's own fields."""
    values = dict(own)
    if unknown := sorted(set(values) - {"name", *_OWN}):
        raise InvalidConfiguration(
            f"{where}, networks: {unknown[0]} is not a network's own; what is: "
            f"name, {', '.join(_OWN)}."
        )
    shared = with_current_names(file.recipe)
    recipe = from_table(
        Recipe, shared | {k: v for k, v in values.items() if k != "name"}, where=where
    )
    return Candidate(str(values.get("name", recipe.architecture)), recipe)
