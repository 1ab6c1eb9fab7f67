"""Doubt is calibrated on held-out slices and never hides the likeliest class."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from ml.labels import LABELS, Label
from ml.uncertainty.calibration import Calibration, fit_offsets, fit_temperature
from ml.uncertainty.conformal import fit_no_tumor_from, fit_thresholds
from ml.uncertainty.doubt import Doubt
from ml.uncertainty.ood.feature_distance import Subspace
from ml.uncertainty.ood.score import ood_score


def overconfident(n: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits three times too large for the labels that are drawn from them."""
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(n, 4, generator=generator) * 2
    labels = torch.multinomial(torch.softmax(honest, 1), 1, generator=generator)[:, 0]
    return honest * 3, labels


def doubt(thresholds: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5), temperature: float = 1.0) -> Doubt:
    reference = F.normalize(torch.eye(8, 512), dim=1)
    return Doubt(Calibration((0.0,) * 4, temperature, thresholds), reference, distance_limit=1.0)


def set_of(
    fitted: Calibration | Doubt, probabilities: npt.NDArray[np.float64]
) -> tuple[Label, ...]:
    """Of a slice by itself."""
    return fitted.prediction_set(probabilities, fitted.label(probabilities))


def test_temperature_undoes_overconfidence() -> None:
    assert fit_temperature(*overconfident()) == pytest.approx(3.0, rel=0.1)


def test_prediction_sets_cover_what_they_promise() -> None:
    logits, labels = overconfident(8000)
    probabilities = torch.softmax(logits / 3, 1).numpy()
    wanted = labels.numpy()
    fitted = doubt(fit_thresholds(probabilities[:4000], wanted[:4000]))
    covered = [LABELS[wanted[n]] in set_of(fitted, probabilities[n]) for n in range(4000, 8000)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_class_without_calibration_slices_is_always_admitted() -> None:
    assert fit_thresholds(np.zeros((0, 4)), np.zeros(0, np.int64)) == (1.0,) * 4


def test_set_starts_with_the_likeliest_whatever_the_thresholds() -> None:
    others_only = doubt((0.8, 0.0, 0.0, 0.0))
    assert set_of(others_only, np.array([0.3, 0.4, 0.2, 0.1])) == (LABELS[1], LABELS[0])
    strict = doubt((0.0, 0.0, 0.0, 0.0))
    assert set_of(strict, np.array([0.2, 0.5, 0.2, 0.1])) == (LABELS[1],)
    wide = doubt((0.9, 0.9, 0.9, 0.9))
    assert set_of(wide, np.array([0.3, 0.4, 0.2, 0.1])) == (
        LABELS[1],
        LABELS[0],
        LABELS[2],
        LABELS[3],
    )


def test_class_with_a_chance_of_one_in_four_is_not_ruled_out() -> None:
    strict = doubt((0.0, 0.0, 0.0, 0.0))
    assert set_of(strict, np.array([0.44, 0.0, 0.56, 0.0])) == (LABELS[2], LABELS[0])
    assert set_of(strict, np.array([0.25, 0.5, 0.24, 0.01])) == (LABELS[1], LABELS[0])


def test_set_holds_what_the_slice_is_called() -> None:
    strict = Calibration((0.0,) * 4, 1.0, (0.0,) * 4, no_tumor_from=0.7)
    undecided = np.array([0.2, 0.1, 0.6, 0.1])
    assert strict.label(undecided) is LABELS[0]
    assert strict.prediction_set(undecided, LABELS[0]) == (LABELS[2], LABELS[0])
    assert strict.prediction_set(undecided, LABELS[2]) == (LABELS[2],)


def test_as_many_tumours_as_allowed_are_called_none() -> None:
    logits, labels = overconfident(20000)
    probabilities = torch.softmax(logits / 3, 1).numpy()
    wanted = labels.numpy()
    none = LABELS.index(Label.NO_TUMOR)
    reached = fit_no_tumor_from(probabilities[:10000], wanted[:10000], missed=0.05)
    tumors = wanted[10000:] != none
    missed = probabilities[10000:][tumors, none] >= reached
    assert missed.mean() == pytest.approx(0.05, abs=0.01)


def test_no_tumour_is_called_from_one_half_to_three_quarters_whatever_was_fitted() -> None:
    none = LABELS.index(Label.NO_TUMOR)
    wanted = np.zeros(500, np.int64)
    certain, wrong = np.zeros((500, 4)), np.zeros((500, 4))
    certain[:, 0], wrong[:, none] = 1, 1
    assert fit_no_tumor_from(certain, wanted) == 0.5
    assert fit_no_tumor_from(wrong, wanted) == 0.75
    assert fit_no_tumor_from(np.zeros((0, 4)), np.zeros(0, np.int64)) == 0.75


def test_probabilities_sum_to_one() -> None:
    found = doubt(temperature=2.0).probabilities(torch.randn(16, 4))
    torch.testing.assert_close(found.sum(1), torch.ones(16, dtype=torch.float64))


def features_of_one_subspace(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(8, 512, generator=torch.Generator().manual_seed(2))
    return torch.randn(n, 8, generator=generator) @ directions + 3


def test_features_in_the_subspace_are_near_whatever_their_length_and_others_far() -> None:
    known = Subspace.of(F.normalize(features_of_one_subspace(200), dim=1))
    near = known.distance(features_of_one_subspace(10) * 7)
    far = known.distance(torch.randn(10, 512, generator=torch.Generator().manual_seed(3)))
    assert near.max() < 0.5 * far.min()


def test_feature_distance_is_zero_at_the_limit() -> None:
    reference = F.normalize(features_of_one_subspace(200), dim=1)
    strange = torch.randn(1, 512, generator=torch.Generator().manual_seed(3))
    limit = float(Subspace.of(reference).distance(strange))
    calibration = Calibration((0.0,) * 4, 1.0, (0.5,) * 4)
    fitted = Doubt(calibration, reference, distance_limit=limit)
    assert float(fitted.feature_distance(strange)) == pytest.approx(0, abs=1e-5)


def test_picture_and_features_are_judged_together() -> None:
    assert ood_score(against_head=-1.0, feature_distance=0.0) < 1
    assert ood_score(against_head=-1.0, feature_distance=0.2) < 1
    assert ood_score(against_head=-0.1, feature_distance=0.2) > 1
    assert ood_score(against_head=1.0, feature_distance=-0.3) > 1


def test_offsets_undo_a_bias_for_one_class() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (400,), generator=generator)
    logits = torch.randn(400, 4, generator=generator) + 2.5 * torch.eye(4)[labels]
    biased = logits + torch.tensor([0.0, 3.0, 0.0, 0.0])
    offsets = fit_offsets(biased, labels)
    assert offsets[1] - offsets[[0, 2, 3]].mean() == pytest.approx(-3, abs=0.6)
    right = ((biased + offsets).argmax(1) == labels).float().mean()
    assert right > (biased.argmax(1) == labels).float().mean()


def test_calibration_undoes_bias_and_overconfidence_and_its_sets_cover() -> None:
    logits, labels = overconfident(8000)
    biased = logits + torch.tensor([0.0, 4.0, -2.0, 0.0])
    fitted = Calibration.fit(biased[:4000], labels[:4000])
    probabilities = fitted.probabilities(biased[4000:]).numpy()
    expected = torch.softmax(logits[4000:].double() / 3, 1).numpy()
    assert np.abs(probabilities - expected).mean() < 0.02
    covered = [
        LABELS[wanted] in set_of(fitted, row)
        for row, wanted in zip(probabilities, labels[4000:].tolist(), strict=True)
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
