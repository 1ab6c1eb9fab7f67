"""A snapshot and a model become a candidate, and a rerun goes on where it ended."""

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ml.__main__ import main
from ml.architectures import ARCHITECTURES, Network
from ml.dataset import Entry, Split, content_hash
from ml.dataset.parts import counted, listed
from ml.dataset.snapshot import read_snapshot
from ml.dataset.tensors import prepare
from ml.errors import Cancelled, InvalidConfiguration
from ml.evaluation.evaluation import observe
from ml.labels import LABELS
from ml.registry import load_model, read_card, save_model, write_card
from ml.release.material import ISSUES, Order
from ml.release.packaging import reference_features, said_unseen
from ml.release.progress import Progress
from ml.release.replay import make_replay, replay_path, save_replay
from ml.release.retraining import retrain
from ml.serving.predictor import Predictor
from ml.training.inference import forward_all
from ml.training.recipe import Recipe, Stage
from ml.uncertainty.doubt import Doubt
from tests.heads import spots, write_manifest
from tests.snapshots import snapshot_of

pytestmark = pytest.mark.usefixtures("narrow_networks")

RECIPE = Recipe(architecture="narrow", input_size=32, stages=(Stage(32, 1),), frozen=0)


def weaken(network: Network, few: list[Entry]) -> None:
    """Let the head learn from few slices, some of them with wrong labels."""
    prepared = prepare(few, preprocessing="head-crop", size=32)
    features = forward_all(network, prepared.images, exact=True).features
    labels = prepared.labels.clone()
    labels[:2] = (labels[:2] + 1) % 4
    known = torch.cat([features, torch.ones(len(few), 1)], 1)
    wanted = 8 * F.one_hot(labels, 4).float()
    found = torch.linalg.solve(known.T @ known + 0.01 * torch.eye(known.shape[1]), known.T @ wanted)
    with torch.no_grad():
        network.head.weight.copy_(found[:-1].T)
        network.head.bias.copy_(found[-1])


def weakened_model(folder: Path, base: Split) -> Path:
    """A model whose head has learnt from few slices of the base, with wrong labels among them."""
    torch.manual_seed(1)
    network = ARCHITECTURES["narrow"].build().eval()
    weaken(network, base.training[:12])
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
    data = spots(tmp_path / "base", 120, seed=1)
    return Split(data[:80], data[80:104], data[104:])


@pytest.fixture
def model(tmp_path: Path, base: Split) -> Path:
    """With its replayed features."""
    card = weakened_model(tmp_path / "old", base)
    loaded = load_model(card)
    replay = make_replay(loaded, base, lambda part: lambda done, total: None)
    save_replay(replay, replay_path(card), sha256=loaded.sha256)
    return card


def ordered(tmp_path: Path, model: Path, **values: Any) -> Order:
    """A snapshot of slices that the model does not know, and what is to be made of it."""
    folder = tmp_path / "snapshot"
    if not folder.exists():
        data = spots(tmp_path / "local", 120, seed=2)
        snapshot_of(folder, data[:80], data[80:])
    return Order(snapshot=folder, card=model, folder=tmp_path / "out", **values)


def right(card: Path, entries: list[Entry]) -> float:
    """Share of the slices that a model calls what they are."""
    said = observe(Predictor.load(card, device="cpu"), entries)
    return sum(one.right for one in said) / len(said)


def test_weakened_head_gets_better_and_the_base_is_not_forgotten(
    tmp_path: Path, model: Path, base: Split
) -> None:
    order = ordered(tmp_path, model)
    seen: list[tuple[str, int, int, Mapping[str, Any]]] = []
    card = retrain(order, Progress(lambda *told: seen.append(told)))
    holdout = read_snapshot(order.snapshot).holdout
    assert right(card, holdout) > right(model, holdout) + 0.1
    assert right(card, base.validation) >= right(model, base.validation) - 0.05

    made, old = load_model(card), load_model(model)
    assert made.name != old.name
    assert made.sha256[:8] in made.name
    told = made.card
    assert told["retrained_from"]["weights_sha256"] == old.sha256
    assert told["retrained_from"]["card_sha256"] == content_hash(model)
    snapshot = read_snapshot(order.snapshot)
    assert told["snapshot"]["id"] == snapshot.id
    hashes = told["snapshot"]["learnt"]["image_hashes"]
    assert hashes == sorted(str(one.sha256) for one in snapshot.training)
    assert told["metrics"]["n"] == len(holdout)
    assert told["metrics"]["part"] == "snapshot hold-out"
    assert told["operating_points"]["tumor_share"] == 0.3
    assert told["split"] == old.card["split"]
    assert "cross_validations" not in told
    assert replay_path(card).exists()
    assert {name for name, *_ in seen} > {"features in float32", "labels", "measuring"}
    assert "label_issues" in seen[-1][3]

    # Only the head has moved.
    before, after = old.network.state_dict(), made.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head.weight", "head.bias"}


def test_wrong_labels_are_listed_and_left_out_where_the_plan_says_so(
    tmp_path: Path, model: Path, base: Split
) -> None:
    data = spots(tmp_path / "local", 120, seed=2)
    wrong = [replace(one, label=LABELS[(LABELS.index(one.label) + 1) % 4]) for one in data[:6]]
    snapshot_of(tmp_path / "snapshot", [*wrong, *data[6:80]], data[80:])
    order = Order(tmp_path / "snapshot", model, tmp_path / "out", label_issues="leave_out")
    told = read_card(retrain(order))["label_issues"]
    with (order.folder / ISSUES).open() as file:
        listed_issues = list(csv.DictReader(file))
    assert len(listed_issues) == told["found"] == len(told["slices"])
    suspected = {row["sha256"] for row in listed_issues}
    candidate = read_card(order.folder / "model" / "narrow.json")
    learnt = set(candidate["snapshot"]["learnt"]["image_hashes"])
    assert not suspected & learnt
    assert len(suspected) + len(learnt) == 80
    true_of = {content_hash(one.path): one for one in read_snapshot(order.snapshot).training}
    assert suspected <= set(true_of)
    assert len(suspected) >= 3


def test_cancelled_retraining_goes_on_where_it_ended(tmp_path: Path, model: Path) -> None:
    order = ordered(tmp_path, model)
    steps: list[str] = []

    def cancelled() -> bool:
        return steps[-1] == "heads that leave groups out"

    with pytest.raises(Cancelled):
        retrain(order, Progress(lambda step, *_: steps.append(step), cancelled))
    assert (order.folder / "features").is_dir()
    assert not (order.folder / "calibrated").exists()
    steps.clear()
    assert retrain(order, Progress(lambda step, *_: steps.append(step))).exists()
    assert not any(step.startswith("features") for step in steps)


def test_copies_of_what_is_held_out_are_not_learnt_from(
    tmp_path: Path, model: Path, base: Split
) -> None:
    order = ordered(tmp_path, model)
    known = read_snapshot(order.snapshot).training[0]
    copied = tmp_path / "reference.png"
    copied.write_bytes(known.path.read_bytes())
    card = read_card(retrain(replace(order, held_out=[replace(known, path=copied, group="r")])))
    assert card["snapshot"]["left_out"][known.sha256].startswith("group with copies")
    assert known.sha256 not in card["snapshot"]["learnt"]["image_hashes"]


def test_what_is_missing_is_told_in_a_line(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ordered(tmp_path, model)
    command = ["retrain", "--snapshot", str(order.snapshot), "--from", str(model)]
    replay_path(model).unlink()
    assert main([*command, "--out", str(tmp_path / "one")]) == 1
    assert "python -m ml replay --model" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "two"), "--mode", "full"]) == 1
    assert "--base" in capsys.readouterr().err
    (order.snapshot / "manifest.csv").write_text("nothing")
    assert main([*command, "--out", str(tmp_path / "three")]) == 1
    assert "hash" in capsys.readouterr().err


def test_folder_of_another_retraining_is_refused(tmp_path: Path, model: Path) -> None:
    order = ordered(tmp_path, model)
    (order.folder).mkdir()
    (order.folder / "retraining.json").write_text(json.dumps({"snapshot": "another"}))
    with pytest.raises(InvalidConfiguration, match="another folder"):
        retrain(order)


def test_last_layers_learn_beside_the_base(tmp_path: Path, model: Path, base: Split) -> None:
    entries = [*base.training, *base.calibration, *base.validation]
    order = ordered(tmp_path, model, mode="full", base=entries)
    steps: list[str] = []
    card = retrain(order, Progress(lambda step, *_: steps.append(step)))
    told = read_card(card)
    assert told["retrained_from"]["mode"] == "full"
    assert told["training"]["started_from"]["name"] == "narrow-2026.11"
    assert told["split"] == read_card(model)["split"]
    assert "training" in steps
    assert (order.folder / ISSUES).exists()
    assert load_model(card).name == told["name"]


def test_replay_is_made_by_its_command(
    tmp_path: Path, model: Path, base: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    replay_path(model).unlink()
    entries = [*base.training, *base.calibration, *base.validation]
    manifest = write_manifest(tmp_path / "base", entries)
    card = read_card(model)
    command = ["replay", "--model", str(model), "--manifest", str(manifest), "--learnt", "30"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(replay_path(model))
    write_card(card, model)
    order = ordered(tmp_path, model)
    assert read_card(retrain(order))["training"]["head"]["replayed_slices"] == 30
