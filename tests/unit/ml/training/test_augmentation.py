"""Augmentation stays in range, repeats itself, and moves the tumour's mask with the image."""

import torch
from torch import Tensor

from ml.training.augmentation import augment, suppress_brightest
from tests.unit.ml.training.drawn import SIZE, generator, heads


def test_shape_and_range_are_kept_and_the_seed_repeats_the_result() -> None:
    images = torch.rand(16, 1, SIZE, SIZE)
    first, _ = augment(images, generator())
    second, _ = augment(images, generator())
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    torch.testing.assert_close(first, second)
    assert not torch.allclose(first, images)


def test_mask_moves_with_the_image() -> None:
    images = torch.zeros(32, 1, SIZE, SIZE)
    masks = torch.zeros_like(images)
    masks[:, :, 20:32, 36:50] = 1
    images += masks * 0.9 + 0.01
    changed, moved = augment(images, generator(), masks)
    positions = set()
    for image, mask in zip(changed[:, 0], moved[:, 0], strict=True):
        inside = mask > 0.5
        assert image[inside].mean() > 2 * image[mask < 0.01].mean()
        positions.add(int(inside.float().sum(0).argmax()))
    assert len(positions) > 8


def test_middle_of_half_of_the_slices_changes_beside_the_rim() -> None:
    images = heads(64)
    rim = slice(6, 12)  # of row 31, inside the head
    plain, _ = augment(images, generator())
    lit, _ = augment(images, generator(), bright_centre=1.0)
    assert lit.min() >= 0
    assert lit.max() <= 1

    def spread(changed: Tensor) -> float:
        middle = changed[:, 0, 28:36, 28:36].mean((1, 2))
        beside = changed[:, 0, 28:36, rim].mean((1, 2)).clamp(min=0.02)
        return float((middle / beside).log().std())

    assert spread(lit) > 1.1 * spread(plain)


def test_brightest_tissue_turns_dark_and_the_tumour_does_not() -> None:
    images = heads(16)
    images[:, :, 6:12, 28:36] = 0.9  # fat
    images[:, :, 44:50, 28:36] = 0.8
    masks = torch.zeros_like(images)
    masks[:, :, 44:50, 28:36] = 1
    known = torch.arange(16) < 12
    changed = suppress_brightest(images, masks, known, generator(), share=1.0)
    assert changed.min() >= 0
    assert changed.max() <= 1
    fat, tumor, brain = (
        changed[:12, 0, rows, 29:35].mean((1, 2))
        for rows in (slice(7, 11), slice(45, 49), slice(26, 34))
    )
    assert (fat < tumor).all()
    assert (fat < brain).float().mean() > 0.5
    assert torch.equal(changed[12:], images[12:])
    untouched = suppress_brightest(images, masks, known, generator(), share=0.0)
    assert torch.equal(untouched, images)
