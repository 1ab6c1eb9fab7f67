"""Two networks that share their first blocks answer as one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ml.__main__ import main
from ml.architectures import VGG16GAP, VGG16Localisation, VGG16Twofold
from ml.architectures.vgg import SHARED
from ml.dataset import Split
from ml.errors import InvalidModel
from ml.registry import SERVING, load_model, save_model, write_card
from ml.release.joining import blend
from tests.heads import slices, write_manifest


@pytest.fixture
def pair() -> tuple[VGG16GAP, VGG16Localisation]:
    torch.manual_seed(0)
    whole, places = VGG16GAP().eval(), VGG16Localisation().eval()
    places.features[:24].load_state_dict(whole.features[:24].state_dict())
    return whole, places


def test_logits_are_those_of_the_whole_and_maps_those_of_the_places(
    pair: tuple[VGG16GAP, VGG16Localisation],
) -> None:
    whole, places = pair
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        joined = VGG16Twofold.of(whole, places).eval()(images)
        one, other = whole(images), places(images)
    torch.testing.assert_close(joined.logits, one.logits)
    torch.testing.assert_close(joined.maps, other.maps)
    torch.testing.assert_close(joined.features, one.features)


def test_answer_from_any_layer_on_is_the_same(pair: tuple[VGG16GAP, VGG16Localisation]) -> None:
    joined = VGG16Twofold.of(*pair).eval()
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        expected = joined(images)
        for layers in (10, 24):
            found = joined(joined.lower(images, layers), skipped=layers)
            torch.testing.assert_close(found.logits, expected.logits)
        from_field = joined(joined.field(images), skipped=len(joined.features))
        torch.testing.assert_close(from_field.maps, expected.maps)


def test_offsets_are_added_to_the_logits(pair: tuple[VGG16GAP, VGG16Localisation]) -> None:
    joined = VGG16Twofold.of(*pair).eval()
    images = torch.rand(1, 1, 64, 64)
    offsets = torch.tensor([0.5, -0.25, 0.0, 1.0])
    with torch.inference_mode():
        before = joined(images).logits
        joined.shift(offsets)
        torch.testing.assert_close(joined(images).logits, before + offsets)


def test_each_opinion_is_that_of_its_network(pair: tuple[VGG16GAP, VGG16Localisation]) -> None:
    whole, places = pair
    joined = VGG16Twofold.of(*pair).eval()
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        about_whole, by_places = joined.opinions(joined(images))
        torch.testing.assert_close(about_whole, whole(images).logits)
        torch.testing.assert_close(by_places, places(images).logits)


def test_card_of_a_model_that_answers_by_a_mean_of_both_is_refused(tmp_path: Path) -> None:
    shutil.copytree(SERVING.parent, tmp_path / "model")
    path = tmp_path / "model" / SERVING.name
    card = json.loads(path.read_text(encoding="utf-8"))
    model = load_model(path)
    saved = save_model(model.network, model.doubt, {}, folder=tmp_path, stem="again")
    assert json.loads(saved.read_text(encoding="utf-8"))["opinions"] == card["opinions"]
    for opinions in ({"opinions": {"whole": 0.75, "places": 0.25}}, {}):
        kept = {name: value for name, value in card.items() if name != "opinions"}
        write_card(kept | opinions, path)
        with pytest.raises(InvalidModel, match="mean of two opinions"):
            load_model(path)


def test_weights_of_one_network_start_both_last_blocks(
    pair: tuple[VGG16GAP, VGG16Localisation], tmp_path: Path
) -> None:
    whole, _ = pair
    file = tmp_path / "whole.safetensors"
    save_file(whole.state_dict(), file)
    started = VGG16Twofold()
    started.start_from(str(file))
    for one, other in zip(
        started.places.parameters(), whole.features[SHARED:].parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert torch.equal(started.head.weight, whole.head.weight)


def test_own_weights_start_everything(
    pair: tuple[VGG16GAP, VGG16Localisation], tmp_path: Path
) -> None:
    joined = VGG16Twofold.of(*pair)
    joined.balance.data += 1
    file = tmp_path / "joined.safetensors"
    save_file(joined.state_dict(), file)
    started = VGG16Twofold()
    started.start_from(str(file))
    for name, tensor in joined.state_dict().items():
        assert torch.equal(started.state_dict()[name], tensor)


def test_places_learn_at_the_rate_of_the_layers() -> None:
    network = VGG16Twofold()
    groups = network.parameter_groups(head_rate=1e-3, body_rate=1e-5, frozen=10)
    rates = {id(one): group["lr"] for group in groups for one in group["params"]}  # type: ignore[attr-defined]
    assert {rates[id(one)] for one in network.places.parameters()} == {1e-5}
    assert rates[id(network.places_head.weight)] == rates[id(network.head.weight)] == 1e-3
    assert sum(len(group["params"]) for group in groups) == len(rates)  # type: ignore[arg-type]


@pytest.mark.usefixtures("narrow_networks")
def test_blend_lies_between_a_model_and_what_was_trained_on_from_it(tmp_path: Path) -> None:
    manifest = str(write_manifest(tmp_path, slices(tmp_path, 160)))
    made = {name: tmp_path / name / "narrow.json" for name in ("before", "after", "between")}
    train = ["train", "--manifest", manifest, "--architecture", "narrow", "--frozen", "0"]
    small = ["--stages", "32:1", "--input-size", "32"]
    assert main([*train, *small, "--start", "scratch", "--out", str(tmp_path / "before")]) == 0
    started = ["--start", str(made["before"]), "--out", str(tmp_path / "after")]
    assert main([*train, *small, *started]) == 0
    otherwise = ["--start", str(made["before"]), "--out", str(tmp_path / "leaking"), "--seed", "7"]
    assert main([*train, *small, *otherwise]) == 1
    ends = ["--before", str(made["before"]), "--after", str(made["after"])]
    out = ["--share", "0.25", "--out", str(tmp_path / "between")]
    assert main(["blend", *ends, *out, "--manifest", manifest]) == 0
    before, after, between = (
        load_model(card).network.state_dict()["features.0.weight"] for card in made.values()
    )
    torch.testing.assert_close(between, 0.75 * before + 0.25 * after, rtol=1e-2, atol=1e-3)
    card = load_model(made["between"]).card
    assert card["training"]["share_of_after"] == 0.25
    assert card["training"]["after"]["start"].startswith("model narrow")
    assert card["training"]["after"]["started_from"]["training"]["start"] == "scratch"
    assert main(["measure", "--model", str(made["between"]), "--manifest", manifest]) == 0
    again = load_model(made["between"]).card
    assert again["metrics"]["accuracy"] == card["metrics"]["accuracy"]
    assert again["weights"] == card["weights"]


def test_only_models_of_one_architecture_have_something_between_them() -> None:
    served = load_model(SERVING)
    other = replace(served, card=served.card | {"architecture": "vgg16-gap"})
    with pytest.raises(InvalidModel, match="one architecture"):
        blend(served, other, 0.5, Split([], [], []), folder=Path())


def test_networks_that_share_nothing_are_refused() -> None:
    with pytest.raises(InvalidModel, match="share"):
        VGG16Twofold.of(VGG16GAP(), VGG16Localisation())
