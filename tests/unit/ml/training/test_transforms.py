"""Variation is repeatable, keeps its range, and says what it did to classes and masks."""

import pytest
import torch

from ml.dataset.tensors import Slices
from ml.labels import INDEX
from ml.training.recipe import Recipe
from ml.training.transforms import bend, erase, vary


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def discs(n: int = 8, size: int = 48) -> Slices:
    """Discs with a tumour in every second one."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    head = ((rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size * 0.45) ** 2).float()
    masks = torch.zeros(n, 1, size, size)
    masks[::2, :, 12:20, 10:18] = 1
    labels = torch.tensor([INDEX["glioma"], INDEX["no_tumor"]] * (n // 2))
    return Slices(0.5 * head + 0.4 * masks, labels, masks, torch.ones(n, dtype=torch.bool))


@pytest.mark.parametrize("localises", [True, False])
def test_the_same_seed_gives_the_same_batch_in_range(localises: bool) -> None:
    recipe = Recipe(erasing=0.5, elastic=0.04)
    one, other = (vary(discs(), recipe, seeded(3), localises=localises) for _ in range(2))
    assert torch.equal(one.images, other.images)
    assert one.images.min() >= 0
    assert one.images.max() <= 1


def test_erasing_blackens_part_of_some_slices_with_their_masks() -> None:
    ones = torch.ones(64, 1, 40, 40)
    images, masks = erase(ones, ones, 0.5, seeded())
    assert torch.equal(images, masks)
    left = images.mean((1, 2, 3))
    assert 16 < int((left < 1).sum()) < 48
    assert left.min() > 0.8


def test_bending_moves_slice_and_mask_alike_and_not_far() -> None:
    masks = discs().masks
    images, moved = bend(masks, masks, 0.03, seeded())
    torch.testing.assert_close(images, moved)
    assert not torch.equal(moved, masks)
    kept = (moved[::2] * masks[::2]).sum() / masks[::2].sum()
    assert kept > 0.7


def test_slice_that_shows_a_part_without_its_tumour_counts_as_healthy() -> None:
    recipe = Recipe(inpainted=0.0, parts=1.0)
    batch = vary(discs(64), recipe, seeded(), localises=True)
    tumors = batch.wanted[::2]
    freed = tumors == INDEX["no_tumor"]
    assert 8 < int(freed.sum()) < 24
    assert set(tumors[~freed].tolist()) == {INDEX["glioma"]}
    assert batch.masks[::2][freed].sum() == 0
