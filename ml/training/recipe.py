"""Everything that decides a training run beside the data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ml.errors import InvalidConfiguration
from ml.training.configuration import from_table, read_toml

# What fields were called in earlier files and checkpoints.
_EARLIER_NAMES = {"healed": "inpainted"}
# Least and greatest value of each number.
_LIMITS: dict[str, tuple[float, float]] = {
    "input_size": (28, 2048),
    "batch": (1, 4096),
    "body_rate": (0, 1),
    "head_rate": (0, 1),
    "weight_decay": (0, 1),
    "label_smoothing": (0, 0.9),
    "averaging": (0, 0.99999),
    "frozen": (0, 1000),
    "variants": (0, 1000),
    "places": (0, 100),
    "outside": (0, 100),
    "erasing": (0, 1),
    "elastic": (0, 0.2),
    "inpainted": (0, 1),
    "parts": (0, 1),
    "bright_centre": (0, 2),
    "suppressed": (0, 1),
    "seed": (0, 2**62),
}


@dataclass(frozen=True)
class Stage:
    """``epochs`` passes over the data at ``size`` pixels.

    Raises:
        InvalidConfiguration: a number is out of range.
    """

    size: int
    epochs: int

    def __post_init__(self) -> None:
        if not 28 <= self.size <= 2048 or self.epochs < 1:
            raise InvalidConfiguration(
                f"A stage of {self.epochs} epochs at {self.size} px: sizes go from 28 to 2048, "
                "epochs from 1."
            )


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        start: ``imagenet`` (the published weights), ``scratch``, a safetensors file or a model's
            card (``.json``).
        start_name: what the file holds, in words for tables.
        stages: progressive resizing, smallest first.
        input_size: side of the model's input when it serves. Average pooling takes any size;
            which one suits the weights is chosen on the calibration part.
        body_rate, head_rate: peak learning rates of the layers and of the head.
        averaging: how much of the moving average of the weights each step keeps.
        frozen: first layers that keep their starting weights.
        variants: 0 makes new augmented slices in each epoch. Otherwise so many augmented variants
            of the data are made once, what the frozen layers make of them is kept in files, and
            the epochs take turns with them: much faster where many layers are frozen.
        places, outside: weights of what the outlines teach; see :mod:`ml.training.losses`. They and
            the exchange of tissue apply to networks with a localisation head.
        erasing: share of the slices that lose a rectangle.
        elastic: greatest bend as a fraction of the side.
        inpainted: share of the slices with an outlined tumour that lose it where they are
            symmetric, half of that where they are not. Earlier files call it ``healed``.
        parts: share of the slices that show a part of themselves, of outlined tumours half of them
            one without it (:func:`ml.training.tumour_augmentation.cut_out`).
        bright_centre: how strongly the middle of a slice is brightened at most, as a natural
            logarithm.
        suppressed: share of the slices that lose what is brightest but for the tumour
            (:func:`ml.training.augmentation.suppress_brightest`).
        exchange: whether tumours are erased and pasted
            (:func:`ml.training.tumour_augmentation.exchange_tissue`) for networks that do not judge
            places, too; for those that do they always are.
        flip: whether the model answers by the mean of a slice and its mirror image.
        winograd: whether wide convolutions are computed by Winograd's method where the processor
            has no bfloat16 (:mod:`ml.training.winograd`).

    Raises:
        InvalidConfiguration: a number is out of range.
    """

    architecture: str = "vgg16-odds"
    preprocessing: str = "head-crop"
    start: str = "imagenet"
    start_name: str = ""
    stages: tuple[Stage, ...] = (Stage(128, 5), Stage(176, 4))
    input_size: int = 176
    batch: int = 32
    body_rate: float = 6e-5
    head_rate: float = 1e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.08
    averaging: float = 0.99
    frozen: int = 5
    variants: int = 0
    places: float = 1.0
    outside: float = 0.5
    erasing: float = 0.0
    elastic: float = 0.0
    inpainted: float = 0.5
    parts: float = 0.0
    bright_centre: float = 0.0
    suppressed: float = 0.0
    exchange: bool = False
    flip: bool = False
    winograd: bool = False
    seed: int = 20261123

    def __post_init__(self) -> None:
        for name, (least, greatest) in _LIMITS.items():
            value = getattr(self, name)
            if not math.isfinite(value) or not least <= value <= greatest:
                raise InvalidConfiguration(
                    f"{name} is {value}; it must be between {least} and {greatest}."
                )
        if not self.stages:
            raise InvalidConfiguration("stages is empty; at least one is needed.")
        if self.variants and not self.frozen:
            raise InvalidConfiguration("variants keeps what frozen layers make; frozen is 0.")

    @property
    def epochs(self) -> int:
        """Passes over the data, all stages together."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def starting_model(self) -> Path | None:
        """Card of the model that it starts from; None for other starts."""
        return Path(self.start) if self.start.endswith(".json") else None


def with_current_names(table: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values by the names that its fields have now.

    Raises:
        InvalidConfiguration: a field is given by both of its names.
    """
    for earlier, name in _EARLIER_NAMES.items():
        if earlier in table and name in table:
            raise InvalidConfiguration(
                f"{earlier} is the earlier name of {name}: give one of both."
            )
    return {_EARLIER_NAMES.get(name, name): value for name, value in table.items()}


def kept_values(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe that an earlier run has kept, by the names that fields have now.

    A run from before a field existed did what its default says. An option that there is no more is
    left away where zero had turned it off.
    """
    values = asdict(Recipe()) | with_current_names(kept)
    known = {one.name for one in fields(Recipe)}
    return {name: value for name, value in values.items() if name in known or value}


def read_recipe(path: Path | None, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe of a TOML file (the usual one without it) with some values replaced.

    Args:
        overrides: names of fields and their values.

    Raises:
        InvalidConfiguration: the file or a value is wrong.
    """
    recipe = Recipe()
    if path is not None:
        recipe = from_table(Recipe, with_current_names(read_toml(path)), where=str(path))
    known = {one.name for one in fields(Recipe)}
    return replace(recipe, **{name: overrides[name] for name in overrides if name in known})
