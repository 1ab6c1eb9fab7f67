"""The recipe of a release: the steps from published weights to the serving network.

A TOML file with optional top-level keys: ``folds`` (the uncertainty is fitted on the answers of so
many cross-validation networks; with 1 on a calibration part), ``quantised`` and ``seed`` (of parts
and folds). Each of ``[[steps]]`` has a ``name`` and a ``kind``: ``train`` with a
``[steps.recipe]`` (fields of :class:`ml.training.recipe.Recipe`; a ``start`` of ``step:NAME``
continues from an earlier step), ``join`` or ``blend`` ``of`` two earlier steps. A file without
steps is the recipe of a single training step.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ml.errors import InvalidConfiguration
from ml.training.configuration import from_table, read_toml
from ml.training.recipe import Recipe, Stage, with_current_names

STEP = "step:"
KINDS = ("train", "join", "blend")
_JOINED = "vgg16-twofold"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")  # also the name of a folder
_MOST_FOLDS = 20
_CHANGEABLE = ("start", "winograd")
_OWN = ("folds", "quantised", "seed")


@dataclass(frozen=True)
class Step:
    """One step; see the module docstring.

    Attributes:
        share: of the second network in a blend, 0..1.
        also: whether to train on further slices.
    """

    name: str
    kind: str = "train"
    of: tuple[str, ...] = ()
    share: float = 0.5
    also: bool = True
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    steps: tuple[Step, ...]
    folds: int = 5
    quantised: bool = True
    seed: int = Recipe.seed


@dataclass(frozen=True)
class Plan:
    """A checked recipe of a release.

    Attributes:
        recipes: recipes of the training steps, by name.
    """

    steps: tuple[Step, ...]
    recipes: Mapping[str, Recipe]
    folds: int
    quantised: bool
    seed: int

    @property
    def serving(self) -> Recipe:
        """The recipe that gives the last network's architecture and preparation of slices."""
        last = self.steps[-1]
        taught = self.recipes[self._trained(last)]
        return replace(taught, architecture=self.architecture(last), seed=self.seed)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of all steps, concatenated."""
        return tuple(stage for recipe in self.recipes.values() for stage in recipe.stages)

    def step(self, name: str) -> Step:
        """The step of that name."""
        return next(one for one in self.steps if one.name == name)

    def architecture(self, step: Step) -> str:
        """The architecture of the network that a step makes."""
        if step.kind == "join":
            return _JOINED
        if step.kind == "blend":
            return self.architecture(self.step(step.of[1]))
        return self.recipes[step.name].architecture

    def training(self, name: str) -> dict[str, Any]:
        """The training history of a step's network, as in a card's ``training`` entry."""
        step = self.step(name)
        if step.kind == "join":
            whole, places = step.of
            return {"whole": self.training(whole), "places": self.training(places)}
        if step.kind == "blend":
            before, after = step.of
            return {
                "share_of_after": step.share,
                "before": self.training(before),
                "after": self.training(after),
            }
        facts = asdict(self.recipes[name])
        if earlier := started_from(self.recipes[name]):
            return facts | {
                "started_from": {"name": earlier, "training": self.training(earlier)},
            }
        return facts | {"start": _without_folder(facts["start"])}

    def settings(self) -> dict[str, Any]:
        """All values, to check that a rerun has the same recipe."""
        steps = [
            asdict(one) | {"recipe": asdict(self.recipes[one.name]) if one.recipe else {}}
            for one in self.steps
        ]
        return {name: getattr(self, name) for name in _OWN} | {"steps": steps}

    def _trained(self, step: Step) -> str:
        return step.name if step.kind == "train" else self._trained(self.step(step.of[1]))


def is_plan(path: Path) -> bool:
    """Whether a recipe's file contains the steps of a release."""
    return not {"steps", "folds", "quantised"}.isdisjoint(read_toml(path))


def read_plan(path: Path, overrides: Mapping[str, Any]) -> Plan:
    """The recipe of a release.

    Args:
        overrides: ``start`` and ``winograd`` that replace the file's: the start of training steps
            that do not continue an earlier step, and the convolution method of every step.

    Raises:
        InvalidConfiguration: the file or a value is wrong.
    """
    told = {one.name for one in fields(Recipe)} - set(_CHANGEABLE)
    if given := sorted(told & set(overrides)):
        raise InvalidConfiguration(f"{path} is the recipe of a release: {given[0]} is told there.")
    table = read_toml(path)
    if "steps" not in table:
        recipe = {key: value for key, value in table.items() if key not in ("folds", "quantised")}
        own = {key: table[key] for key in _OWN if key in table}
        table = own | {"steps": [{"name": "network", "recipe": recipe}]}
    read = from_table(_File, table, where=str(path))
    _check(read, str(path))
    changed = {key: overrides[key] for key in _CHANGEABLE if key in overrides}
    recipes = {
        step.name: _recipe(step, read.seed, changed, f"{path}, step {step.name}")
        for step in read.steps
        if step.kind == "train"
    }
    plan = Plan(read.steps, recipes, read.folds, read.quantised, read.seed)
    for step, name in _uses(plan):
        if name not in [one.name for one in read.steps[: read.steps.index(step)]]:
            raise InvalidConfiguration(f"{path}, step {step.name}: no step before is {name!r}.")
    if len({(one.preprocessing, one.flip) for one in recipes.values()}) != 1:
        raise InvalidConfiguration(f"{path}: all steps must prepare slices alike.")
    return plan


def started_from(recipe: Recipe) -> str | None:
    """Name of the step that training continues from; None for other starts."""
    return recipe.start.removeprefix(STEP) if recipe.start.startswith(STEP) else None


def _check(read: _File, where: str) -> None:
    if not read.steps:
        raise InvalidConfiguration(f"{where}: steps is empty; at least one is needed.")
    if not 1 <= read.folds <= _MOST_FOLDS:
        raise InvalidConfiguration(f"{where}: folds go from 1 to {_MOST_FOLDS}.")
    names = [step.name for step in read.steps]
    for step in read.steps:
        if not _NAME.fullmatch(step.name):
            raise InvalidConfiguration(
                f"{where}: a step's name has up to 40 small letters, digits and hyphens, which "
                f"{step.name!r} has not."
            )
        if names.count(step.name) > 1:
            raise InvalidConfiguration(f"{where}: two steps are called {step.name}.")
        if step.kind not in KINDS:
            raise InvalidConfiguration(
                f"{where}, step {step.name}: the kind {step.kind!r} is none of {', '.join(KINDS)}."
            )
        if len(step.of) != (0 if step.kind == "train" else 2):
            raise InvalidConfiguration(
                f"{where}, step {step.name}: join and blend are of two steps, train is of none."
            )
        if step.kind != "train" and step.recipe:
            raise InvalidConfiguration(f"{where}, step {step.name}: only train has a recipe.")
        if not 0 <= step.share <= 1:
            raise InvalidConfiguration(f"{where}, step {step.name}: share goes from 0 to 1.")


def _recipe(step: Step, seed: int, changed: Mapping[str, Any], where: str) -> Recipe:
    table = {"seed": seed} | with_current_names(step.recipe)
    recipe = from_table(Recipe, table, where=where)
    if started_from(recipe) is not None:
        changed = {key: value for key, value in changed.items() if key != "start"}
    recipe = replace(recipe, **changed)
    if recipe.starting_model is not None:
        raise InvalidConfiguration(
            f"{where}: the model {recipe.start} has learnt from slices that are measured: start "
            "from imagenet, scratch, weights of other data, or step:NAME."
        )
    return recipe


def _uses(plan: Plan) -> Iterator[tuple[Step, str]]:
    """Each step with the name of each step that it depends on."""
    for step in plan.steps:
        for name in step.of:
            yield step, name
        if step.kind == "train" and (earlier := started_from(plan.recipes[step.name])) is not None:
            yield step, earlier


def _without_folder(start: str) -> str:
    return f"file {Path(start).name}" if start.endswith(".safetensors") else start
