"""Gates: a model passes beside itself, a damaged one fails by name, and nothing tampered is judged.

The models are the shipped one and copies of it; the slices are groups of the reference set that the
shipped model has not learnt from, some as a small reference set and others as a snapshot.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from ml.__main__ import main
from ml.dataset import Entry, write_manifest
from ml.dataset.out_of_scope import OutOfScopeSlice
from ml.dataset.parts import groups_hash
from ml.dataset.reference import BUNDLED, Reference, read_reference, seal_reference
from ml.dataset.snapshot import Snapshot, read_snapshot
from ml.evaluation.ood.collection import read_collection, write_collection
from ml.labels import INDEX, LABELS, Label
from ml.registry import SERVING, load_model, read_card, save_model
from ml.release.change_plan import ChangePlan, read_plan_of_change
from ml.release.gate import Gate
from ml.release.gate_checks import unfamiliar_local
from ml.release.gate_figures import (
    Answers,
    Engines,
    Evidence,
    Site,
    learnt_copies,
    learnt_groups,
)
from ml.release.gates import verdict_of
from tests.snapshots import agreed, snapshot_of

SLICES = 2  # of each group
PLAN = """
version = 3
may_be_unmeasured = ["localisation_local"]
[data]
fewest_holdout_groups = 4
[gates.superiority]
required = false
[gates.coverage]
fewest_slices = 1
[gates.unfamiliar]
fewest_slices = 2
[gates.speed]
most_times = 3
[gates.engine]
slices = 6
"""


@dataclass(frozen=True)
class World:
    """What gates need."""

    reference: Path
    snapshot: Path
    plan: Path

    def run(self, candidate: Path, out: Path) -> tuple[int, dict[str, Any]]:
        """Exit code and report."""
        code = main([
            "gates", "--candidate", str(candidate), "--incumbent", str(SERVING),
            "--snapshot", str(self.snapshot), "--reference", str(self.reference),
            "--plan", str(self.plan), "--device", "cpu", "--json", str(out),
        ])  # fmt: skip
        return code, json.loads(out.read_text()) if out.exists() else {}


def by_group(entries: Sequence[Entry], label: Label) -> Iterator[list[Entry]]:
    """Some slices of each group of a class."""
    mine = sorted((one for one in entries if one.label is label), key=lambda one: one.group)
    for _group, found in groupby(mine, key=lambda one: one.group):
        yield list(found)[:SLICES]


def small_reference(folder: Path, entries: Sequence[Entry]) -> Path:
    whole = read_reference()
    copies = []
    for kind, chosen in (("images", entries), ("healthy", whole.healthy[:3])):
        (folder / kind).mkdir(parents=True)
        copies = [replace(one, path=folder / kind / one.path.name) for one in chosen]
        for one, copy in zip(chosen, copies, strict=True):
            shutil.copy(one.path, copy.path)
        write_manifest(folder / ("manifest.csv" if kind == "images" else "healthy.csv"), copies)
    shutil.copy(BUNDLED / "outlines.json", folder)
    (folder / "pictures").mkdir()
    pictures = read_collection(whole.pictures)[::6]
    moved = [replace(one, path=folder / "pictures" / one.path.name) for one in pictures]
    for one, copy in zip(pictures, moved, strict=True):
        shutil.copy(one.path, copy.path)
    write_collection(folder / "pictures.csv", moved)
    seal_reference(folder)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("gates")
    slices = read_reference().slices
    parts: list[list[Entry]] = [[], [], []]
    for label in LABELS:
        groups = by_group(slices, label)
        for part, count in zip(parts, (2, 2, 1), strict=True):
            for _ in range(count):
                part += next(groups)
    reference, holdout, training = parts
    others = [
        OutOfScopeSlice(one.content, one.group, "not_a_brain", one.provenance)
        for one in (
            agreed(picture.path.read_bytes(), Label.GLIOMA, "patient-0")
            for picture in read_collection(read_reference().pictures)[:2]
        )
    ]
    snapshot_of(folder / "snapshot", training, holdout, out_of_scope=others)
    (folder / "plan.toml").write_text(PLAN)
    return World(
        small_reference(folder / "reference", reference),
        folder / "snapshot",
        folder / "plan.toml",
    )


@pytest.fixture(scope="module")
def snapshot(world: World) -> Snapshot:
    return read_snapshot(world.snapshot)


@pytest.fixture(scope="module")
def reference(world: World) -> Reference:
    return read_reference(world.reference)


def verdicts(report: dict[str, Any], verdict: str) -> set[str]:
    return {one["name"] for one in report["gates"] if one["verdict"] == verdict}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_model_passes_every_gate_beside_itself_but_superiority(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = world.run(SERVING, tmp_path / "report.json")
    assert verdicts(report, "fail") == {"superiority"}
    assert verdicts(report, "not_measured") == set()
    assert (code, report["verdict"]) == (0, "pass")
    assert "verdict: pass" in capsys.readouterr().out
    gates = {one["name"]: one for one in report["gates"]}
    assert gates["non_inferiority"]["interval"] == [0.0, 0.0]
    assert gates["non_inferiority"]["threshold"] == -0.01
    assert gates["superiority"]["required"] is False
    assert "of 2 slices that readers call none" in gates["unfamiliar_local"]["reason"]
    assert report["candidate"] == report["incumbent"]
    card = read_card(SERVING)
    assert report["candidate"]["weights_sha256"] == card["weights"]["sha256"]
    facts = read_card(world.snapshot / "snapshot.json")
    assert report["snapshot"] == {name: facts[name] for name in ("id", "manifest_sha256")}
    assert report["plan"]["version"] == 3


def damaged(folder: Path) -> Path:
    """The shipped model with a head that hardly ever finds a tumour."""
    model = load_model(SERVING)
    offsets = torch.zeros(len(LABELS))
    offsets[INDEX[Label.NO_TUMOR]] = 20.0
    model.network.shift(offsets)
    kept = {name: value for name, value in model.card.items() if name != "quantised"}
    return save_model(
        model.network, model.doubt, kept | {"name": "damaged"}, folder=folder, stem="damaged"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_model_with_a_damaged_head_fails_by_the_names_of_what_is_worse(
    world: World, tmp_path: Path
) -> None:
    code, report = world.run(damaged(tmp_path), tmp_path / "report.json")
    assert (code, report["verdict"]) == (3, "fail")
    failed = verdicts(report, "fail")
    assert failed >= {
        "non_inferiority",
        "non_inferiority_local",
        "superiority",
        "sensitivity_glioma",
        "sensitivity_meningioma",
        "sensitivity_pituitary",
        "missed_tumors",
        "missed_tumors_local",
        "calibration_ece",
        "calibration_nll",
        "coverage_glioma",
        "coverage_local",
    }
    assert not failed & {
        "sensitivity_no_tumor",
        "coverage_no_tumor",
        "unfamiliar_flagged",
        "other_hospital",
        "no_overlap",
    }
    missed = next(one for one in report["gates"] if one["name"] == "missed_tumors")
    assert "of the tumours are called no tumour" in missed["reason"]


def test_tampered_snapshot_is_not_judged_on(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world.snapshot, tmp_path / "snapshot")
    path = tmp_path / "snapshot" / "manifest.csv"
    path.write_text(path.read_text().replace("glioma", "pituitary"))
    changed = replace(world, snapshot=tmp_path / "snapshot")
    assert changed.run(SERVING, tmp_path / "report.json") == (1, {})
    assert "manifest.csv is not what was written" in capsys.readouterr().err


def test_bad_usage_and_a_wrong_plan_have_exit_codes_of_their_own(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["gates", "--candidate", str(SERVING)])
    assert left.value.code == 2
    plan = tmp_path / "plan.toml"
    plan.write_text("version = 1\n[gates.set_size]\nmost_times = 0.1\n")
    assert replace(world, plan=plan).run(SERVING, tmp_path / "out.json") == (1, {})
    assert "most_times is a number from 1" in capsys.readouterr().err


def test_candidate_that_learnt_from_what_it_is_judged_on_is_found_by_hashes_and_by_look(
    snapshot: Snapshot, reference: Reference
) -> None:
    def card(*learnt: Entry) -> dict[str, Any]:
        return {"snapshot": {"learnt": {"image_hashes": [one.sha256 for one in learnt]}}}

    public = reference.held_out
    assert learnt_copies(card(*snapshot.training), snapshot, public) == {}
    assert learnt_copies({}, snapshot, public) == {}
    held_out = snapshot.holdout[0]
    assert learnt_copies(card(held_out), snapshot, public) == {held_out.sha256: "the file itself"}
    # The same picture as a file of another format, listed as learnt or with nothing listed.
    same = next(one for one in read_reference().slices if one.group == public[0].group)
    of_the_snapshot = snapshot.training[0]
    public = [*public, replace(same, path=of_the_snapshot.path.resolve())]
    expected = {str(of_the_snapshot.sha256)}
    assert learnt_copies(card(of_the_snapshot), snapshot, public).keys() >= expected
    assert learnt_copies({}, snapshot, public).keys() >= expected
    others = [one for one in snapshot.training if one.group != of_the_snapshot.group]
    assert learnt_copies(card(*others), snapshot, public) == {}


def test_groups_of_the_reference_set_that_a_card_does_not_hold_out_are_named(
    reference: Reference,
) -> None:
    names = sorted({one.group for one in reference.slices})

    def split(held_out: list[str]) -> dict[str, Any]:
        listed = {"group_names": held_out, "groups_sha256": groups_hash(held_out)}
        return {"split": {"validation": listed}}

    assert learnt_groups(split(names), reference) == []
    assert learnt_groups(split(names[1:]), reference) == names[:1]
    assert learnt_groups(split(names[1:]) | {"retrained_from": {}}, reference) == []
    assert learnt_groups(read_card(SERVING), reference) == []


def local_gate(new: int, old: int, n: int, plan: ChangePlan) -> list[Gate]:
    """The gate about slices of none of the classes, so many of ``n`` called unfamiliar."""
    said = [
        Answers(Site([]), None, [], {}, {"n": n, "flagged": one} if n else None)
        for one in (new, old)
    ]
    evidence = Evidence(said[0], said[1], Engines("", [], []), 1.0, (1, 1), {}, [])
    return list(unfamiliar_local(evidence, plan))


def test_candidate_must_not_find_more_familiar_what_readers_call_none_of_the_classes() -> None:
    plan = read_plan_of_change().plan
    (same,), (worse,) = (local_gate(new, 30, 50, plan) for new in (29, 28))
    assert (same.verdict, same.figure, same.threshold) == ("pass", 0.58, pytest.approx(0.58))
    assert (worse.verdict, worse.required) == ("fail", True)
    (none,) = local_gate(0, 0, 20, plan)
    assert (none.verdict, "at least 0.0%" in none.reason) == ("pass", True)


def test_too_few_of_them_decide_nothing_whatever_the_plan_and_none_are_no_gate() -> None:
    for plan in (read_plan_of_change().plan, ChangePlan(version=1)):
        (few,) = local_gate(0, 19, 19, plan)
        assert (few.verdict, verdict_of([few], plan)) == ("not_measured", "pass")
        assert local_gate(0, 0, 0, plan) == []


def test_gate_that_is_not_measured_fails_unless_the_plan_lists_it() -> None:
    unmeasured = Gate("coverage_local", "not_measured", "too few")
    passed = Gate("speed", "pass", "fast")
    plan = ChangePlan(version=1)
    assert verdict_of([passed], plan) == "pass"
    assert verdict_of([passed, unmeasured], plan) == "fail"
    listed = replace(plan, may_be_unmeasured=("coverage_local",))
    assert verdict_of([passed, unmeasured], listed) == "pass"
    assert verdict_of([replace(unmeasured, verdict="fail")], listed) == "fail"
    assert verdict_of([replace(unmeasured, required=False)], plan) == "pass"
