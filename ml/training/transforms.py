"""Turn prepared slices into a training batch: all random augmentation."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ml.dataset.tensors import Slices
from ml.labels import INDEX, Label
from ml.training.augmentation import augment, suppress_brightest
from ml.training.losses import ANY_TUMOR
from ml.training.recipe import Recipe
from ml.training.tumour_augmentation import cut_out, exchange_tissue

_KNOTS = 6  # per side of the grid of the elastic transform
_ERASED = (0.02, 0.12)  # smallest and largest share of the slice


@dataclass(frozen=True)
class Batch:
    """The data of one training step.

    Attributes:
        images: (N, 1, S, S) in 0..1, or (N, C, h, w), the frozen layers' output.
        wanted: (N,) class indices, or :data:`ml.training.losses.ANY_TUMOR`.
        masks: (N, 1, S, S) in 0..1, the tumour; zero if unknown.
        known: (N,) bool, whether the mask is complete.
    """

    images: Tensor
    wanted: Tensor
    masks: Tensor
    known: Tensor


def vary(slices: Slices, recipe: Recipe, generator: torch.Generator, *, localises: bool) -> Batch:
    """Augment a batch on its device.

    Args:
        slices: float32 images and masks.
        localises: whether the network has a localisation head. Tissue is then exchanged even if
            the recipe does not ask for it.
    """
    images, wanted, masks = slices.images, slices.labels, slices.masks
    if localises or recipe.exchange:
        healthy = wanted == INDEX[Label.NO_TUMOR]
        changed = exchange_tissue(images, masks, healthy, generator, inpainted=recipe.inpainted)
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
    return Batch(images, wanted, masks, slices.known)


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
    """Shift every pixel by a smooth random field (Simard et al. 2003, ICDAR).

    Args:
        strength: largest shift as a fraction of the side.
    """
    knots = torch.rand(len(images), 2, _KNOTS, _KNOTS, generator=generator) * 2 - 1
    # Grid coordinates range from -1 to 1, so shifts are twice the fraction of the side.
    shifts = F.interpolate(knots.to(images.device) * 2 * strength, images.shape[2:], mode="bicubic")
    still = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    grid = F.affine_grid(still, list(images.shape), align_corners=False)
    both = torch.cat([images, masks], 1)
    moved = F.grid_sample(both, grid + shifts.permute(0, 2, 3, 1), align_corners=False)
    return moved[:, :1], moved[:, 1:]
