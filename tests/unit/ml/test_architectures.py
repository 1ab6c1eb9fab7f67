"""Class maps add up to the logits exactly, and starting weights are checked."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ml.architectures import ARCHITECTURES, VGG16GAP, VGG16Odds
from ml.errors import InvalidModel
from ml.labels import INDEX

NO_TUMOR = INDEX["no_tumor"]


def test_average_maps_add_up_to_the_logits() -> None:
    network = VGG16GAP().eval()
    with torch.inference_mode():
        output = network(torch.rand(2, 1, 64, 64))
    assert output.maps.shape == (2, 4, 4, 4)
    torch.testing.assert_close(
        output.maps.mean((2, 3)) + network.head.bias, output.logits, rtol=1e-4, atol=1e-4
    )


def test_odds_of_the_slice_are_the_mean_odds_of_its_places() -> None:
    network = VGG16Odds().eval()
    with torch.inference_mode():
        network.balance.copy_(torch.tensor([0.5, -0.3, 0.0, 1.0]))
        output = network(torch.rand(2, 1, 64, 64))
    assert output.maps.shape == (2, 4, 4, 4)
    assert (output.maps[:, NO_TUMOR] == 0).all()
    odds = output.maps.exp().mean((2, 3)) * network.balance.exp()
    odds[:, NO_TUMOR] = 1
    torch.testing.assert_close(output.logits.exp(), odds, rtol=1e-4, atol=1e-4)


def test_places_that_do_not_count_leave_the_logits_alone() -> None:
    network = VGG16Odds()
    maps = torch.randn(1, 4, 4, 4)
    where = torch.ones(1, 4, 4, dtype=torch.bool)
    where[0, 2, 3] = False
    changed = maps.clone()
    changed[0, :, 2, 3] = 20.0
    torch.testing.assert_close(network.pool(maps, where), network.pool(changed, where))
    torch.testing.assert_close(network.pool(maps, torch.ones_like(where)), network.pool(maps))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_frozen_layers_and_only_they_do_not_learn(name: str) -> None:
    network = ARCHITECTURES[name].build()
    groups = network.parameter_groups(head_rate=1e-3, body_rate=1e-5, frozen=10)
    learning = {id(parameter) for group in groups for parameter in group["params"]}  # type: ignore[attr-defined]
    for key, parameter in network.named_parameters():
        expected = not key.startswith(("features.0.", "features.2.", "features.5.", "features.7."))
        assert parameter.requires_grad is expected
        assert (id(parameter) in learning) is expected


def test_a_whole_model_gives_its_head_as_well(tmp_path: Path) -> None:
    trained = VGG16GAP()
    path = tmp_path / "trained.safetensors"
    save_file(trained.state_dict(), path)
    network = VGG16Odds()
    network.start_from(str(path))
    torch.testing.assert_close(network.head.weight, trained.head.weight)
    torch.testing.assert_close(network.features[0].weight, trained.features[0].weight)


def test_starting_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidModel):
        VGG16Odds().start_from(str(path))
    save_file({"features.0.weight": torch.zeros(3)}, path)
    with pytest.raises(InvalidModel):
        VGG16Odds().start_from(str(path))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shift_moves_the_logits_and_nothing_else(name: str) -> None:
    network = ARCHITECTURES[name].build().eval()
    images = torch.rand(2, 1, 64, 64)
    offsets = torch.tensor([0.5, -1.0, 0.25, 2.0])
    with torch.inference_mode():
        before = network(images)
    network.shift(offsets)
    with torch.inference_mode():
        after = network(images)
    torch.testing.assert_close(
        torch.softmax(after.logits, 1), torch.softmax(before.logits + offsets, 1)
    )
    torch.testing.assert_close(after.maps, before.maps)


def test_balance_of_a_trained_model_is_kept(tmp_path: Path) -> None:
    trained = VGG16Odds()
    trained.shift(torch.tensor([1.0, 2.0, 0.0, 3.0]))
    path = tmp_path / "trained.safetensors"
    save_file(trained.state_dict(), path)
    network = VGG16Odds()
    network.start_from(str(path))
    torch.testing.assert_close(network.balance, trained.balance)
