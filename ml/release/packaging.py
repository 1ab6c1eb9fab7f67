"""Package a trained network for serving: fit its uncertainty, measure it, write its card."""

import datetime
import logging
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.stats import binom
from torch import Tensor

from ml.architectures import Network
from ml.dataset import Entry, Split
from ml.dataset.parts import HELD_OUT, counted, has_lists, listed
from ml.dataset.tensors import Slices, prepare
from ml.errors import InvalidConfiguration, InvalidModel
from ml.evaluation.evaluation import Observed, count_same_label, observe, summarise
from ml.evaluation.studies import study_figures
from ml.labels import LABELS
from ml.registry import Model, add_quantised, load_model, remove_quantised, save_model, write_card
from ml.serving.engines import TorchEngine
from ml.serving.engines.openvino_engine import OpenVINOEngine
from ml.serving.engines.quantisation import quantise
from ml.serving.predictor import Predictor
from ml.training.inference import forward_all
from ml.training.recipe import Recipe
from ml.training.trainer import Trained
from ml.uncertainty.calibration import Calibration
from ml.uncertainty.conformal import ALPHA
from ml.uncertainty.doubt import Doubt, Unseen
from ml.uncertainty.ood.feature_distance import Subspace

_log = logging.getLogger(__name__)

# Training slices whose features are stored as the reference for out-of-distribution detection.
_REFERENCE_SLICES = 1200
# Allowed share of slices with other answers in 8 bits than in float32, and loss of accuracy.
_MOST_OTHERWISE = 0.01
_MOST_LOST = 0.002
_FEW = 200  # slices of a part in which chance decides
# Entries of a card that are invalid after recalibration.
_MADE_ANEW = (
    "weights",
    "doubt",
    "calibration",
    "quantised",
    "metrics",
    "explanations",
    "volumes",
    "thinned",
    "out_of_distribution",
    "familiarity",  # what it is called in earlier cards
)


# Writes a model's network in 8-bit integers (``.xml``) and tells what the card says about it.
WriteIntegers = Callable[[Model, Path], dict[str, Any]]


class Released(NamedTuple):
    """A serving model, and its answers about the part that it was measured on."""

    card: Path
    observed: list[Observed]


def release(
    trained: Trained,
    recipe: Recipe,
    split: Split,
    *,
    folder: Path,
    stem: str,
    facts: dict[str, Any],
    quantised: bool = True,
    doubt: Doubt | None = None,
) -> Released:
    """Write weights and card into ``folder``, and measure on ``split.measured``.

    It is measured with the weights as loaded from the files.

    Args:
        doubt: fitted elsewhere; by default it is fitted on ``split.calibration``.
        facts: further entries of the card from the caller (data, sources, exclusions).
        quantised: as for :func:`measure_model`.
    """
    path = package(trained, recipe, split, folder=folder, stem=stem, facts=facts, doubt=doubt)
    return Released(path, measure_model(path, split, quantised=quantised))


def package(
    trained: Trained,
    recipe: Recipe,
    split: Split,
    *,
    folder: Path,
    stem: str,
    facts: dict[str, Any],
    doubt: Doubt | None = None,
) -> Path:
    """Write weights and card into ``folder`` without measurements; return the card's path.

    Args: as for :func:`release`.
    """
    network = trained.network
    folder.mkdir(parents=True, exist_ok=True)
    if doubt is None:
        reference = reference_features(network, recipe, split.training)
        doubt = Doubt.fit(said_unseen(network, recipe, reference, split.calibration), reference)
    network.shift(torch.tensor(doubt.calibration.offsets))
    history = {"started_from": trained.started_from} if trained.started_from else {}
    created = today()
    card: dict[str, Any] = {
        "name": f"{recipe.architecture}-{created:%Y.%m}",
        "architecture": recipe.architecture,
        "created": created.isoformat(),
        "labels": [label.value for label in LABELS],
        "input": {
            "size": recipe.input_size,
            "preprocessing": recipe.preprocessing,
            "channels": 1,
            "range": [0.0, 1.0],
            "both_sides": recipe.flip,
        },
        "intended_use": (
            "Research on triage and second reading of single brain-MRI slices. Not a certified "
            "medical device; not for diagnosis."
        ),
        "limits": [
            "Knows three kinds of tumour and their absence, and nothing else: no metastases, "
            "stroke, bleeding or inflammation.",
            "Class and source of the images coincide in the training data, so figures on other "
            "hospitals' scans will be lower.",
            "The data's healthy slices are almost all axial: false alarms in coronal and sagittal "
            "slices are measured on few heads or none.",
            "A single slice cannot exclude a tumour elsewhere.",
        ],
        "training": asdict(recipe) | {"start": trained.start} | history,
        **facts,
        "split": {
            "by": "group: all slices of a patient, and near-copies, stay together",
            "seed": recipe.seed,
            "training": counted(split.training),
            "calibration": listed(split.calibration),
            "validation": listed(split.validation),
        },
    }
    return save_model(network, doubt, card, folder=folder, stem=stem)


def recalibrate(
    model: Model,
    calibration: Calibration | None,
    split: Split,
    *,
    folder: Path,
    facts: dict[str, Any],
) -> Released:
    """Write a model again with another calibration and measure it.

    Args:
        model: a model whose card has its offsets.
        calibration: for logits without offsets; by default it is fitted on
            ``split.calibration``.
        split: the split that the model was trained on.
        facts: entries of the card's ``calibration`` about the source of an external calibration.

    Raises:
        InvalidModel: the card lacks the offsets.
    """
    network = model.network
    if "offsets" not in model.card["doubt"]:
        raise InvalidModel(f"The card of {model.name} does not tell its offsets.")
    network.shift(-torch.tensor(model.doubt.calibration.offsets))
    if calibration is None:
        recipe, reference = serving_recipe(model.card), model.doubt.reference
        unseen = said_unseen(network, recipe, reference, split.calibration)
        calibration = Calibration.fit(unseen.logits, unseen.labels)
    network.shift(torch.tensor(calibration.offsets))
    folder.mkdir(parents=True, exist_ok=True)
    kept = entries_that_stay(model.card)
    doubt = replace(model.doubt, calibration=calibration)
    path = save_model(
        network,
        doubt,
        kept | {"created": today().isoformat()} | ({"calibration": facts} if facts else {}),
        folder=folder,
        stem=model.card["architecture"],
    )
    return Released(path, measure_model(path, split, quantised=True))


def entries_that_stay(card: dict[str, Any], further: Collection[str] = ()) -> dict[str, Any]:
    """What a card says of a model that holds after it was calibrated anew.

    Args:
        further: names of entries that do not.
    """
    return {name: value for name, value in card.items() if name not in {*_MADE_ANEW, *further}}


def measure_model(
    path: Path, split: Split, *, quantised: bool, write: WriteIntegers | None = None
) -> list[Observed]:
    """Measure a saved model on the part that is there for it and complete its card.

    ``metrics`` are those of this machine's serving engine.

    Args:
        quantised: whether the model gets a network in 8-bit integers first. Without the package
            NNCF, or where that does not keep its answers on that part, it is left without.
        write: makes that network; without it NNCF does, on training slices.

    Returns:
        The serving engine's answers about that part.
    """
    part, entries = split.measured
    model = load_model(path)
    engine = TorchEngine(model.network, device=torch.device("cpu"), dtype=torch.float32)
    exact = Predictor(model, engine)
    expected = observe(exact, entries)
    said = {exact.engine: expected}
    if quantised and write is None and find_spec("nncf") is not None:
        write = partial(_quantise, split.training)
    if quantised and write is not None:
        said |= _in_integers(path, model, entries, expected, write)
    predictor = Predictor.load(path)
    observed = said.get(predictor.engine) or observe(predictor, entries)
    card = load_model(path).card
    card["metrics"] = {
        "part": part,
        "engine": predictor.engine,
        "set_alpha": ALPHA,
        **summarise(observed),
        **study_figures(observed),
        "float32": _beside(observed, expected),
    }
    write_card(card, path)
    return observed


def _in_integers(
    path: Path,
    model: Model,
    entries: list[Entry],
    expected: list[Observed],
    write: WriteIntegers,
) -> dict[str, list[Observed]]:
    """Add a network in 8-bit integers to a saved model, if its answers agree.

    Args:
        entries: the part that it is measured on.
        expected: what the network says in float32 about them.

    Returns:
        Its 8-bit answers about the same part, by the engine's name.
    """
    network = path.with_suffix(".int8.xml")
    facts = write(model, network)
    predictor = Predictor(model, OpenVINOEngine(network, precision="int8"))
    observed = observe(predictor, entries)
    if _keeps_answers(observed, expected):
        add_quantised(path, network, facts)
    else:
        remove_quantised(path, network)
        _log.warning(
            "%s is left without 8-bit integers: only %.1f %% of its answers are those of float32.",
            model.name,
            100 * count_same_label(observed, expected) / len(expected),
        )
    return {predictor.engine: observed}


def _quantise(training: list[Entry], model: Model, path: Path) -> dict[str, Any]:
    """Write ``path`` by NNCF; return what the card tells about it."""
    calibration = prepare(
        _sampled(training),
        preprocessing=model.card["input"]["preprocessing"],
        size=model.card["input"]["size"],
    )
    quantise(model.network, calibration.images, path)
    return {"calibrated_on": "training slices"}


def _keeps_answers(observed: list[Observed], expected: list[Observed]) -> bool:
    """Whether few enough answers differ, and few enough of the right ones are lost."""
    count = len(expected)
    otherwise = count - count_same_label(observed, expected)
    lost = sum(one.right for one in expected) - sum(one.right for one in observed)
    return otherwise <= most_otherwise(count) and lost <= max(1, _MOST_LOST * count)


def most_otherwise(count: int) -> float:
    """How many of ``count`` answers may be other ones in 8 bits than in float32.

    Of a small part as many as a network that changes one of a hundred stays below in 19 of 20
    parts: what a hospital holds out is often fewer than a hundred slices, of which one is more
    than a hundredth.
    """
    by_chance = float(binom.ppf(0.95, min(count, _FEW), _MOST_OTHERWISE))
    return max(1.0, by_chance, _MOST_OTHERWISE * count)


def reference_features(
    network: Network, recipe: Recipe, training: list[Entry], *, exact: bool = False
) -> Tensor:
    """(M, 512) unit-length features of a sample of the training slices."""
    known = _prepared(_sampled(training), recipe)
    return F.normalize(forward_all(network, known.images, exact=exact).features, dim=1)


def said_unseen(
    network: Network,
    recipe: Recipe,
    reference: Tensor,
    entries: list[Entry],
    *,
    exact: bool = False,
) -> Unseen:
    """Outputs of a network without offsets for ``entries``, which were not used for training.

    Args:
        reference: from :func:`reference_features`.
        exact: as for :func:`ml.training.inference.forward_all`.
    """
    held_out = _prepared(entries, recipe)
    said = forward_all(network, held_out.images, exact=exact)
    return Unseen(said.logits, held_out.labels, Subspace.of(reference).distance(said.features))


def serving_recipe(card: dict[str, Any]) -> Recipe:
    """The part of a model's recipe that :func:`release` and the preparation of slices need."""
    return Recipe(
        architecture=card["architecture"],
        preprocessing=card["input"]["preprocessing"],
        input_size=int(card["input"]["size"]),
        flip=bool(card["input"].get("both_sides", False)),
        seed=int(card["split"]["seed"]),
    )


def check_split(card: dict[str, Any], split: Split, *, seed: int) -> None:
    """Check that a starting model was not trained on slices that are held out now.

    Args:
        card: of the model.
        split: of the data, by ``seed``.

    Raises:
        InvalidConfiguration: the model had other held-out slices, by its seed and its counts, or
            was trained on the current validation part.
    """
    now = counted(split.calibration)
    before = card["split"]
    if split.validation and before["validation"]["slices"] == 0:
        raise InvalidConfiguration(
            f"{card['name']} has learnt from the validation part (--with-validation), which would "
            "be held out now."
        )
    if has_lists(before):
        _check_listed(card, split)
        same = before["seed"] == seed
    else:
        same = before["seed"] == seed and before["calibration"] == now
    if not same:
        raise InvalidConfiguration(
            f"{card['name']} may have learnt from slices that would be held out now: its data "
            f"were split by the seed {before['seed']} into a calibration part of "
            f"{before['calibration']['slices']} slices, these are by {seed} into one of "
            f"{now['slices']}."
        )


def today() -> datetime.date:
    """In UTC."""
    return datetime.datetime.now(datetime.UTC).date()


def _check_listed(card: dict[str, Any], split: Split) -> None:
    """For a card that lists its parts, check that all groups held out now were held out then."""
    names = {name for part in HELD_OUT for name in card["split"][part].get("group_names", [])}
    held_out = {entry.group for entry in split.calibration + split.validation}
    if learnt := sorted(held_out - names):
        raise InvalidConfiguration(
            f"{card['name']} may have learnt from slices that would be held out now: the group "
            f"{learnt[0]} and {len(learnt) - 1} others are in no part that was held out from it. "
            "--split names a card whose parts are taken."
        )


def _beside(observed: list[Observed], expected: list[Observed]) -> dict[str, float]:
    """Differences of the serving engine's answers from those of torch in float32."""
    exact = summarise(expected)
    return {
        "accuracy": exact["accuracy"],
        "ece": exact["ece"],
        "coverage": exact["coverage"],
        "pointing_game": exact["pointing_game"]["rate"],
        "same_label": count_same_label(observed, expected) / len(expected),
    }


def _sampled(training: list[Entry]) -> list[Entry]:
    return training[:: max(1, len(training) // _REFERENCE_SLICES)][:_REFERENCE_SLICES]


def _prepared(entries: list[Entry], recipe: Recipe) -> Slices:
    size = recipe.input_size
    return prepare(entries, preprocessing=recipe.preprocessing, size=size, progress=True)
