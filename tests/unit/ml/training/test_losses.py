"""The losses ask for the tumour where the outline is, and for none everywhere else."""

import pytest
import torch
from torch import Tensor

from ml.architectures import VGG16Localisation
from ml.labels import INDEX, LABELS
from ml.training.losses import (
    ANY_TUMOR,
    coverage,
    localisation_loss,
    outside_loss,
    whole_slice_loss,
)

GLIOMA, NO_TUMOR, PITUITARY = INDEX["glioma"], INDEX["no_tumor"], INDEX["pituitary"]


def maps(place: tuple[int, int] | None, label: int = GLIOMA, size: int = 4) -> Tensor:
    """Log-odds of -6 everywhere, but +6 for ``label`` at one place."""
    field = torch.full((1, len(LABELS), size, size), -6.0)
    field[:, NO_TUMOR] = 0
    if place is not None:
        field[0, label, place[0], place[1]] = 6.0
    return field


def covered(place: tuple[int, int], size: int = 4) -> Tensor:
    field = torch.zeros(1, size, size)
    field[0, place[0], place[1]] = 1
    return field


def test_coverage_is_the_share_of_each_place() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[0, 0, 16:32, 32:40] = 1
    expected = torch.zeros(4, 4)
    expected[1, 2] = 0.5
    torch.testing.assert_close(coverage(mask, (4, 4))[0], expected)


def test_map_on_the_tumour_costs_less_than_one_beside_it() -> None:
    wanted = torch.tensor([GLIOMA])
    right = localisation_loss(maps((1, 2)), wanted, covered((1, 2)))
    beside = localisation_loss(maps((3, 0)), wanted, covered((1, 2)))
    silent = localisation_loss(maps(None), wanted, covered((1, 2)))
    assert right < 0.05
    assert silent < beside


def test_the_wrong_tumour_class_costs_unless_the_class_is_not_asked() -> None:
    said = maps((1, 2), PITUITARY)
    assert localisation_loss(said, torch.tensor([GLIOMA]), covered((1, 2))) > 2
    assert localisation_loss(said, torch.tensor([ANY_TUMOR]), covered((1, 2))) < 0.05


def test_slice_without_tumour_wants_every_place_free_of_it() -> None:
    wanted = torch.tensor([NO_TUMOR])
    nowhere = torch.zeros(1, 4, 4)
    assert localisation_loss(maps(None), wanted, nowhere) < 0.05
    assert localisation_loss(maps((0, 0)), wanted, nowhere) > 0.1


def test_outside_the_outline_the_slice_counts_as_free_of_tumour() -> None:
    network = VGG16Localisation()
    inside = outside_loss(network, maps((1, 2)), covered((1, 2)))
    outside = outside_loss(network, maps((3, 0)), covered((1, 2)))
    assert inside < 0.1
    assert outside > 2


def test_slice_covered_entirely_says_nothing_about_its_outside() -> None:
    network = VGG16Localisation()
    assert outside_loss(network, maps((1, 2)), torch.ones(1, 4, 4)) < 1e-3


def test_any_tumour_is_right_for_each_of_the_tumour_classes() -> None:
    logits = torch.tensor([[5.0, -5.0, 0.0, -5.0], [-5.0, -5.0, 0.0, 5.0], [-5.0, -5.0, 0.0, -5.0]])
    losses = whole_slice_loss(logits, torch.full((3,), ANY_TUMOR), smoothing=0.0)
    assert losses[0] < 0.05
    assert losses[1] < 0.05
    assert losses[2] > 2


def test_named_classes_get_plain_cross_entropy() -> None:
    logits = torch.randn(8, 4)
    wanted = torch.arange(8) % 4
    expected = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    torch.testing.assert_close(whole_slice_loss(logits, wanted, smoothing=0.0), expected)


@pytest.mark.parametrize("wanted", [GLIOMA, NO_TUMOR, ANY_TUMOR])
def test_losses_stay_finite_far_from_zero(wanted: int) -> None:
    field = maps((1, 2)) * 20
    label = torch.tensor([wanted])
    logits = VGG16Localisation().pool(field)
    assert whole_slice_loss(logits, label, smoothing=0.1).isfinite().all()
    assert localisation_loss(field, label, covered((0, 0))).isfinite().all()
    assert outside_loss(VGG16Localisation(), field, covered((0, 0))).isfinite().all()
