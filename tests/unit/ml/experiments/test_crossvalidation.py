"""Cross-validation answers every slice once, keeps what is finished, and pools it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ml.__main__ import main
from ml.dataset import Entry, Split
from ml.dataset.parts import groups_hash
from ml.errors import InvalidConfiguration, InvalidModel
from ml.experiments.crossvalidation import (
    calibrated_on_others,
    calibration_of,
    cross_validate,
    finished_folds,
    pooled,
    splits_against_source,
    splits_by_group,
    splits_by_source,
)
from ml.labels import LABELS
from ml.registry import SERVING, load_model
from ml.release.packaging import recalibrate
from ml.serving.predictor import Predictor
from ml.training.distributed import single_process
from ml.training.recipe import Recipe, Stage
from tests.heads import slices, with_spots_outlined, write_manifest

TINY = Recipe(
    architecture="narrow", start="scratch", stages=(Stage(32, 1),), input_size=32, frozen=0
)


@pytest.mark.usefixtures("narrow_networks")
def test_each_slice_is_answered_once_and_a_rerun_goes_on(tmp_path: Path) -> None:
    data = with_spots_outlined(slices(tmp_path, 32))
    data = [replace(one, box=(0.2, 0.2, 0.2, 0.2)) for one in data]
    splits = splits_by_group(data, folds=2, seed=1)
    folder = tmp_path / "run"
    first = cross_validate(splits, TINY, folder=folder, distributed=single_process(), only=[2])
    assert [fold.name for fold in first] == ["fold-2"]
    kept = (folder / "fold-2" / "answers.json").stat().st_mtime_ns
    # As if it had been begun when fields of recipes had other names, or were others.
    settings = json.loads((folder / "settings.json").read_text())
    settings["recipe"]["healed"] = settings["recipe"].pop("inpainted")
    settings["recipe"] |= {"mixup": 0.0}
    del settings["recipe"]["winograd"]
    (folder / "settings.json").write_text(json.dumps(settings))
    folds = cross_validate(splits, TINY, folder=folder, distributed=single_process())
    assert (folder / "fold-2" / "answers.json").stat().st_mtime_ns == kept
    answered = [answer.path for fold in folds for answer in fold.answers]
    assert sorted(answered) == sorted(entry.path.name for entry in data)
    figures = pooled(folds)
    assert figures["n"] == 32
    assert figures["start"] == "scratch"
    assert figures["pointing_game"]["n"] == 24
    assert set(figures["accuracy_by_fold"]) == {"fold-1", "fold-2"}
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["contents"]["fold-1"]["groups_sha256"] == groups_hash(
        entry.group for entry in splits["fold-1"].validation
    )
    whole = data[0].path.read_bytes()
    data[0].path.write_bytes(data[1].path.read_bytes())
    with pytest.raises(InvalidConfiguration, match="have changed since"):
        cross_validate(splits, TINY, folder=folder, distributed=single_process())
    data[0].path.write_bytes(whole)
    with pytest.raises(InvalidConfiguration, match="another"):
        cross_validate(splits, replace(TINY, seed=2), folder=folder, distributed=single_process())


@pytest.mark.usefixtures("narrow_networks")
def test_further_epochs_go_on_from_each_folds_model(tmp_path: Path) -> None:
    splits = splits_by_group(slices(tmp_path, 24), folds=2, seed=1)
    folder = tmp_path / "run"
    short = cross_validate(splits, TINY, folder=folder, distributed=single_process())
    longer = replace(TINY, stages=(Stage(32, 2), Stage(48, 1)), input_size=48)
    with pytest.raises(InvalidConfiguration, match="another"):  # the size when it serves differs
        cross_validate(splits, longer, folder=folder, distributed=single_process())
    longer = replace(longer, input_size=32)
    (first,) = cross_validate(splits, longer, folder=folder, distributed=single_process(), only=[1])
    log = (folder / "fold-1" / "log.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in log] == [["1", "32"], ["2", "32"], ["3", "48"]]
    assert first.answers != short[0].answers
    with pytest.raises(InvalidConfiguration, match="another"):  # it cannot be shortened
        cross_validate(splits, TINY, folder=folder, distributed=single_process())


@pytest.mark.usefixtures("narrow_networks")
def test_folds_without_calibration_parts_are_calibrated_by_what_the_others_say(
    tmp_path: Path,
) -> None:
    data = slices(tmp_path, 48)
    splits = splits_by_group(data, folds=3, seed=1, calibrated_apart=False)
    folder = tmp_path / "run"
    assert (
        cross_validate(splits, TINY, folder=folder, distributed=single_process(), only=[1, 3]) == []
    )
    folds = cross_validate(splits, TINY, folder=folder, distributed=single_process())
    assert sorted(a.path for fold in folds for a in fold.answers) == sorted(
        entry.path.name for entry in data
    )
    for fold, again in zip(folds, calibrated_on_others(folds), strict=True):
        assert fold.by_others
        assert fold.calibration.temperature == pytest.approx(again.calibration.temperature, 0.02)
        others = {e.group for e in data} - {e.group for e in splits[fold.name].training}
        assert {answer.group for answer in fold.answers} == others
    figures = pooled(folds)
    assert figures["calibrated_by_others"]
    assert "calibrated_on_others" not in figures
    longer = replace(TINY, stages=(Stage(32, 2),))
    assert (
        cross_validate(splits, longer, folder=folder, distributed=single_process(), only=[1]) == []
    )


def test_calibration_by_others_goes_with_groups_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--manifest", "none.csv", "--out", str(tmp_path), "--by", "source"]
    assert main(["crossval", *arguments, "--calibrated-by-others"]) == 1
    assert "--by group" in capsys.readouterr().err


@pytest.mark.usefixtures("narrow_networks")
def test_command_writes_pooled_figures_and_plots(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, slices(tmp_path, 24))
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        'architecture = "narrow"\nstart = "scratch"\ninput_size = 32\nfrozen = 0\n'
        "[[stages]]\nsize = 32\nepochs = 1"
    )
    out = tmp_path / "out"
    arguments = ["crossval", "--manifest", str(manifest), "--config", str(recipe)]
    page = tmp_path / "docs" / "page.md"
    (tmp_path / "more").mkdir()
    also = write_manifest(tmp_path / "more", slices(tmp_path / "more", 4))
    card = tmp_path / "card.json"
    card.write_text('{"name": "served"}')
    report = ["--out", str(out), "--folds", "2", "--report", str(page), "--also", str(also)]
    report += ["--card", str(card)]
    assert main([*arguments, *report]) == 0
    assert "other folds' networks said" not in page.read_text().split("## Folds")[0]
    by_others = [*report, "--calibrated-by-others", "--out", str(tmp_path / "by-others")]
    assert main([*arguments, *by_others]) == 0
    assert "other folds' networks said" in page.read_text().split("## Folds")[0]
    assert "--calibrated-by-others" in page.read_text()
    assert main([*arguments, *report]) == 0
    text = page.read_text()
    assert "fold-2" in text
    assert f"--also {also.name}" in text
    assert "not a certified medical device" in text
    assert str(tmp_path) not in text
    assert json.loads((out / "figures.json").read_text())["n"] == 24
    entered = json.loads(card.read_text())
    assert entered["name"] == "served"
    assert entered["cross_validations"]["group"]["n"] == 24
    assert entered["cross_validations"]["group"]["command"] in text
    assert {path.name for path in out.glob("*.png")} == {
        "confusion.png", "reliability.png", "roc.png",
    }  # fmt: skip


def test_a_source_that_is_left_out_is_in_no_other_part() -> None:
    entries = [
        Entry(
            Path(f"{n}.png"),
            LABELS[n % 4],
            f"g{n // 8}-{n % 4}",
            source="figshare" if n % 4 < 2 else None,
        )
        for n in range(400)
    ]
    splits = splits_by_source(entries, seed=1)
    assert set(splits) == {"without-figshare", "without-unknown"}
    left_out = splits["without-figshare"]
    assert all(entry.source for entry in left_out.validation)
    assert not any(entry.source for entry in left_out.training + left_out.calibration)
    calibration = {entry.group for entry in left_out.calibration}
    assert calibration
    assert not calibration & {entry.group for entry in left_out.training}


def test_one_source_alone_cannot_be_left_out() -> None:
    entries = [Entry(Path(f"{n}.png"), LABELS[n % 4], f"g{n}") for n in range(80)]
    with pytest.raises(InvalidConfiguration, match="one source"):
        splits_by_source(entries, seed=1)


def test_against_the_source_needs_a_source_with_and_without_tumours() -> None:
    entries = [
        Entry(Path(f"{n}.png"), LABELS[n % 4], f"g{n}", source="mixed" if n % 4 > 1 else "figshare")
        for n in range(80)
    ]
    splits = splits_against_source(entries, folds=2, seed=1)
    assert set(splits) == {"against-source-1", "against-source-2"}
    assert {e.source for split in splits.values() for e in split.validation} == {"mixed"}
    with pytest.raises(InvalidConfiguration, match="No source"):
        splits_against_source([replace(e, source=e.label.value) for e in entries], folds=2, seed=1)


@pytest.mark.usefixtures("narrow_networks")
def test_further_slices_are_learnt_in_every_fold_and_never_measured(tmp_path: Path) -> None:
    data = slices(tmp_path, 24)
    splits = splits_by_group(data[:20], folds=2, seed=1)
    folds = cross_validate(
        splits, TINY, folder=tmp_path / "run", distributed=single_process(), also=data[20:]
    )
    answered = {answer.path for fold in folds for answer in fold.answers}
    assert answered == {entry.path.name for entry in data[:20]}
    with pytest.raises(InvalidConfiguration, match="other data"):
        cross_validate(splits, TINY, folder=tmp_path / "run", distributed=single_process())


def test_fold_that_is_not_there_is_refused(tmp_path: Path) -> None:
    entries = [Entry(Path(f"{n}.png"), LABELS[n % 4], f"g{n}") for n in range(80)]
    splits = splits_by_group(entries, folds=2, seed=1)
    with pytest.raises(InvalidConfiguration, match="no fold 3"):
        cross_validate(splits, TINY, folder=tmp_path, distributed=single_process(), only=[3])


@pytest.mark.usefixtures("narrow_networks")
def test_folds_undo_their_own_calibration_and_take_that_of_the_others(tmp_path: Path) -> None:
    splits = splits_by_group(slices(tmp_path, 48), folds=2, seed=1)
    folder = tmp_path / "run"
    with pytest.raises(InvalidConfiguration, match="no finished"):
        finished_folds(folder)
    one, other = cross_validate(splits, TINY, folder=folder, distributed=single_process())
    assert finished_folds(folder) == [one, other]
    probabilities = one.calibration.probabilities(one.logits())
    torch.testing.assert_close(
        probabilities, torch.tensor([a.probabilities for a in one.answers]).double()
    )
    first, second = calibrated_on_others([one, other])
    assert first.calibration == calibration_of([other])
    assert second.calibration == calibration_of([one])
    assert [a.path for a in first.answers] == [a.path for a in one.answers]
    assert first.answers != one.answers
    assert pooled([one, other])["calibrated_on_others"]["n"] == 48
    assert "calibrated_on_others" not in pooled([one])
    (folder / "fold-2" / "answers.json").unlink()
    with pytest.raises(InvalidConfiguration, match="no finished"):
        finished_folds(folder)


@pytest.mark.usefixtures("narrow_networks")
def test_model_is_calibrated_on_a_cross_validation_of_its_recipe(tmp_path: Path) -> None:
    manifest = str(write_manifest(tmp_path, slices(tmp_path, 160)))
    run = ["--manifest", manifest, "--architecture", "narrow", "--frozen", "0", "--start"]
    run += ["scratch", "--stages", "32:1", "--input-size", "32"]
    assert main(["train", *run, "--out", str(tmp_path / "model")]) == 0
    assert main(["crossval", *run, "--folds", "2", "--out", str(tmp_path / "folds")]) == 0
    leaking = ["--start", str(tmp_path / "model" / "narrow.json"), "--out", str(tmp_path / "leak")]
    assert main(["crossval", *run, *leaking, "--folds", "2"]) == 1
    before = load_model(tmp_path / "model" / "narrow.json")
    calibrate = ["calibrate", "--manifest", manifest, "--crossval", str(tmp_path / "folds")]
    trained = ["--model", str(tmp_path / "model" / "narrow.json")]
    assert main([*calibrate, *trained, "--out", str(tmp_path / "again")]) == 0
    after = load_model(tmp_path / "again" / "narrow.json")
    wanted = calibration_of(finished_folds(tmp_path / "folds"))
    assert after.doubt.calibration == wanted
    moved = after.network.state_dict()["head.bias"] - before.network.state_dict()["head.bias"]
    expected = torch.tensor(wanted.offsets) - torch.tensor(before.doubt.calibration.offsets)
    torch.testing.assert_close(moved, expected, rtol=1e-2, atol=1e-2)  # saved in half precision
    assert after.card["calibration"]["slices"] == 160
    assert after.card["training"] == before.card["training"]
    assert after.card["metrics"]["n"] == before.card["metrics"]["n"]
    assert Predictor.load(tmp_path / "again" / "narrow.json", device="cpu").name == before.name


@pytest.mark.usefixtures("narrow_networks")
def test_model_is_calibrated_on_its_own_part_again(tmp_path: Path) -> None:
    manifest = str(write_manifest(tmp_path, slices(tmp_path, 160)))
    run = ["--manifest", manifest, "--architecture", "narrow", "--frozen", "0", "--start"]
    run += ["scratch", "--stages", "32:1", "--input-size", "32"]
    assert main(["train", *run, "--out", str(tmp_path / "model")]) == 0
    trained = tmp_path / "model" / "narrow.json"
    calibrate = ["calibrate", "--manifest", manifest, "--model", str(trained), "--out"]
    assert main([*calibrate, str(tmp_path / "again")]) == 0
    before, after = load_model(trained), load_model(tmp_path / "again" / "narrow.json")
    assert "calibration" not in after.card
    assert after.doubt.calibration.temperature == pytest.approx(
        before.doubt.calibration.temperature, rel=0.02
    )


def test_model_whose_card_does_not_tell_its_offsets_is_not_calibrated_again() -> None:
    served = load_model(SERVING)
    card = served.card | {"doubt": {"temperature": 1.0}}
    with pytest.raises(InvalidModel, match="offsets"):
        recalibrate(
            replace(served, card=card),
            served.doubt.calibration,
            Split([], [], []),
            folder=Path(),
            facts={},
        )
