"""Dawid and Skene's estimate, against the example of their paper."""

import uuid

import numpy as np
import pytest

from webapp.review.agreement import Reading
from webapp.review.reliability import dawid_skene, reliabilities

# Dawid and Skene (1979), Table 1: 45 patients; the first of five observers judged three times.
PATIENTS = [
    "111.1.1.1.1", "333.4.3.3.4", "112.2.1.2.2", "222.3.1.2.1", "222.3.2.2.2", "222.3.3.2.2",
    "122.2.1.1.1", "333.3.4.3.3", "222.2.2.2.3", "232.2.2.2.3", "444.4.4.4.4", "222.3.3.4.3",
    "111.1.1.1.1", "222.3.2.1.2", "121.1.1.1.1", "111.2.1.1.1", "111.1.1.1.1", "111.1.1.1.1",
    "222.2.2.2.1", "222.1.3.2.2", "222.2.2.2.2", "222.2.2.2.1", "222.3.2.2.2", "221.2.2.2.2",
    "111.1.1.1.1", "111.1.1.1.1", "232.2.2.2.2", "111.1.1.1.1", "111.1.1.1.1", "112.1.1.2.1",
    "111.1.1.1.1", "333.3.2.3.3", "111.1.1.1.1", "222.2.2.2.2", "222.3.2.3.2", "433.4.3.4.3",
    "221.2.2.3.2", "232.3.2.3.3", "333.3.4.3.2", "111.1.1.1.1", "111.1.1.1.1", "121.2.1.1.1",
    "232.2.2.2.2", "121.1.1.1.1", "222.2.2.2.2",
]  # fmt: skip


def example() -> np.ndarray:
    return np.array(
        [[[said.count(label) for label in "1234"] for said in one.split(".")] for one in PATIENTS]
    )


def test_the_example_of_the_paper_comes_out_as_published() -> None:
    fit = dawid_skene(example())
    # The published marginals, and the first observer's error rates in the first two classes.
    assert fit.marginals == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.005)
    assert fit.error_rates[0, 0] == pytest.approx([0.89, 0.11, 0, 0], abs=0.01)
    assert fit.error_rates[0, 1] == pytest.approx([0.07, 0.88, 0.05, 0], abs=0.01)
    # Nearly every patient belongs to one class for certain.
    assert (fit.truth.max(axis=1) > 0.9).sum() >= 43


def test_the_likelihood_never_falls() -> None:
    rises = np.diff(dawid_skene(example()).log_likelihoods)
    assert (rises > -1e-9).all()


def test_error_rates_are_probabilities() -> None:
    fit = dawid_skene(example())
    assert fit.error_rates.sum(axis=2) == pytest.approx(np.ones((5, 4)))
    assert fit.truth.sum(axis=1) == pytest.approx(np.ones(45))


def test_a_reader_who_guesses_is_less_reliable_than_those_who_look() -> None:
    random = np.random.default_rng(1)
    labels = ["glioma", "meningioma", "no_tumor", "pituitary"]
    readers = [uuid.UUID(int=n) for n in range(1, 5)]
    readings = []
    for unit in range(200):
        truth = labels[random.integers(4)]
        for reader in readers:
            sure = 0.95 if reader != readers[3] else 0.3
            said = truth if random.random() < sure else labels[random.integers(4)]
            patient = uuid.UUID(int=1000 + unit // 4)
            readings.append(Reading(uuid.UUID(int=unit), patient, reader, said))
    found = reliabilities(readings)
    assert all(found[one].value > 0.9 for one in readers[:3])
    assert found[readers[3]].value < 0.6
    for one in found.values():
        assert one.readings == 200
        assert one.interval is not None
        assert one.interval[0] < one.value < one.interval[1]


def test_what_one_reader_alone_has_read_tells_nothing() -> None:
    alone = [Reading(uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3), "glioma")]
    assert reliabilities(alone) == {}
