"""Two networks that share their first blocks answer as one."""

import pytest
import torch

from ml.architectures import VGG16GAP, VGG16Odds, VGG16Twofold
from ml.errors import InvalidModel


@pytest.fixture
def pair() -> tuple[VGG16GAP, VGG16Odds]:
    torch.manual_seed(0)
    whole, places = VGG16GAP().eval(), VGG16Odds().eval()
    places.features[:24].load_state_dict(whole.features[:24].state_dict())
    return whole, places


def test_logits_are_the_mean_of_both_and_maps_those_of_the_places(
    pair: tuple[VGG16GAP, VGG16Odds],
) -> None:
    whole, places = pair
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        joined = VGG16Twofold.of(whole, places).eval()(images)
        one, other = whole(images), places(images)
    torch.testing.assert_close(joined.logits, (one.logits + other.logits) / 2)
    torch.testing.assert_close(joined.maps, other.maps)
    torch.testing.assert_close(joined.features, one.features)


def test_answer_from_any_layer_on_is_the_same(pair: tuple[VGG16GAP, VGG16Odds]) -> None:
    joined = VGG16Twofold.of(*pair).eval()
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        expected = joined(images)
        for layers in (10, 24):
            found = joined(joined.lower(images, layers), skipped=layers)
            torch.testing.assert_close(found.logits, expected.logits)
        from_field = joined(joined.field(images), skipped=len(joined.features))
        torch.testing.assert_close(from_field.maps, expected.maps)


def test_offsets_are_added_to_the_logits(pair: tuple[VGG16GAP, VGG16Odds]) -> None:
    joined = VGG16Twofold.of(*pair).eval()
    images = torch.rand(1, 1, 64, 64)
    offsets = torch.tensor([0.5, -0.25, 0.0, 1.0])
    with torch.inference_mode():
        before = joined(images).logits
        joined.shift(offsets)
        torch.testing.assert_close(joined(images).logits, before + offsets)


def test_networks_that_share_nothing_are_refused() -> None:
    with pytest.raises(InvalidModel, match="share"):
        VGG16Twofold.of(VGG16GAP(), VGG16Odds())
