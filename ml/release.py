"""Turn a trained network into a model that may serve: fit its doubt, measure it, write its card."""

import datetime
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ml.architectures import VGG16GAP
from ml.dataset import Entry, Split
from ml.evaluation import observe, summarise
from ml.labels import LABELS
from ml.predictor import Predictor
from ml.registry import save_model
from ml.training import Recipe, Slices, forward_all, prepare
from ml.uncertainty import (
    ALPHA,
    Doubt,
    Subspace,
    fit_offsets,
    fit_temperature,
    fit_thresholds,
)

# Training slices whose features are kept to say what is familiar.
_REFERENCE_SLICES = 1200
# Share of the calibration slices that lie within the distance that counts as familiar.
_WITHIN_LIMIT = 0.99


def release(
    network: VGG16GAP,
    recipe: Recipe,
    split: Split,
    *,
    folder: Path,
    stem: str,
    facts: dict[str, Any],
) -> Path:
    """Write weights and card into ``folder``.

    The offsets of the logits and the doubt are fitted on ``split.calibration`` and everything is
    measured on ``split.validation``, with the weights as they will be loaded.

    Args:
        facts: entries of the card that only the caller knows (data, sources, exclusions).

    Returns:
        The card's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    doubt = _fit_doubt(network, recipe, split)
    today = datetime.datetime.now(datetime.UTC).date()
    card: dict[str, Any] = {
        "name": f"{recipe.architecture}-{today:%Y.%m}",
        "architecture": recipe.architecture,
        "created": today.isoformat(),
        "labels": [label.value for label in LABELS],
        "input": {
            "size": recipe.input_size,
            "preprocessing": recipe.preprocessing,
            "channels": 1,
            "range": [0.0, 1.0],
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
            "A single slice cannot exclude a tumour elsewhere.",
        ],
        "training": asdict(recipe) | {"start": Path(recipe.start).name},
        **facts,
        "split": {
            "by": "group: all slices of a patient, and near-copies, stay together",
            "seed": recipe.seed,
            **{
                name: {"slices": len(part), "groups": len({entry.group for entry in part})}
                for name, part in (
                    ("training", split.training),
                    ("calibration", split.calibration),
                    ("validation", split.validation),
                )
            },
        },
    }
    path = save_model(network, doubt, card, folder=folder, stem=stem)
    predictor = Predictor.load(path)
    metrics = summarise(observe(predictor, split.validation))
    measured = card | {
        "metrics": {"part": "validation", "engine": predictor.engine, "set_alpha": ALPHA} | metrics
    }
    # The same weights again, now with what was measured on them.
    return save_model(network, doubt, measured, folder=folder, stem=stem)


def _fit_doubt(network: VGG16GAP, recipe: Recipe, split: Split) -> Doubt:
    held_out = _prepared(split.calibration, recipe)
    labels = held_out.labels
    calibration = forward_all(network, held_out.images)
    offsets = fit_offsets(calibration.logits, labels)
    network.shift(offsets)
    logits = calibration.logits + offsets
    sampled = split.training[:: max(1, len(split.training) // _REFERENCE_SLICES)]
    known = _prepared(sampled[:_REFERENCE_SLICES], recipe)
    reference = F.normalize(forward_all(network, known.images).features, dim=1)
    temperature = fit_temperature(logits, labels)
    distances = Subspace.of(reference).distance(calibration.features)
    draft = Doubt(
        temperature=temperature,
        thresholds=(),
        reference=reference,
        distance_limit=float(torch.quantile(distances, _WITHIN_LIMIT)),
    )
    probabilities = draft.probabilities(logits).numpy()
    return replace(draft, thresholds=fit_thresholds(probabilities, labels.numpy()))


def _prepared(entries: list[Entry], recipe: Recipe) -> Slices:
    size = recipe.input_size
    return prepare(entries, preprocessing=recipe.preprocessing, size=size, progress=True)
