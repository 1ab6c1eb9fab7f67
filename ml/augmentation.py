"""Random changes of a batch of prepared slices, all on the device that holds the batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Geometry, then sharpness, then intensity.

    Intensity and sharpness vary widely on purpose: classes come from different hospitals here,
    and a model must not tell them by contrast or resolution.

    Args:
        images: (N, 1, S, S) in 0..1.
        generator: source of the randomness; its seed repeats the result.

    Returns:
        (N, 1, S, S) in 0..1.
    """
    return _intensity(_sharpness(_geometry(images, generator), generator), generator)


def _uniform(images: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    values = torch.rand(len(images), generator=generator) * (high - low) + low
    return values.to(images.device)


def _geometry(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotation up to 15 degrees, zoom 0.85 to 1.2, shift up to 8 %, left-right mirror image."""
    angle = _uniform(images, -math.pi / 12, math.pi / 12, generator)
    zoom = _uniform(images, 1 / 1.2, 1 / 0.85, generator)
    stretch = _uniform(images, 0.92, 1.08, generator)
    mirror = torch.sign(_uniform(images, -1, 1, generator))
    matrix = torch.zeros(len(images), 2, 3, device=images.device)
    matrix[:, 0, 0] = torch.cos(angle) * zoom * stretch * mirror
    matrix[:, 0, 1] = -torch.sin(angle) * zoom
    matrix[:, 1, 0] = torch.sin(angle) * zoom * mirror
    matrix[:, 1, 1] = torch.cos(angle) * zoom / stretch
    matrix[:, 0, 2] = _uniform(images, -0.16, 0.16, generator)
    matrix[:, 1, 2] = _uniform(images, -0.16, 0.16, generator)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _sharpness(images: Tensor, generator: torch.Generator) -> Tensor:
    """A third of the batch loses resolution, as if it had been stored smaller."""
    size = images.shape[-1]
    blurred = torch.rand(len(images), generator=generator) < 1 / 3
    if not blurred.any():
        return images
    factor = float(torch.rand(1, generator=generator)) * 0.5 + 0.45
    chosen = blurred.to(images.device)
    small = F.interpolate(images[chosen], scale_factor=factor, mode="bilinear", antialias=True)
    result = images.clone()
    result[chosen] = F.interpolate(small, size=(size, size), mode="bilinear")
    return result


def _intensity(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma 0.6 to 1.6, contrast and brightness +-20 %, noise up to 4 %; black stays black."""
    shape = (-1, 1, 1, 1)
    gamma = torch.exp(_uniform(images, math.log(0.6), math.log(1.6), generator)).view(shape)
    contrast = _uniform(images, 0.8, 1.2, generator).view(shape)
    brightness = _uniform(images, -0.1, 0.1, generator).view(shape)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    level = _uniform(images, 0.0, 0.04, generator).view(shape)
    inside = (images > 0).to(images.dtype)
    changed = images.clamp(0, 1) ** gamma
    changed = (changed - 0.5) * contrast + 0.5 + brightness + noise * level
    return (changed * inside).clamp(0, 1)
