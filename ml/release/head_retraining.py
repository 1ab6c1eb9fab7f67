"""Retrain the head alone: the convolutions stay, and with them the map of the places."""

import copy
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ml.dataset import Entry, Split, split_as_kept
from ml.files import stage
from ml.registry import Model, load_model, save_model
from ml.release.features import (
    Features,
    exact_engine,
    pooled_features,
    prepared,
    serving_engine,
)
from ml.release.head import (
    Local,
    check_groups,
    check_head,
    cross_fit,
    fit_doubt,
    fit_head,
)
from ml.release.inspection import Inspected, inspect, issue_facts, number_of, plain
from ml.release.label_issues import write_label_issues
from ml.release.material import ISSUES, Material, history, measured, name_candidate
from ml.release.packaging import entries_that_stay, measure_model, today
from ml.release.progress import Progress
from ml.release.replay import (
    Replay,
    load_replay,
    make_replay,
    read_replay,
    replay_path,
    save_replay,
)
from ml.serving.engines.quantisation import exchange_head
from ml.training.augmentation import augment

_VARIED = 2  # views of a slice beside itself and its mirror image
_SEED = 20261130
_OF_ANOTHER = ("cross_validations",)  # what the card says of the model that was gone on from
_LOCAL, _REPLAY = "snapshot.safetensors", "replay.safetensors"


def retrain_head(material: Material, progress: Progress) -> Path:
    """Fit the head anew; return the card of the candidate.

    Raises:
        InvalidModel: the network has no such head, or its replayed features are missing.
        InvalidManifest: the snapshot's training groups are too few.
        Cancelled: it is not wanted any more.
    """
    order, model = material.order, material.model
    check_head(model.network, model.name)
    check_groups(one.group for one in material.learnt)
    collected = order.folder / "features"
    stage(collected, lambda where: _collect(material, where, progress))
    calibrated = order.folder / "calibrated"
    stage(calibrated, lambda where: _fit(material, collected, where, progress))
    shutil.copy(calibrated / ISSUES, order.folder / ISSUES)
    stage(order.folder / "model", lambda where: _measure(material, calibrated, where, progress))
    return material.candidate


def _collect(material: Material, where: Path, progress: Progress) -> None:
    """Keep the features of both collections."""
    order, model = material.order, material.model
    if order.base is None:
        replay = load_replay(order.card, model)
    else:
        split = split_as_kept(list(order.base), model.card)
        replay = make_replay(model, split, lambda part: progress.step(f"features of the {part}"))
    save_replay(replay, where / _REPLAY, sha256=model.sha256)
    tensors = local_features(material, progress)
    save_file(tensors, where / _LOCAL)


def local_features(material: Material, progress: Progress) -> dict[str, Tensor]:
    """Features of the snapshot's training slices, float32: ``exact`` and ``view-0`` and so on."""
    images = prepared(material.model, material.learnt).float()
    watch = progress.step("features in float32")
    tensors = {"exact": pooled_features(exact_engine(material.model), images, watch)}
    engine = serving_engine(material.model)
    for number, view in enumerate(_views(images)):
        watch = progress.step(f"features, view {number + 1}")
        tensors[f"view-{number}"] = pooled_features(engine, view, watch)
    return tensors


def _views(images: Tensor) -> list[Tensor]:
    """The slices as they are, mirrored, and varied as in training."""
    generator = torch.Generator().manual_seed(_SEED)
    varied = [
        torch.cat([augment(part, generator)[0] for part in torch.split(images, 32)])
        for _ in range(_VARIED)
    ]
    return [images, images.flip(3), *varied]


def _fit(material: Material, collected: Path, where: Path, progress: Progress) -> None:
    """Fit head and doubt; write weights, card, replayed features and the list of labels."""
    model = material.model
    replay = read_replay(collected / _REPLAY, sha256=model.sha256)
    local = _local(load_file(collected / _LOCAL), material.learnt)
    inspected = inspect(material, replay, local, progress)
    data, strength = inspected.data, inspected.chosen.strength
    # Slices that are not learnt from are answered all the same: doubt that is fitted without what
    # the head gets wrong would be too small.
    everything = bool(data.learnt.all())
    fitted = inspected.chosen.fitted if everything else cross_fit(data, strength, lambda: None)
    head = fit_head(data, torch.ones_like(data.learnt), strength)
    doubt = fit_doubt(data, head, fitted)
    network = copy.deepcopy(model.network)
    head.put_into(network)
    network.shift(torch.tensor(doubt.calibration.offsets))
    learnt = [one for one, kept in zip(material.learnt, data.learnt, strict=True) if kept]
    card = save_model(
        network,
        doubt,
        entries_that_stay(model.card, _OF_ANOTHER)
        | history(material, learnt)
        | {
            "created": today().isoformat(),
            "training": _training(material, replay, inspected),
            "calibration": _calibration(material, replay),
            "label_issues": issue_facts(material, inspected),
        },
        folder=where,
        stem=material.stem,
    )
    name_candidate(card)
    save_replay(replay, replay_path(card), sha256=load_model(card).sha256)
    write_label_issues(where / ISSUES, inspected.issues, handling=material.order.label_issues)


def _local(tensors: dict[str, Tensor], entries: list[Entry]) -> Local:
    views = [name for name in sorted(tensors) if name != "exact"]
    return Local(
        Features.of(tensors["exact"], entries),
        [Features.of(tensors[name], entries) for name in views],
    )


def _measure(material: Material, calibrated: Path, where: Path, progress: Progress) -> None:
    """Add the network in 8-bit integers, and measure on what the snapshot holds out."""
    source = material.model.quantised
    write = None if source is None else partial(_exchange, source)
    split = Split(material.learnt, [], material.snapshot.holdout)
    with measured(material, calibrated, where, progress) as card:
        measure_model(card, split, quantised=source is not None, write=write)


def _exchange(source: Path, model: Model, path: Path) -> dict[str, Any]:
    exchange_head(source, model.network, path)
    return {"calibrated_on": "as those of the model that it was retrained from"}


def _training(material: Material, replay: Replay, inspected: Inspected) -> dict[str, Any]:
    """The card's entry about how the head was fitted."""
    card = material.model.card
    return {
        "head": {
            "strength": number_of(inspected.chosen.strength),
            "losses_by_strength": plain(inspected.chosen),
            "views": len(inspected.data.local.views),
            "replayed_slices": len(replay.learnt),
        },
        "started_from": {"name": card["name"], "training": card["training"]},
    }


def _calibration(material: Material, replay: Replay) -> dict[str, Any]:
    base = len(replay.unlearnt)
    return {
        "calibrated_on": "answers of heads that left groups of the snapshot out"
        + (", and of the head about slices of the base that no weight was fitted on" * bool(base)),
        "slices": len(material.learnt) + base,
        "groups": len({one.group for one in material.learnt})
        + len(set(replay.unlearnt.groups.tolist())),
    }
