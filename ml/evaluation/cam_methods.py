"""Other heatmap methods than the serving one, for comparison.

All use the last feature map, as the serving map does, and differ in how they weigh its channels.
The gradient of a logit with respect to that map needs no backward pass through the convolutions,
and one pass covers a whole batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ml.architectures import Network, Output

SERVING_METHOD = "class map"


def explain_all(network: Network, images: Tensor) -> tuple[Output, dict[str, Tensor]]:
    """Run a batch and compute the heatmaps of each method.

    Args:
        images: (N, 1, S, S) prepared slices in 0..1.

    Returns:
        The forward pass, and for each method (N, 4, h, w) float32, one map per class. Maps of this
        module's methods are non-negative in arbitrary units; the serving map is unchanged.
    """
    with torch.no_grad():
        field = network.field(images).float()
    field.requires_grad_(True)
    output = network(field, skipped=len(network.features))
    maps: dict[str, list[Tensor]] = {name: [] for name in METHODS}
    for logits in output.logits.unbind(1):
        # One class for all slices at once: the slices are independent.
        (gradient,) = torch.autograd.grad(logits.sum(), field, retain_graph=True)
        for name, method in METHODS.items():
            maps[name].append(method(field.detach(), gradient).clamp(min=0))
    found = {name: torch.stack(each, 1) for name, each in maps.items()}
    return Output(*(part.detach() for part in output)), found | {
        SERVING_METHOD: output.maps.detach().float()
    }


def grad_cam(field: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al. 2017 (ICCV): channels weighted by their mean gradient.

    Args:
        field: (N, C, h, w), the last feature map, as for all methods.
        gradient: (N, C, h, w), of a class's logit with respect to the field.

    Returns:
        (N, h, w).
    """
    return (field * gradient.mean((2, 3), keepdim=True)).sum(1)


def grad_cam_plus_plus(field: Tensor, gradient: Tensor) -> Tensor:
    """Chattopadhay et al. 2018 (WACV): positions weighted by powers of the positive gradient."""
    square, cube = gradient**2, gradient**3
    weights = square / (2 * square + field.sum((2, 3), keepdim=True) * cube + 1e-9)
    weights = (weights * gradient.clamp(min=0)).sum((2, 3), keepdim=True)
    return (field * weights).sum(1)


def layer_cam(field: Tensor, gradient: Tensor) -> Tensor:
    """Jiang et al. 2021 (IEEE TIP 30): each position weighted by its positive gradient."""
    return (field * gradient.clamp(min=0)).sum(1)


def hires_cam(field: Tensor, gradient: Tensor) -> Tensor:
    """Draelos and Carin 2020 (arXiv 2011.08891): each position weighted by its gradient."""
    return (field * gradient).sum(1)


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Grad-CAM": grad_cam,
    "Grad-CAM++": grad_cam_plus_plus,
    "LayerCAM": layer_cam,
    "HiResCAM": hires_cam,
}
