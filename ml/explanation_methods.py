"""Heatmaps by other means than the one that serves, for comparison.

All of them look at the last feature map, the one that the serving map is computed from, so they
differ in how they weigh its channels. The gradient of a logit by that map needs no way back
through the convolutions, and one backward pass serves a whole batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ml.architectures import VGG16GAP

Method = Callable[[Tensor, Tensor], Tensor]


def explain_all(network: VGG16GAP, images: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Heatmaps of one class for each slice by every method.

    Args:
        images: (N, 1, S, S) prepared slices in 0..1.
        wanted: (N,) class indices.

    Returns:
        (N, h, w) float32, from 0, by method; ``class map`` is what serves.
    """
    with torch.no_grad():
        field = network.field(images).float()
    field.requires_grad_(True)
    output = network.judge(field)
    rows = torch.arange(len(images), device=images.device)
    (gradient,) = torch.autograd.grad(output.logits[rows, wanted].sum(), field)
    field = field.detach()
    return {"class map": output.maps.detach()[rows, wanted].clamp(min=0)} | {
        name: method(field, gradient).clamp(min=0) for name, method in METHODS.items()
    }


def grad_cam(field: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al. 2017 (ICCV): channels weighted by their mean gradient."""
    return (field * gradient.mean((2, 3), keepdim=True)).sum(1)


def grad_cam_plus_plus(field: Tensor, gradient: Tensor) -> Tensor:
    """Chattopadhay et al. 2018 (WACV): places of positive gradient weighted by its powers."""
    square, cube = gradient**2, gradient**3
    total = field.sum((2, 3), keepdim=True)
    weights = square / (2 * square + total * cube + 1e-9)
    weights = (weights * gradient.clamp(min=0)).sum((2, 3), keepdim=True)
    return (field * weights).sum(1)


def layer_cam(field: Tensor, gradient: Tensor) -> Tensor:
    """Jiang et al. 2021 (IEEE TIP 30): each place weighted by its own positive gradient."""
    return (field * gradient.clamp(min=0)).sum(1)


def hires_cam(field: Tensor, gradient: Tensor) -> Tensor:
    """Draelos and Carin 2020 (arXiv 2011.08891): each place weighted by its own gradient."""
    return (field * gradient).sum(1)


METHODS: dict[str, Method] = {
    "Grad-CAM": grad_cam,
    "Grad-CAM++": grad_cam_plus_plus,
    "LayerCAM": layer_cam,
    "HiResCAM": hires_cam,
}


