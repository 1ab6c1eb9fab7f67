"""Other heatmaps than the serving one: what they weigh, and that the comparison measures them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.__main__ import main
from ml.architectures import VGG16GAP
from ml.dataset import read_manifest, write_manifest
from ml.errors import InvalidManifest
from ml.evaluation.cam_methods import METHODS, SERVING_METHOD, explain_all
from ml.evaluation.explanations import compare_explanations, table
from ml.imaging import read_path
from ml.preprocess import head_crop
from ml.registry import SERVING, load_model
from ml.serving import explain

ENTRIES = read_manifest(SERVING.parents[1] / "samples" / "manifest.csv")


@pytest.mark.parametrize("beside", [0.0, 6.0])
def test_hottest_pixel_is_the_middle_of_the_hottest_place_however_certain_the_tumour(
    beside: float,
) -> None:
    pixels = read_path(ENTRIES[0].path)[0].pixels
    prepared = head_crop(pixels, 176)
    maps = torch.full((4, 11, 11), -8.0)
    maps[0, 4, 6] = 9.0
    maps[0, 4, 7] = beside
    field = explain.heat(maps, prepared, np.array([1.0, 0.0, 0.0, 0.0]))
    assert field.shape == pixels.shape[:2]
    assert field.max() == pytest.approx(1, abs=0.01)
    rows, columns = np.nonzero(field == field.max())
    assert len(rows) <= 9  # of more than a thousand of a place
    source, placed = prepared.source, prepared.placed
    row = source.top + (4.5 * 16 - placed.top) * source.height / placed.height
    column = source.left + (6.5 * 16 - placed.left) * source.width / placed.width
    assert rows.mean() == pytest.approx(row, abs=8)
    assert columns.mean() == pytest.approx(column, abs=8)


def test_map_of_another_unit_is_scaled_by_its_own_peak() -> None:
    prepared = head_crop(read_path(ENTRIES[0].path)[0].pixels, 176)
    maps = torch.zeros(4, 11, 11)
    maps[0, 4, 6] = 0.05
    certain = np.array([1.0, 0.0, 0.0, 0.0])
    field = explain.heat(maps, prepared, certain, least_range=0.0)
    assert field.max() == pytest.approx(1, abs=0.01)
    assert (field > 0).mean() < 0.1
    assert (explain.heat(maps, prepared, certain) > 0.9).mean() > 0.3  # as hardly any evidence


def test_with_average_pooling_grad_cam_and_hirescam_are_the_class_map() -> None:
    torch.manual_seed(0)
    _, maps = explain_all(VGG16GAP().eval(), torch.rand(2, 1, 64, 64))
    expected = maps[SERVING_METHOD].clamp(min=0)
    # The mean over h x w places divides the gradient.
    places = expected.shape[2] * expected.shape[3]
    for name in ("Grad-CAM", "HiResCAM"):
        torch.testing.assert_close(maps[name] * places, expected, atol=1e-3, rtol=1e-3)


def test_one_place_with_one_channel_is_found_by_every_method() -> None:
    field = torch.zeros(1, 3, 4, 4)
    field[0, 1, 2, 3] = 5.0
    gradient = torch.zeros_like(field)
    gradient[0, 1] = 0.1
    for name, method in METHODS.items():
        heat = method(field, gradient)
        assert heat.shape == (1, 4, 4), name
        assert int(heat.argmax()) == 2 * 4 + 3, name


def test_layer_cam_ignores_places_that_speak_against_the_class() -> None:
    field, gradient = torch.ones(1, 1, 1, 2), torch.tensor([[[[1.0, -1.0]]]])
    assert METHODS["LayerCAM"](field, gradient).tolist() == [[[1.0, 0.0]]]


def test_comparison_measures_every_method_and_tells_whether_it_follows_the_weights() -> None:
    model = load_model()
    small = replace(model, card=model.card | {"input": model.card["input"] | {"size": 64}})
    boxed = [entry for entry in ENTRIES if entry.box][:4]
    figures = compare_explanations(small, boxed)
    assert figures["n"] == len(boxed)
    assert set(figures["methods"]) == set(figures["sanity"]) == {*METHODS, SERVING_METHOD}
    for name, row in figures["methods"].items():
        assert 0 <= row["pointing_game"] <= 1
        assert 0 <= row["energy_in_box"] <= 1
        assert figures["sanity"][name]["last layers as well"] < 0.9
        assert name in table(figures)


def test_command_enters_the_figures_in_a_card(tmp_path: Path) -> None:
    manifest, card = tmp_path / "boxed.csv", tmp_path / "card.json"
    write_manifest(manifest, [entry for entry in ENTRIES if entry.box][:2])
    card.write_text("{}")
    assert main(["heatmaps", "--manifest", str(manifest), "--card", str(card)]) == 0
    entered = json.loads(card.read_text())["explanations"]
    assert entered["n"] == 2
    assert entered["command"] == "python -m ml heatmaps --manifest boxed.csv"


def test_slices_without_boxes_cannot_be_compared() -> None:
    with pytest.raises(InvalidManifest, match="box"):
        compare_explanations(load_model(), [replace(entry, box=None) for entry in ENTRIES])
