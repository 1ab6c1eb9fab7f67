"""Random geometry, sharpness and intensity of a batch of prepared slices, on its device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ml.training.tumour_augmentation import softened

_LEVELS = 33  # quantiles that describe a slice's histogram
_BRIGHTEST = (0.75, 0.97)  # range of the quantile of the head above which signal is suppressed


def suppress_brightest(
    images: Tensor, masks: Tensor, known: Tensor, generator: torch.Generator, *, share: float
) -> Tensor:
    """Darken the brightest tissue except tumours, as fat or fluid suppression does.

    In most T1 slices fat is brighter than the brain. If it is suppressed, the brain stem and the
    spinal cord are the brightest structures, round and isolated.

    Args:
        masks: (N, 1, S, S) in 0..1, the tumour.
        known: (N,) bool, whether the mask is complete; other slices stay unchanged.
        share: share in 0..1 of the slices to change.

    Returns:
        (N, 1, S, S) in 0..1.
    """
    images = images.clone()
    draws = torch.rand(len(images), 3, generator=generator).tolist()
    for number, (chosen, place, left) in enumerate(draws):
        if chosen >= share or not bool(known[number]):
            continue
        image, tumor = images[number], softened(masks[number]).clamp(0, 1)
        levels = _levels(image)
        low, high = _BRIGHTEST
        limit = levels[round((low + place * (high - low)) * (_LEVELS - 1))]
        # A ramp instead of a step, so that the edge of fat leaves no line.
        above = ((image - limit) / (0.1 * limit + 1e-3)).clamp(0, 1)
        dark = image * (1 - above * (1 - 0.5 * left) * (1 - tumor))
        images[number] = (dark * (image.max() / dark.max().clamp(min=1e-3))).clamp(0, 1)
    return images


def augment(
    images: Tensor,
    generator: torch.Generator,
    masks: Tensor | None = None,
    *,
    bright_centre: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Geometry, then sharpness, then intensity.

    Intensity and sharpness vary widely on purpose: classes come from different hospitals, and a
    model must not distinguish them by contrast or resolution.

    Args:
        images: (N, 1, S, S) in 0..1.
        generator: random generator; its seed makes the result reproducible.
        masks: (N, 1, S, S) in 0..1, transformed with the images; zero if None.
        bright_centre: maximum brightening of the centre in half of the slices, as a natural
            logarithm; a third of them is darkened instead.

    Returns:
        Images and masks, (N, 1, S, S) each, in 0..1.
    """
    both = torch.cat([images, torch.zeros_like(images) if masks is None else masks], 1)
    moved = _geometry(both, generator)
    images, masks = moved[:, :1], moved[:, 1:]
    images = _exchange_histograms(_sharpness(images, generator), generator)
    if bright_centre:
        images = _centre(images, bright_centre, generator)
    return _intensity(_shading(images, generator), generator), masks


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


def _exchange_histograms(images: Tensor, generator: torch.Generator) -> Tensor:
    """Two fifths of the batch move towards the histogram of another slice of the batch."""
    chosen = torch.rand(len(images), generator=generator) < 0.4
    partners = torch.randperm(len(images), generator=generator)
    share = torch.rand(len(images), generator=generator)
    result = images.clone()
    levels = [_levels(image) for image in images]
    for number in torch.nonzero(chosen).flatten().tolist():
        own, other = levels[number], levels[int(partners[number])]
        wanted = own + (other - own) * float(share[number])
        result[number] = _mapped(images[number], own, wanted)
    return result


def _levels(image: Tensor) -> Tensor:
    """The histogram of the pixels that are not black, as increasing quantiles (33,) in 0..1."""
    inside = image[image > 0.01]
    if len(inside) < _LEVELS:
        return torch.linspace(0, 1, _LEVELS, device=image.device)
    wanted = torch.linspace(0, len(inside) - 1, _LEVELS, device=image.device).long()
    levels = inside.sort().values[wanted]
    levels[0], levels[-1] = 0, 1
    # Strictly increasing, so that the mapping is unique.
    steps = torch.linspace(0, 1, _LEVELS, device=image.device)
    return levels * (1 - 1e-3) + steps * 1e-3


def _mapped(image: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The piecewise linear curve through (before, after), applied to each pixel."""
    upper = torch.searchsorted(before, image.contiguous()).clamp(1, _LEVELS - 1)
    low, high = before[upper - 1], before[upper]
    part = (image - low) / (high - low)
    return (after[upper - 1] + part * (after[upper] - after[upper - 1])).clamp(0, 1)


def _shading(images: Tensor, generator: torch.Generator) -> Tensor:
    """A smooth field, up to a third brighter or darker, as from a coil near one side."""
    knots = torch.randn(len(images), 1, 3, 3, generator=generator).to(images.device)
    strength = _uniform(images, 0.0, 0.15, generator).view(-1, 1, 1, 1)
    field = F.interpolate(knots * strength, images.shape[2:], mode="bicubic")
    return (images * torch.exp(field)).clamp(0, 1)


def _centre(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Half of the batch with a brighter or darker centre, as from strong magnets and head coils."""
    shape = (-1, 1, 1, 1)
    chosen = (torch.rand(len(images), generator=generator) < 0.5).to(images.device).view(shape)
    level = _uniform(images, -strength / 2, strength, generator).view(shape)
    row, column = (_uniform(images, -0.3, 0.3, generator).view(shape) for _ in range(2))
    width = _uniform(images, 0.3, 0.8, generator).view(shape)
    place = torch.linspace(-1, 1, images.shape[-1], device=images.device)
    distance = (place.view(1, 1, -1, 1) - row) ** 2 + (place.view(1, 1, 1, -1) - column) ** 2
    lit = images * torch.exp(level * chosen * torch.exp(-distance / (2 * width**2)))
    # The maximum stays the same, as the preprocessing scales it.
    return lit * (images.amax((2, 3), True) / lit.amax((2, 3), True).clamp(min=1e-6))


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
