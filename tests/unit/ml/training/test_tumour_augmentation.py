"""Tumours go and come with their masks, and parts of slices show them or leave them out."""

import torch

from ml.training.tumour_augmentation import cut_out, exchange_tissue
from tests.unit.ml.training.drawn import SIZE, generator, heads, with_spot


def test_tumour_on_one_side_is_replaced_by_the_other_side() -> None:
    erased = 0
    for seed in range(20):
        images = heads(1)
        masks = with_spot(images, 0, 26, 12)
        changed = exchange_tissue(
            images, masks, torch.tensor([False]), generator(seed), inpainted=0.5
        )
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
        changed = exchange_tissue(
            images, masks, torch.tensor([False]), generator(seed), inpainted=0.5
        )
        assert not changed.erased.any()


def test_healthy_slice_receives_a_tumour_inside_its_head() -> None:
    received = 0
    for seed in range(20):
        images = heads(2)
        masks = with_spot(images, 0, 26, 12)
        healthy = torch.tensor([False, True])
        changed = exchange_tissue(images, masks, healthy, generator(seed), inpainted=0.5)
        if changed.pasted[1]:
            received += 1
            inside = changed.masks[1] > 0.5
            assert changed.images[1][inside].mean() > 0.6
            assert (heads(1)[0][inside] > 0).float().mean() > 0.9
    assert 1 <= received <= 14


def test_without_a_donor_healthy_slices_stay_as_they_are() -> None:
    images = heads(8)
    changed = exchange_tissue(
        images,
        torch.zeros_like(images),
        torch.ones(8, dtype=torch.bool),
        generator(),
        inpainted=0.5,
    )
    torch.testing.assert_close(changed.images, images)
    assert not changed.pasted.any()


def test_given_tensors_are_not_written_to() -> None:
    images = heads(8)
    masks = with_spot(images, 0, 26, 12)
    before = images.clone(), masks.clone()
    exchange_tissue(images, masks, torch.arange(8) > 0, generator(), inpainted=0.5)
    torch.testing.assert_close((images, masks), before)


def test_tumour_in_the_middle_is_covered_with_healthy_tissue_of_another_slice() -> None:
    covered = 0
    for seed in range(40):
        images = torch.cat([heads(1), heads(1) * 0.5])
        masks = with_spot(images, 0, 27, 27)
        before = images.clone()
        changed = exchange_tissue(
            images, masks, torch.tensor([False, True]), generator(seed), inpainted=0.5
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
