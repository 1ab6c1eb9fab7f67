"""A head is fitted anew on features alone, and stays what it was where nothing speaks for more."""

from pathlib import Path

import pytest
import torch

from ml.errors import InvalidManifest, InvalidModel
from ml.labels import LABELS
from ml.release.features import Features
from ml.release.head import (
    STRENGTHS,
    Head,
    HeadData,
    Local,
    check_groups,
    choose_strength,
    cross_fit,
    fit_doubt,
    fit_head,
)
from ml.release.replay import Replay, read_replay, save_replay

WIDTH = 12
UNCHANGED = float("inf")


def clouds(n: int, *, seed: int, shift: float = 0.0, spread: float = 0.6) -> Features:
    """Four clouds of features, a class each; ``shift`` moves all along an axis of their own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    values = torch.randn(n, WIDTH, generator=generator) * spread
    values[torch.arange(n), labels] += 2
    # Another scanner: the first class looks like the second along the usual axes.
    values[:, 1] += shift
    values[:, 5] += shift
    numbers = torch.arange(n) // 4
    return Features(values, labels, numbers, numbers % 8 + 2)


def known_head() -> Head:
    weight = torch.zeros(len(LABELS), WIDTH, dtype=torch.float64)
    weight[range(4), range(4)] = 3
    return Head(weight, torch.zeros(4, dtype=torch.float64))


def data_of(local: Features, *, learnt: torch.Tensor | None = None) -> HeadData:
    replay = Replay(clouds(800, seed=1), clouds(200, seed=2))
    everything = torch.ones(len(local), dtype=torch.bool)
    return HeadData(
        known_head(),
        1.0,
        Local(local, [local]),
        replay,
        everything if learnt is None else learnt,
    )


def accuracy(head: Head, features: Features) -> float:
    return float((head.logits(features.values).argmax(1) == features.labels).float().mean())


def test_another_scanner_is_learnt_and_the_base_is_not_forgotten() -> None:
    local, later = clouds(240, seed=3, shift=2.5), clouds(400, seed=4, shift=2.5)
    data = data_of(local)
    chosen = choose_strength(data, lambda done, total: None)
    assert chosen.strength < UNCHANGED
    head = fit_head(data, torch.ones(len(local), dtype=torch.bool), chosen.strength)
    assert accuracy(data.old, later) < 0.6
    assert accuracy(head, later) > accuracy(data.old, later) + 0.2
    base = data.replay.unlearnt
    assert accuracy(head, base) > accuracy(data.old, base) - 0.03


def test_head_stays_as_it_is_where_the_snapshot_teaches_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    local = clouds(80, seed=5)
    shuffled = local.labels[torch.randperm(len(local), generator=generator)]
    nonsense = Features(local.values, shuffled, local.groups, local.folds)
    data = data_of(nonsense)
    chosen = choose_strength(data, lambda done, total: None)
    head = fit_head(data, data.learnt, chosen.strength)
    assert accuracy(head, data.replay.unlearnt) > accuracy(data.old, data.replay.unlearnt) - 0.03


def test_slice_is_answered_by_a_head_that_has_learnt_nothing_of_its_group() -> None:
    data = data_of(clouds(80, seed=6, shift=2.5))
    fitted = cross_fit(data, 100.0, lambda: None)
    mine = data.local.folds == data.local.folds[0]
    without = fit_head(data, ~mine, 100.0)
    exact = data.local.exact.values
    torch.testing.assert_close(fitted.logits[mine], without.logits(exact[mine]))
    with_it = fit_head(data, torch.ones_like(mine), 100.0)
    assert not torch.allclose(fitted.logits[mine], with_it.logits(exact[mine]))


def test_slices_that_may_not_be_learnt_from_leave_no_trace() -> None:
    local = clouds(80, seed=7, shift=2.5)
    kept = torch.arange(len(local)) >= 8
    data = data_of(local, learnt=kept)
    everything = torch.ones(len(local), dtype=torch.bool)
    torch.testing.assert_close(
        fit_head(data, everything, 100.0).weight,
        fit_head(data_of(local.where(kept)), everything[kept], 100.0).weight,
    )


def test_progress_counts_every_head_that_is_fitted() -> None:
    seen: list[tuple[int, int]] = []
    choose_strength(data_of(clouds(64, seed=8)), lambda done, total: seen.append((done, total)))
    heads = 8 * len(STRENGTHS)  # one for each fold that is learnt from
    assert seen == [(done, heads) for done in range(1, heads + 1)]


def test_groups_that_cannot_be_left_out_are_too_few() -> None:
    with pytest.raises(InvalidManifest, match="too few"):
        check_groups(["patient-1"])
    check_groups(f"patient-{n}" for n in range(40))


def test_doubt_is_fitted_on_both_collections() -> None:
    data = data_of(clouds(160, seed=10, shift=2.5))
    fitted = cross_fit(data, 300.0, lambda: None)
    doubt = fit_doubt(data, fit_head(data, data.learnt, 300.0), fitted)
    assert doubt.reference.shape[1] == WIDTH
    torch.testing.assert_close(doubt.reference.norm(dim=1), torch.ones(len(doubt.reference)))
    assert 0 < doubt.distance_limit < 2
    assert all(0 < threshold <= 1 for threshold in doubt.calibration.thresholds)


def test_replayed_features_are_good_for_their_own_weights_alone(tmp_path: Path) -> None:
    replay = Replay(clouds(40, seed=11), clouds(8, seed=12).where(torch.arange(0)))
    path = tmp_path / "model.replay.safetensors"
    save_replay(replay, path, sha256="a" * 64)
    read = read_replay(path, sha256="a" * 64)
    torch.testing.assert_close(read.learnt.values, replay.learnt.values, atol=2e-3, rtol=1e-3)
    assert torch.equal(read.learnt.labels, replay.learnt.labels)
    assert torch.equal(read.learnt.groups, replay.learnt.groups)
    assert len(read.unlearnt) == 0
    with pytest.raises(InvalidModel, match="other weights"):
        read_replay(path, sha256="b" * 64)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InvalidModel, match="cannot be read"):
        read_replay(path, sha256="a" * 64)
