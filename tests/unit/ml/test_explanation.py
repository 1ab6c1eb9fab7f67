"""Other heatmaps than the serving one: what they weigh, and that the comparison measures them."""

from dataclasses import replace

import pytest
import torch

from ml.architectures import VGG16GAP
from ml.dataset import read_manifest
from ml.errors import InvalidManifest
from ml.explanation_comparison import compare_explanations, table
from ml.explanation_methods import METHODS, SERVING_METHOD, explain_all
from ml.registry import SERVING, load_model

ENTRIES = read_manifest(SERVING.parents[1] / "samples" / "manifest.csv")


def test_with_average_pooling_grad_cam_and_hirescam_are_the_class_map() -> None:
    torch.manual_seed(0)
    _, maps = explain_all(VGG16GAP().eval(), torch.rand(2, 1, 64, 64))
    expected = maps[SERVING_METHOD]
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


def test_slices_without_boxes_cannot_be_compared() -> None:
    with pytest.raises(InvalidManifest, match="box"):
        compare_explanations(load_model(), [replace(entry, box=None) for entry in ENTRIES])
