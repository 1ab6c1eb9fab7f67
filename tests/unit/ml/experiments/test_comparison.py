"""A comparison gives every row the same data and budget, and concludes no more than it shows."""

import json
from pathlib import Path
from typing import Any

import pytest

from ml.__main__ import main
from ml.architectures import ARCHITECTURES
from ml.dataset import Entry
from ml.errors import InvalidConfiguration
from ml.evaluation.cost import measure_cost
from ml.experiments.comparison import BASELINE, chosen_entries, read_comparison
from ml.labels import LABELS
from ml.reporting.comparison_report import conclusions
from tests.heads import slices, write_manifest

SHIPPED = Path(__file__).parents[4] / "ml" / "recipes" / "comparison.toml"
TINY = """
folds = 2
groups_per_class = 6
ablation = ["raw"]
[recipe]
start = "scratch"
input_size = 32
frozen = 0
[[recipe.stages]]
size = 32
epochs = 1
[[networks]]
name = "Narrow"
architecture = "narrow"
[[networks]]
name = "Odds/places"
architecture = "narrow-localisation"
head_rate = 1e-2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "comparison.toml"
    path.write_text(text)
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("narrow_networks")
def test_command_writes_a_page_that_says_how_it_was_made(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, slices(tmp_path, 40))
    config, report = written(tmp_path, TINY), tmp_path / "docs" / "comparison.md"
    arguments = ["compare", "--manifest", str(manifest), "--config", str(config)]
    arguments += ["--out", str(tmp_path / "out"), "--report", str(report)]
    assert main(arguments) == 0
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["slices"] == 24
    assert set(figures["networks"]) == {"Narrow", "Odds/places"}
    assert set(figures["ablation"]) == {"raw"}
    assert "difference" not in figures["networks"]["Narrow"]
    for row in (
        figures["networks"]["Odds/places"],
        figures["ablation"]["raw"],
        figures["baseline"][BASELINE],
    ):
        assert row["n"] == 24
        assert row["difference"]["p_holm"] >= row["difference"]["p"]
    page = report.read_text()
    for said in ("python -m ml compare", "scratch", "small budget", "Odds/places", BASELINE, "raw"):
        assert said in page
    assert str(tmp_path) not in page
    assert {one.name for one in (report.parent / "images").iterdir()} == {
        "comparison-networks.png", "comparison-ablation.png",
    }  # fmt: skip
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("answers.json")}
    assert len(finished) == 6
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_shipped_configuration_compares_the_networks_that_the_issue_names() -> None:
    comparison = read_comparison(SHIPPED)
    built = {one.recipe.architecture for one in comparison.networks}
    assert built == set(ARCHITECTURES) - {"vgg16-odds", "vgg16-twofold"}
    assert comparison.reference.name == "VGG16"
    assert {one.recipe.stages for one in comparison.networks} == {
        comparison.reference.recipe.stages
    }
    assert [one.name for one in comparison.ablation] == ["raw", "original", "clahe", "denoise"]


@pytest.mark.parametrize(
    "name", ["comparison.toml", "comparison-small.toml", "comparison-folds.toml"]
)
def test_shipped_sizes_suit_every_network(name: str) -> None:
    for candidate in read_comparison(SHIPPED.with_name(name)).networks:
        recipe = candidate.recipe
        multiple = ARCHITECTURES[recipe.architecture].build().multiple
        assert recipe.input_size % multiple == 0
        assert all(stage.size % multiple == 0 for stage in recipe.stages)


def test_a_network_may_start_from_a_file(tmp_path: Path) -> None:
    comparison = read_comparison(written(tmp_path, TINY)).starting_from({"Narrow": "a.safetensors"})
    assert [one.recipe.start for one in comparison.networks] == ["a.safetensors", "scratch"]
    assert comparison.ablation[0].recipe.start == "a.safetensors"
    with pytest.raises(InvalidConfiguration, match="nobody"):
        comparison.starting_from({"nobody": "a.safetensors"})


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("narrow_networks")
def test_some_of_the_folds_may_be_measured_and_others_later(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, slices(tmp_path, 40))
    short = TINY.replace('ablation = ["raw"]', "measured_folds = 1")
    short = short.replace("folds = 2", "folds = 3", 1)
    out = tmp_path / "out"

    def compared(text: str) -> dict[str, Any]:
        arguments = ["compare", "--manifest", str(manifest), "--out", str(out)]
        assert main([*arguments, "--config", str(written(tmp_path, text))]) == 0
        figures: dict[str, Any] = json.loads((out / "figures.json").read_text())
        return figures

    one = compared(short)
    assert one["networks"]["Narrow"]["n"] == one["measured_slices"] < one["slices"]
    assert one["networks"]["Narrow"]["accuracy_deviation"] is None
    assert "1 of them is measured" in (out / "comparison.md").read_text()
    two = compared(short.replace("measured_folds = 1", "measured_folds = 2"))
    assert two["networks"]["Narrow"]["n"] == two["measured_slices"] > one["measured_slices"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (TINY.replace("folds = 2", "folds = 2\nmeasured_folds = 3"), "measured_folds"),
        (TINY.replace("folds", "fold"), "fold"),
        (TINY.replace("head_rate", "batch"), "batch"),
        (TINY.replace("Odds/places", "Narrow"), "one name"),
        (TINY.replace("epochs = 1", "epochs = 0"), "epochs"),
        ("folds = 2", "recipe"),
    ],
)
def test_configuration_that_is_wrong_is_refused(changed: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        read_comparison(written(tmp_path, changed))


def test_limits_take_whole_groups_of_each_class_and_some_slices_of_each(tmp_path: Path) -> None:
    text = TINY.replace("groups_per_class = 6", "groups_per_class = 3\nslices_per_group = 2")
    comparison = read_comparison(written(tmp_path, text))
    entries = [Entry(Path(f"{n}.png"), LABELS[n % 4], f"g{n % 40}") for n in range(200)]
    chosen = chosen_entries(entries, comparison)
    assert len(chosen) == 4 * 3 * 2
    assert len({entry.group for entry in chosen}) == 12
    assert chosen == chosen_entries(entries, comparison)


def row(accuracy: float, gain: float, low: float, high: float, p: float) -> dict[str, Any]:
    interval = {"accuracy": [accuracy - 0.02, accuracy + 0.02]}
    return {
        "accuracy": accuracy,
        "intervals_95": interval,
        "difference": {"accuracy": gain, "low": low, "high": high, "p_holm": p},
    }


def test_only_what_is_shown_is_concluded() -> None:
    reference = row(0.90, 0, 0, 0, 1)
    del reference["difference"]
    said = conclusions(
        {
            "reference": "VGG16",
            "networks": {
                "VGG16": reference,
                "better": row(0.95, 0.05, 0.02, 0.08, 0.001),
                "luckier": row(0.92, 0.02, -0.01, 0.05, 0.01),
                "worse": row(0.80, -0.10, -0.15, -0.05, 0.001) | {"start": "scratch"},
            },
            "baseline": {BASELINE: row(0.70, -0.2, -0.25, -0.15, 0.0001)},
            "ablation": {"raw": row(0.89, -0.01, -0.03, 0.01, 0.4)},
        }
    )
    text = "\n".join(said)
    assert "better has the highest accuracy" in text
    assert "better is more accurate than VGG16" in text
    assert "No difference between luckier and VGG16 is shown" in text
    assert "worse is less accurate than VGG16" in text
    assert text.count("started from scratch") == 1
    assert "20.0 points above" in text
    assert "No difference between VGG16 with the preprocessing raw and VGG16" in text


def test_cost_counts_what_can_be_counted_by_hand() -> None:
    cost = measure_cost(ARCHITECTURES["resnet18"].build(), 224)
    assert cost.parameters == pytest.approx(11.18e6, rel=0.01)
    assert cost.operations == pytest.approx(3.63e9, rel=0.02)
    assert cost.cpu_seconds > 0


def test_cost_counts_attention_as_well() -> None:
    width, tokens, blocks, patch = 384, 17, 12, 16
    linear = tokens * 12 * width**2 + 2 * tokens**2 * width
    by_hand = 2 * (blocks * linear + 16 * 3 * patch**2 * width)
    cost = measure_cost(ARCHITECTURES["vit-s16"].build(), 64)
    assert cost.operations == pytest.approx(by_hand, rel=0.01)
