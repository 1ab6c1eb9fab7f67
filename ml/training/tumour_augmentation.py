"""Exchange tumours between slices and crop parts of slices, on the batch's device.

Class and source coincide in public collections. These augmentations break the link: they create
tumour-free slices of every source, and tumours in healthy heads.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Sagittal slices of the figshare set stay below 0.55, axial and coronal ones mostly above.
_SYMMETRIC = 0.6
_ON_ONE_SIDE = 0.04  # share of a tumour that may cross the midline
_SEAM = 3  # px on either side of the midline where the halves blend
_DARK = 0.02  # share of the slice's range; brighter pixels count as tissue
_TISSUE = 0.9  # share of a transplanted region that must be tissue on both sides
_SOFT_EDGE = 9  # px, width of the blur at the edge of a transplanted region
_PART = (0.35, 0.8)  # smallest and largest side of a cropped part
_PARTS_TISSUE = 0.5  # share of a cropped part that must be tissue
_PARTS_TUMOR = 0.9  # share of the tumour that a cropped part must contain to keep its class
_TRIES = 8  # positions tried for a cropped part


@dataclass(frozen=True)
class Changed:
    """A batch after tissue was exchanged.

    Attributes:
        images: (N, 1, S, S) in 0..1.
        masks: (N, 1, S, S) in 0..1, the tumours after the exchange.
        erased: (N,) bool, slices whose tumour was replaced by healthy tissue.
        pasted: (N,) bool, slices without a tumour that received one of another slice.
    """

    images: Tensor
    masks: Tensor
    erased: Tensor
    pasted: Tensor


def exchange_tissue(
    images: Tensor, masks: Tensor, healthy: Tensor, generator: torch.Generator, *, inpainted: float
) -> Changed:
    """Erase some tumours and paste others into healthy slices.

    In public collections the class correlates with the hospital and with the level in the head. To
    break this, the tumour is removed from some symmetric slices with a known tumour on one side.
    In half as many of the others it is replaced by healthy tissue of other slices. A third of the
    healthy slices get a tumour from another slice of the batch, with the same kind of seam.

    Args:
        masks: (N, 1, S, S) in 0..1, zero without a known tumour.
        healthy: (N,) bool, slices known to be free of tumour.
        inpainted: share in 0..1 of the symmetric slices that lose their tumour.
    """
    draws = torch.rand(len(images), generator=generator)
    has_tumor = (masks.flatten(1).sum(1) > 0).cpu()
    images, masks = images.clone(), masks.clone()
    erased = torch.zeros(len(images), dtype=torch.bool)
    pasted = torch.zeros(len(images), dtype=torch.bool)
    donors = torch.nonzero(has_tumor).flatten()
    originals, tumors = images.clone(), masks.clone()
    for number in torch.nonzero(healthy.cpu() & (draws < 1 / 3)).flatten().tolist():
        if len(donors) == 0:
            break
        donor = int(donors[int(torch.randint(len(donors), (1,), generator=generator))])
        made = _with_tumor(images[number], originals[donor], tumors[donor], generator)
        if made is not None:
            images[number], masks[number] = made
            pasted[number] = True
    for number in torch.nonzero(has_tumor & (draws < inpainted)).flatten().tolist():
        filled = _without_tumor(images[number], masks[number])
        if filled is None and draws[number] < inpainted / 2:
            donor = int(torch.randint(len(images), (1,), generator=generator))
            if bool(healthy[donor]) or bool(has_tumor[donor]):
                filled = _covered(
                    images[number], masks[number], originals[donor], tumors[donor], generator
                )
        if filled is not None:
            images[number], masks[number] = filled, 0
            erased[number] = True
    return Changed(images, masks, erased, pasted)


@dataclass(frozen=True)
class CutOut:
    """A batch in which some slices are cropped to a part.

    Attributes:
        images: (N, 1, S, S) in 0..1.
        masks: (N, 1, S, S) in 0..1, cropped with the images.
        freed: (N,) bool, slices whose tumour lies outside the cropped part.
    """

    images: Tensor
    masks: Tensor
    freed: Tensor


def cut_out(
    images: Tensor, masks: Tensor, known: Tensor, generator: torch.Generator, *, share: float
) -> CutOut:
    """Crop some slices to a part, enlarged to full size; half of the tumours stay outside.

    A part without the tumour is healthy tissue of the same scanner, contrast agent and patient,
    from a hospital without healthy slices in public collections. The other half, and healthy
    slices, are cropped in the same way, so that cropping carries no information.

    Args:
        masks: (N, 1, S, S) in 0..1, zero without a known tumour.
        known: (N,) bool, whether the mask is complete; other slices are not cropped.
        share: share in 0..1 of the slices to crop; those without a suitable part are not cropped.
    """
    images, masks = images.clone(), masks.clone()
    freed = torch.zeros(len(images), dtype=torch.bool)
    draws = torch.rand(len(images), generator=generator)
    for number in torch.nonzero(known.cpu() & (draws < share)).flatten().tolist():
        image, mask = images[number], masks[number]
        has_tumor = bool(mask.any())
        wants_tumor = has_tumor and bool(draws[number] < share / 2)
        part = _part(image, mask, generator, with_tumor=wants_tumor)
        if part is not None:
            shown = torch.stack([image, mask])[(slice(None), slice(None), *part)]
            images[number], masks[number] = _in_the_middle(shown, image.shape[-1])
            freed[number] = has_tumor and not wants_tumor
    return CutOut(images, masks, freed)


def softened(mask: Tensor) -> Tensor:
    """A mask (1, S, S) in 0..1, dilated by 4 px, with a blurred edge."""
    wide = F.max_pool2d(mask[None], _SOFT_EDGE, 1, _SOFT_EDGE // 2)
    for _ in range(2):
        wide = F.avg_pool2d(wide, 5, 1, 2, count_include_pad=False)
    return wide[0]


def _part(
    image: Tensor, mask: Tensor, generator: torch.Generator, *, with_tumor: bool
) -> tuple[slice, slice] | None:
    """Rows and columns of a random suitable part; None if none is found."""
    size = image.shape[-1]
    whole = ((0, size), (0, size))
    rooms = [whole] if with_tumor or not mask.any() else _beside(softened(mask)[0] > 0)
    for _ in range(_TRIES if rooms else 0):
        room = rooms[int(torch.randint(len(rooms), (1,), generator=generator))]
        rows, columns = (_stretch(*limits, size, generator) for limits in room)
        if float((image[0, rows, columns] > _DARK).float().mean()) < _PARTS_TISSUE:
            continue
        if not with_tumor or mask[0, rows, columns].sum() >= _PARTS_TUMOR * mask.sum():
            return rows, columns
    return None


def _beside(tumor: Tensor) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Rows and columns above, below, left and right of a tumour (S, S), if there is room."""
    size = tumor.shape[-1]
    rows, columns = (torch.nonzero(tumor.any(axis)).flatten().tolist() for axis in (1, 0))
    everything = (0, size)
    rooms = [
        ((0, rows[0]), everything),
        ((rows[-1] + 1, size), everything),
        (everything, (0, columns[0])),
        (everything, (columns[-1] + 1, size)),
    ]
    least = _PART[0] * size
    return [room for room in rooms if all(end - start >= least for start, end in room)]


def _stretch(start: int, end: int, size: int, generator: torch.Generator) -> slice:
    """A random range between ``start`` and ``end``, of a valid length for a part."""
    draws = torch.rand(2, generator=generator).tolist()
    least, greatest = (round(size * share) for share in _PART)
    length = round(least + draws[0] * (min(greatest, end - start) - least))
    first = start + round(draws[1] * (end - start - length))
    return slice(first, first + length)


def _in_the_middle(part: Tensor, size: int) -> Tensor:
    """(C, 1, h, w) enlarged to fit into (C, 1, size, size), centred and padded with black."""
    height, width = (round(size * side / max(part.shape[2:])) for side in part.shape[2:])
    top, left = (size - height) // 2, (size - width) // 2
    framed = part.new_zeros(len(part), 1, size, size)
    place = (slice(None), slice(None), slice(top, top + height), slice(left, left + width))
    framed[place] = F.interpolate(part, size=(height, width), mode="bilinear")
    return framed.clamp(0, 1)


def _with_tumor(
    image: Tensor, donor: Tensor, mask: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """``image`` with the donor's tumour near its original position; None if that is outside."""
    donor, mask = _moved(torch.stack([donor, mask]), generator)
    if float((image > _DARK).float()[mask > 0.5].mean()) < _TISSUE:
        return None
    return _transplanted(image, donor, mask), mask


def _covered(
    image: Tensor, mask: Tensor, donor: Tensor, donors_mask: Tensor, generator: torch.Generator
) -> Tensor | None:
    """``image`` with tissue of the donor over its tumour; None if the donor has none there."""
    donor, donors_mask = _moved(torch.stack([donor, donors_mask]), generator)
    region = mask > 0.5
    if not region.any() or float(donors_mask[softened(mask) > 0].max()) > 0:
        return None
    if float((donor > _DARK).float()[region].mean()) < _TISSUE:
        return None
    return _transplanted(image, donor, mask)


def _moved(both: Tensor, generator: torch.Generator) -> Tensor:
    """Image and mask (2, 1, S, S), randomly shifted by up to a twelfth and mirrored."""
    size = both.shape[-1]
    shift = [int(v) for v in torch.randint(-size // 12, size // 12 + 1, (2,), generator=generator)]
    moved = torch.roll(both, shift, (2, 3))
    return moved.flip(3) if torch.rand(1, generator=generator) < 0.5 else moved


def _transplanted(image: Tensor, donor: Tensor, mask: Tensor) -> Tensor:
    """``image`` with the donor's pixels inside ``mask``, matched in brightness at the edge."""
    weight = softened(mask)
    rim = (weight > 0) & (mask < 0.5)
    level, donated = image[rim].mean(), donor[rim].mean()
    scale = ((level + 0.05) / (donated + 0.05)).clamp(0.5, 2)
    return image * (1 - weight) + (donor * scale).clamp(0, 1) * weight


def _without_tumor(image: Tensor, mask: Tensor) -> Tensor | None:
    """``image`` with its tumour-free half mirrored over the other half.

    The whole half is mirrored, because a patch would leave a detectable edge.

    Returns:
        (1, S, S); None if the halves differ, as in sagittal slices, or if the tumour crosses the
        midline.
    """
    if _symmetry(image) < _SYMMETRIC:
        return None
    middle = image.shape[-1] // 2
    total = float(mask.sum())
    on_left = float(mask[..., : middle + _SEAM].sum()) / total
    on_right = float(mask[..., middle - _SEAM :].sum()) / total
    if min(on_left, on_right) > _ON_ONE_SIDE:
        return None
    keeps_right = torch.zeros(image.shape[-1], device=image.device)
    keeps_right[middle + _SEAM :] = 1
    keeps_right[middle - _SEAM : middle + _SEAM] = torch.linspace(0, 1, 2 * _SEAM)
    kept = keeps_right if on_right < on_left else 1 - keeps_right
    return image * kept + image.flip(2) * (1 - kept)


def _symmetry(image: Tensor) -> float:
    """Correlation of a slice (1, S, S) with its left-right mirror image."""
    centred = image.flatten() - image.mean()
    mirrored = image.flip(2).flatten() - image.mean()
    return float(centred @ mirrored / (centred @ centred).clamp(min=1e-6))
