"""The recipe: all settings of a training run except the data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ml.errors import InvalidConfiguration
from ml.training.configuration import from_table, read_toml

# Former names of fields in old files and checkpoints.
_EARLIER_NAMES = {"healed": "inpainted"}
# Smallest and largest value of each number.
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
        start_name: description of the file for tables.
        stages: progressive resizing, smallest first.
        input_size: side of the model's input in serving. Average pooling allows any size; the
            best one for the weights is chosen on the calibration part.
        body_rate, head_rate: peak learning rates of the layers and of the head.
        averaging: decay of the moving average of the weights per step.
        frozen: number of first layers that keep their starting weights.
        variants: 0 makes new augmented slices in each epoch. Otherwise so many augmented variants
            of the data are made once, the frozen layers' outputs are stored in files, and the
            epochs cycle through them: much faster with many frozen layers.
        places, outside: weights of the losses from outlines; see :mod:`ml.training.losses`. They
            and the exchange of tissue apply to networks with a localisation head.
        erasing: share of the slices with an erased rectangle.
        elastic: largest elastic shift as a fraction of the side.
        inpainted: share of symmetric slices with an outlined tumour in which it is replaced, and
            half of that for other slices. Old files call it ``healed``.
        parts: share of the slices that are cropped to a part; for half of the outlined tumours
            the part lies outside (:func:`ml.training.tumour_augmentation.cut_out`).
        bright_centre: maximum brightening of the centre of a slice, as a natural logarithm.
        suppressed: share of the slices whose brightest tissue except tumours is darkened
            (:func:`ml.training.augmentation.suppress_brightest`).
        exchange: whether tumours are erased and pasted
            (:func:`ml.training.tumour_augmentation.exchange_tissue`) also for networks without a
            localisation head; with one they always are.
        flip: whether the model averages a slice and its mirror image.
        winograd: whether wide convolutions use Winograd's method if the processor has no bfloat16
            (:mod:`ml.training.winograd`).

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
        """Passes over the data in all stages."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def starting_model(self) -> Path | None:
        """Card of the model that training starts from; None for other starts."""
        return Path(self.start) if self.start.endswith(".json") else None


def with_current_names(table: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values by the current names of its fields.

    Raises:
        InvalidConfiguration: a field is given by both its old and its new name.
    """
    for earlier, name in _EARLIER_NAMES.items():
        if earlier in table and name in table:
            raise InvalidConfiguration(
                f"{earlier} is the earlier name of {name}: give one of both."
            )
    return {_EARLIER_NAMES.get(name, name): value for name, value in table.items()}


def kept_values(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a stored recipe by the current names of its fields.

    A missing field has its default. A removed option is dropped if its value is zero.
    """
    values = asdict(Recipe()) | with_current_names(kept)
    known = {one.name for one in fields(Recipe)}
    return {name: value for name, value in values.items() if name in known or value}


def read_recipe(path: Path | None, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe of a TOML file (or the default recipe) with some values replaced.

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
