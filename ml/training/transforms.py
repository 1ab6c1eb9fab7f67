"""From prepared slices to what one step teaches: everything that is drawn at random."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ml.dataset.tensors import Slices
from ml.labels import INDEX, Label
from ml.training.augmentation import augment, cut_out, exchange_tissue, suppress_brightest
from ml.training.losses import ANY_TUMOR
from ml.training.recipe import Recipe

_KNOTS = 6  # a side of the grid that bends a slice
_ERASED = (0.02, 0.12)  # least and greatest share of the slice


@dataclass(frozen=True)
class Lesson:
    """What one step teaches.

    Attributes:
        images: (N, 1, S, S) in 0..1, or (N, C, h, w) what the frozen layers made of them.
        wanted: (N,) class indices, or :data:`ml.training.losses.ANY_TUMOR`.
        mixed_in: (N,) the class of the slice that was mixed in; ``wanted`` where none was.
        share: (N,) in 0..1, how much of the slice is still its own.
        masks: (N, 1, S, S) in 0..1, where the tumour lies; zero where that is not known.
        known: (N,) bool, whether the mask tells all.
    """

    images: Tensor
    wanted: Tensor
    mixed_in: Tensor
    share: Tensor
    masks: Tensor
    known: Tensor


def vary(
    slices: Slices, recipe: Recipe, generator: torch.Generator, *, judges_places: bool
) -> Lesson:
    """Augment a batch on the device that holds it.

    Args:
        slices: float32 images and masks.
        judges_places: whether the network learns where a tumour lies. Then tissue is exchanged,
            as where the recipe says so; otherwise slices are mixed, which would leave a place two
            truths.
    """
    images, wanted, masks = slices.images, slices.labels, slices.masks
    exchanges = judges_places or recipe.exchange
    if exchanges:
        healthy = wanted == INDEX[Label.NO_TUMOR]
        changed = exchange_tissue(images, masks, healthy, generator, healed=recipe.healed)
        images, masks = changed.images, changed.masks
        wanted = wanted.masked_fill(changed.erased.to(wanted.device), INDEX[Label.NO_TUMOR])
        wanted = wanted.masked_fill(changed.pasted.to(wanted.device), ANY_TUMOR)
    if recipe.suppressed:
        images = suppress_brightest(images, masks, slices.known, generator, share=recipe.suppressed)
    if recipe.parts:
        shown = cut_out(images, masks, slices.known, generator, share=recipe.parts)
        images, masks = shown.images, shown.masks
        wanted = wanted.masked_fill(shown.freed.to(wanted.device), INDEX[Label.NO_TUMOR])
    if recipe.elastic:
        images, masks = bend(images, masks, recipe.elastic, generator)
    images, masks = augment(images, generator, masks, bright_centre=recipe.bright_centre)
    if recipe.erasing:
        images, masks = erase(images, masks, recipe.erasing, generator)
    mixed_in, share = wanted, torch.ones(len(wanted), device=wanted.device)
    if not exchanges and (recipe.mixup or recipe.cutmix):
        images, partners, kept = _mixed(images, recipe, generator)
        mixed_in, share = wanted[partners], torch.full_like(share, kept)
    return Lesson(images, wanted, mixed_in, share, masks, slices.known)


def mix_up(images: Tensor, partners: Tensor, share: float) -> Tensor:
    """Lay each partner over its slice (Zhang et al. 2018, ICLR, "mixup")."""
    return images * share + images[partners] * (1 - share)


def cut_mix(
    images: Tensor, partners: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Put a rectangle of each partner into its slice (Yun et al. 2019, ICCV, "CutMix").

    Returns:
        The slices, and the share of their area that is still their own.
    """
    size = images.shape[-1]
    side = round(size * (1 - share) ** 0.5)
    top, left = (int(v) for v in torch.randint(size - side + 1, (2,), generator=generator).tolist())
    place = (..., slice(top, top + side), slice(left, left + side))
    result = images.clone()
    result[place] = images[partners][place]
    return result, 1 - side**2 / size**2


def erase(
    images: Tensor, masks: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Blacken a rectangle in ``share`` of the slices (Zhong et al. 2020, AAAI)."""
    size = images.shape[-1]
    images, masks = images.clone(), masks.clone()
    chosen = torch.rand(len(images), generator=generator) < share
    for number in torch.nonzero(chosen).flatten().tolist():
        area, stretch, *corner = torch.rand(4, generator=generator).tolist()
        least, greatest = _ERASED
        side = size * (least + area * (greatest - least)) ** 0.5
        height, width = round(side * 2 ** (stretch - 0.5)), round(side * 2 ** (0.5 - stretch))
        top, left = round(corner[0] * (size - height)), round(corner[1] * (size - width))
        place = (number, slice(None), slice(top, top + height), slice(left, left + width))
        images[place], masks[place] = 0, 0
    return images, masks


def bend(
    images: Tensor, masks: Tensor, strength: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Shift every place by a smooth random field (Simard et al. 2003, ICDAR).

    Args:
        strength: greatest shift as a fraction of the side.
    """
    knots = torch.rand(len(images), 2, _KNOTS, _KNOTS, generator=generator) * 2 - 1
    # The grid's coordinates go from -1 to 1, twice the fraction of the side.
    shifts = F.interpolate(knots.to(images.device) * 2 * strength, images.shape[2:], mode="bicubic")
    still = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    grid = F.affine_grid(still, list(images.shape), align_corners=False)
    both = torch.cat([images, masks], 1)
    moved = F.grid_sample(both, grid + shifts.permute(0, 2, 3, 1), align_corners=False)
    return moved[:, :1], moved[:, 1:]


def _mixed(
    images: Tensor, recipe: Recipe, generator: torch.Generator
) -> tuple[Tensor, Tensor, float]:
    """Mixed slices, their partners, and how much is still their own."""
    partners = torch.randperm(len(images), generator=generator)
    cuts = recipe.cutmix > 0 and (
        recipe.mixup == 0 or bool(torch.rand(1, generator=generator) < 0.5)
    )
    share = _beta(recipe.cutmix if cuts else recipe.mixup, generator)
    if cuts:
        images, share = cut_mix(images, partners, share, generator)
    else:
        images = mix_up(images, partners, share)
    return images, partners, share


def _beta(parameter: float, generator: torch.Generator) -> float:
    """A draw from Beta(parameter, parameter), which torch has no seeded function for."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return float(np.random.default_rng(seed).beta(parameter, parameter))
