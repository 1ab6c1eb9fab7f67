"""Convolutions by Winograd's method give what torch's give, and only where they may."""

import copy

import pytest
import torch
from torch import nn

from ml.training.winograd import WinogradConv2d, quicken, slow_down


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 3), (22, 22)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
def test_results_and_gradients_are_those_of_torch(
    size: tuple[int, int], bias: bool, order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    usual = nn.Conv2d(64, 128, 3, padding=1, bias=bias).to(memory_format=order)
    quick = copy.deepcopy(usual)
    quicken(quick)
    assert type(quick) is WinogradConv2d
    images = torch.randn(2, 64, *size).to(memory_format=order)
    wanted = torch.randn(2, 128, *size)
    found = []
    for layer in (usual, quick):
        given = images.clone().requires_grad_()
        result = layer(given)
        (result * wanted).sum().backward()
        found.append([result, given.grad, *(one.grad for one in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=2e-3)


def test_frozen_weights_get_no_gradient() -> None:
    layer = nn.Conv2d(64, 128, 3, padding=1).requires_grad_(False)
    quicken(layer)
    images = torch.rand(1, 64, 8, 8, requires_grad=True)
    layer(images).sum().backward()
    assert layer.weight.grad is None
    assert images.grad is not None


def test_other_layers_and_other_numbers_are_left_to_torch() -> None:
    layers = nn.Sequential(
        nn.Conv2d(64, 128, 5, padding=2),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 32, 3, padding=1),
    )
    quicken(layers)
    assert {type(layer) for layer in layers} == {nn.Conv2d}
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 128, 3, padding=1).double()
    images = torch.rand(1, 64, 6, 6, dtype=torch.float64)
    expected = layer(images)
    quicken(layer)
    assert torch.equal(layer(images), expected)


def test_slowed_down_layers_are_torch_s_own_again() -> None:
    layer = nn.Conv2d(64, 128, 3, padding=1)
    quicken(layer)
    slow_down(layer)
    assert type(layer) is nn.Conv2d
