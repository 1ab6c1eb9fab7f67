"""Compare heatmap methods: pointing game, energy in the box, and a sanity check."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from tqdm import tqdm

from ml.architectures import Network
from ml.dataset import Entry
from ml.dataset.pixels import pixels_of
from ml.errors import InvalidManifest
from ml.evaluation.cam_methods import SERVING_METHOD, explain_all
from ml.evaluation.evaluation import energy_in_box, points_into_box
from ml.labels import INDEX, Label
from ml.preprocess import PIPELINES, FloatImage, Prepared
from ml.registry import Model
from ml.serving import explain

_BATCH = 16
_SANITY_SLICES = 24


@dataclass(frozen=True)
class _Batch:
    entries: Sequence[Entry]
    prepared: Sequence[Prepared]
    images: Tensor


def compare_explanations(model: Model, entries: Sequence[Entry]) -> dict[str, Any]:
    """Measure every method on the slices with a tumour's box.

    Returns:
        ``methods``: by name ``pointing_game`` and ``energy_in_box`` as in
        :func:`ml.evaluation.evaluation.pointing_game`; ``sanity``: by name the mean rank
        correlation of a heatmap with that of the same network after its head, and then also its
        last layers, were randomised (Adebayo et al. 2018, NeurIPS, "Sanity Checks for Saliency
        Maps"). The map of a valid method changes: near 0 is good, near 1 means that it shows the
        picture's edges regardless of what the network has learnt.

    Raises:
        InvalidManifest: no slice has a box.
        UnreadableImage: a file cannot be read.
    """
    boxed = [entry for entry in entries if entry.box and entry.label is not Label.NO_TUMOR]
    if not boxed:
        raise InvalidManifest("No slice of the manifest has a tumour's box.")
    hits: dict[str, list[bool]] = {}
    energies: dict[str, list[float]] = {}
    for batch in tqdm(list(_batches(model, boxed)), "explaining", unit="batch", disable=None):
        for name, heats in _heats(model, batch).items():
            for entry, heat in zip(batch.entries, heats, strict=True):
                assert entry.box is not None  # noqa: S101  # chosen so above
                hits.setdefault(name, []).append(points_into_box(heat, entry.box))
                energies.setdefault(name, []).append(energy_in_box(heat, entry.box))
    return {
        "n": len(boxed),
        "methods": {
            name: {
                "pointing_game": float(np.mean(hits[name])),
                "energy_in_box": float(np.mean(energies[name])),
            }
            for name in hits
        },
        "sanity": _sanity(model, boxed[:: max(1, len(boxed) // _SANITY_SLICES)][:_SANITY_SLICES]),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as lines of text."""
    stages = list(next(iter(figures["sanity"].values())))
    lines = [f"{'method':12}  pointing  energy  " + "  ".join(stages)]
    for name, row in figures["methods"].items():
        sanity = "  ".join(f"{figures['sanity'][name][stage]:{len(stage)}.2f}" for stage in stages)
        lines.append(
            f"{name:12}  {row['pointing_game']:8.3f}  {row['energy_in_box']:6.3f}  {sanity}"
        )
    return "\n".join(lines)


def _batches(model: Model, entries: Sequence[Entry]) -> Iterator[_Batch]:
    pipeline = PIPELINES[model.card["input"]["preprocessing"]]
    size = int(model.card["input"]["size"])
    for start in range(0, len(entries), _BATCH):
        chosen = entries[start : start + _BATCH]
        prepared = [pipeline(pixels_of(one), size) for one in chosen]
        images = torch.from_numpy(np.stack([one.image for one in prepared])[:, None])
        yield _Batch(chosen, prepared, images)


def _heats(model: Model, batch: _Batch) -> dict[str, list[FloatImage]]:
    """Heatmaps of the class that serving would explain, in the pixels of each slice."""
    output, maps = explain_all(model.network, batch.images)
    probabilities = model.doubt.probabilities(output.logits).numpy()
    found = {}
    for name, each in maps.items():
        # Only the serving map is in the unit of the logits; gradients are far smaller.
        least = explain.LEAST_RANGE if name == SERVING_METHOD else 0.0
        found[name] = [
            explain.heat(of_slice, prepared, values, least_range=least)
            for of_slice, prepared, values in zip(each, batch.prepared, probabilities, strict=True)
        ]
    return found


def _sanity(model: Model, entries: Sequence[Entry]) -> dict[str, dict[str, float]]:
    (batch, *_) = _batches(model, list(entries)[:_BATCH])
    wanted = torch.tensor([INDEX[entry.label.value] for entry in batch.entries])
    rows = torch.arange(len(wanted))
    _, before = explain_all(model.network, batch.images)
    found: dict[str, dict[str, float]] = {name: {} for name in before}
    for stage, network in _drawn_anew(model.network):
        _, after = explain_all(network, batch.images)
        for name, maps in before.items():
            found[name][stage] = _similarity(maps[rows, wanted], after[name][rows, wanted])
    return found


def _drawn_anew(network: Network) -> Iterator[tuple[str, Network]]:
    """The network with its head randomised, then also with its last layers randomised."""
    torch.manual_seed(0)
    changed = copy.deepcopy(network)
    for head in changed.heads:
        head.reset_parameters()
    yield "head drawn anew", changed
    for layer in nn.ModuleList(changed.last_layers).modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    yield "last layers as well", changed


def _similarity(before: Tensor, after: Tensor) -> float:
    """Mean Spearman correlation of two sets of maps (N, h, w); constant maps count as 0."""
    values = [
        float(spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic)
        if one.std() > 0 and other.std() > 0
        else 0.0
        for one, other in zip(before, after, strict=True)
    ]
    return float(np.mean(values))
