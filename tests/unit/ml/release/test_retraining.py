"""A snapshot and a model become a candidate, and a rerun goes on where it ended."""

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ml.__main__ import main
from ml.architectures import ARCHITECTURES
from ml.dataset import Entry, Split, content_hash
from ml.dataset.parts import counted, listed
from ml.errors import Cancelled
from ml.labels import LABELS
from ml.registry import load_model, read_card, save_model, write_card
from ml.release.material import ISSUES, Order
from ml.release.packaging import reference_features, said_unseen
from ml.release.progress import Progress
from ml.release.replay import make_replay, replay_path, save_replay
from ml.release.retraining import retrain
from ml.serving.predictor import Predictor
from ml.training.recipe import Recipe, Stage
from ml.uncertainty.doubt import Doubt
from tests.heads import slices, write_manifest
from tests.snapshots import snapshot_of

pytestmark = pytest.mark.usefixtures("narrow_networks")

RECIPE = Recipe(architecture="narrow", input_size=32, stages=(Stage(32, 1),), frozen=0)


def weakened_model(folder: Path, base: Split) -> Path:
    """A model whose head has learnt from few slices of the base, with wrong labels among them."""
    torch.manual_seed(0)
    network = ARCHITECTURES["narrow"].build().eval()
    reference = reference_features(network, RECIPE, base.training, exact=True)
    said = said_unseen(network, RECIPE, reference, base.calibration, exact=True)
    folder.mkdir()
    card = {
        "name": "narrow-2026.11",
        "architecture": "narrow",
        "created": "2026-11-01",
        "labels": [label.value for label in LABELS],
        "input": {"size": 32, "preprocessing": "head-crop", "both_sides": False},
        "operating_points": {"tumor_share": 0.3},
        "training": {"architecture": "narrow", "head_rate": 0.001},
        "data": {"slices": 1},
        "cross_validations": {"group": {"n": 1}},
        "split": {
            "by": "group",
            "seed": 1,
            "training": counted(base.training),
            "calibration": listed(base.calibration),
            "validation": listed(base.validation),
        },
    }
    return save_model(network, Doubt.fit(said, reference), card, folder=folder, stem="narrow")


@pytest.fixture
def base(tmp_path: Path) -> Split:
    data = slices(tmp_path / "base", 120)
    return Split(data[:80], data[80:104], data[104:])


@pytest.fixture
def model(tmp_path: Path, base: Split) -> Path:
    """With its replayed features."""
    card = weakened_model(tmp_path / "old", base)
    loaded = load_model(card)
    replay = make_replay(loaded, base, lambda part: lambda done, total: None)
    save_replay(replay, replay_path(card), sha256=loaded.sha256)
    return card
