"""Augmentation stays in range, repeats itself, and moves the tumour's mask with the image."""

import torch
from torch import Tensor

from ml.training.augmentation import augment, cut_out, exchange_tissue, suppress_brightest

SIZE = 64


def heads(n: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    head = ((rows - 31.5) ** 2 + (columns - 31.5) ** 2 < 28**2).float() * 0.4
    return head.expand(n, 1, SIZE, SIZE).clone()


def with_spot(images: Tensor, number: int, row: int, column: int) -> Tensor:
    """Paint a bright square; returns its mask, zero for all other slices."""
    masks = torch.zeros_like(images)
    masks[number, 0, row : row + 10, column : column + 10] = 1
    images[masks > 0] = 1.0
    return masks


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_tumour_on_one_side_is_replaced_by_the_other_side() -> None:
    erased = 0
    for seed in range(20):
        images = heads(1)
        masks = with_spot(images, 0, 26, 12)
        changed = exchange_tissue(images, masks, torch.tensor([False]), generator(seed), healed=0.5)
        if changed.erased[0]:
            erased += 1
            assert changed.masks.sum() == 0
            assert changed.images.max() < 0.5
        else:
            torch.testing.assert_close(changed.images, images)
    assert 1 <= erased <= 12


def test_tumour_in_the_middle_is_never_erased() -> None:
    for seed in range(20):
        images = heads(1)
        masks = with_spot(images, 0, 27, 27)
        changed = exchange_tissue(images, masks, torch.tensor([False]), generator(seed), healed=0.5)
        assert not changed.erased.any()


def test_healthy_slice_receives_a_tumour_inside_its_head() -> None:
    received = 0
    for seed in range(20):
        images = heads(2)
        masks = with_spot(images, 0, 26, 12)
        healthy = torch.tensor([False, True])
        changed = exchange_tissue(images, masks, healthy, generator(seed), healed=0.5)
        if changed.pasted[1]:
            received += 1
            inside = changed.masks[1] > 0.5
            assert changed.images[1][inside].mean() > 0.6
            assert (heads(1)[0][inside] > 0).float().mean() > 0.9
    assert 1 <= received <= 14


def test_without_a_donor_healthy_slices_stay_as_they_are() -> None:
    images = heads(8)
    changed = exchange_tissue(
        images, torch.zeros_like(images), torch.ones(8, dtype=torch.bool), generator(), healed=0.5
    )
    torch.testing.assert_close(changed.images, images)
    assert not changed.pasted.any()


def test_given_tensors_are_not_written_to() -> None:
    images = heads(8)
    masks = with_spot(images, 0, 26, 12)
    before = images.clone(), masks.clone()
    exchange_tissue(images, masks, torch.arange(8) > 0, generator(), healed=0.5)
    torch.testing.assert_close((images, masks), before)


def test_tumour_in_the_middle_is_covered_with_healthy_tissue_of_another_slice() -> None:
    covered = 0
    for seed in range(40):
        images = torch.cat([heads(1), heads(1) * 0.5])
        masks = with_spot(images, 0, 27, 27)
        before = images.clone()
        changed = exchange_tissue(
            images, masks, torch.tensor([False, True]), generator(seed), healed=0.5
        )
        if changed.erased[0]:
            covered += 1
            assert changed.masks[0].sum() == 0
            assert changed.images[0].max() < 0.6  # the spot was at 1, the head is at 0.4
            outside = torch.ones(SIZE, SIZE, dtype=torch.bool)
            outside[15:49, 15:49] = False
            assert torch.equal(changed.images[0, 0][outside], before[0, 0][outside])
    assert 2 <= covered <= 20


def test_parts_leave_half_of_the_tumours_outside_and_show_the_others_whole() -> None:
    images = heads(64)
    masks = torch.zeros_like(images)
    masks[:32, :, 26:36, 12:22] = 1
    images[masks > 0] = 1.0
    known = torch.ones(64, dtype=torch.bool)
    shown = cut_out(images, masks, known, generator(), share=1.0)
    assert shown.images.shape == images.shape
    assert 8 < int(shown.freed.sum()) < 24
    assert not shown.freed[32:].any()  # nothing to be freed of
    assert shown.masks[shown.freed].sum() == 0
    assert shown.images[shown.freed].max() < 0.5
    kept = ~shown.freed[:32]
    spots = shown.masks[:32][kept]
    assert (spots.sum((1, 2, 3)) >= 0.9 * 100).all()
    assert spots.sum() > 120 * int(kept.sum())  # larger than before
    assert (shown.images[:32][kept] * spots).amax((1, 2, 3)).min() > 0.9
    changed = (shown.images != images).flatten(1).any(1)
    assert changed[32:].float().mean() > 0.9


def test_slices_whose_tumour_is_not_outlined_stay_whole() -> None:
    images = heads(16)
    masks = with_spot(images, 3, 26, 12)
    shown = cut_out(images, masks, torch.arange(16) >= 8, generator(), share=1.0)
    assert torch.equal(shown.images[:8], images[:8])
    assert not torch.equal(shown.images[8:], images[8:])
    untouched = cut_out(images, masks, torch.ones(16, dtype=torch.bool), generator(), share=0.0)
    assert torch.equal(untouched.images, images)


def test_no_part_is_cut_from_an_empty_slice() -> None:
    empty = torch.zeros(4, 1, SIZE, SIZE)
    shown = cut_out(empty, empty, torch.ones(4, dtype=torch.bool), generator(), share=1.0)
    assert torch.equal(shown.images, empty)


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
