"""How often each reader is right, where nobody knows the truth: Dawid and Skene's estimate.

Truth and error rates of readers are estimated together by expectation and maximisation: readers
who agree with what the others make likely count for more. Only what at least two readers have read
tells anything.

Source: A. P. Dawid and A. M. Skene, Maximum Likelihood Estimation of Observer Error-Rates Using
the EM Algorithm, Applied Statistics 28 (1979), 20-28. Written out here: the package that has it
(crowd-kit) brings pandas, scikit-learn and transformers, and the web image has none of them.
"""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from webapp.review.agreement import Reading

DRAWS = 2000
_ITERATIONS = 500
_TOLERANCE = 1e-6
_SMALLEST = 1e-300  # the logarithm of what never happens

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """What the estimate converged to.

    Attributes:
        truth: (items, labels) probability of each label.
        marginals: (labels,) how common each label is: p of the paper.
        error_rates: (readers, labels, labels) probability that a reader says the second where
            the first is true: pi of the paper.
        log_likelihoods: after each iteration.
    """

    truth: Array
    marginals: Array
    error_rates: Array
    log_likelihoods: tuple[float, ...]


@dataclass(frozen=True)
class Reliability:
    """How often a reader is right, by the estimate.

    Attributes:
        value: expected share of readings that are right.
        interval: of 95 %, by a bootstrap over patients with the fit as it is, so rather too
            narrow; None with one patient alone.
        readings: number that it rests on.
    """

    value: float
    interval: tuple[float, float] | None
    readings: int


def dawid_skene(counts: npt.ArrayLike) -> Fit:
    """Estimate truth and error rates.

    Args:
        counts: (items, readers, labels) how often a reader gave a label; 0 where not read.
    """
    said = np.asarray(counts, np.float64)
    votes = said.sum(axis=1)
    truth = votes / votes.sum(axis=1, keepdims=True)  # equation 3.1
    found: list[float] = []
    while True:
        marginals = truth.mean(axis=0)  # equation 2.4
        rates = np.einsum("ij,ikl->kjl", truth, said)  # equation 2.3
        whole = rates.sum(axis=2, keepdims=True)
        rates = np.divide(rates, whole, out=np.zeros_like(rates), where=whole > 0)
        log_rates = np.log(np.maximum(rates, _SMALLEST))
        joint = np.log(np.maximum(marginals, _SMALLEST)) + np.einsum("ikl,kjl->ij", said, log_rates)
        peak = joint.max(axis=1, keepdims=True)
        likelihood = np.exp(joint - peak)
        found.append(float((peak[:, 0] + np.log(likelihood.sum(axis=1))).sum()))  # equation 2.7
        truth = likelihood / likelihood.sum(axis=1, keepdims=True)  # equation 2.5
        if (len(found) > 1 and found[-1] - found[-2] < _TOLERANCE) or len(found) == _ITERATIONS:
            return Fit(truth, marginals, rates, tuple(found))


def reliabilities(readings: Sequence[Reading]) -> dict[uuid.UUID, Reliability]:
    """For each reader who has read something in common with another one."""
    units: dict[uuid.UUID, list[Reading]] = defaultdict(list)
    for one in readings:
        units[one.unit].append(one)
    shared = [unit for unit in units.values() if len({one.reader_id for one in unit}) > 1]
    if not shared:
        return {}
    readers = {one: n for n, one in enumerate(sorted({r.reader_id for u in shared for r in u}))}
    labels = {one: n for n, one in enumerate(sorted({r.label for u in shared for r in u}))}
    counts = np.zeros((len(shared), len(readers), len(labels)))
    for row, unit in enumerate(shared):
        for one in unit:
            counts[row, readers[one.reader_id], labels[one.label]] += 1
    fit = dawid_skene(counts)
    right = np.einsum("ikl,il->ik", counts, fit.truth)
    patients = {one: n for n, one in enumerate(sorted({unit[0].patient_id for unit in shared}))}
    of_patient = np.array([patients[unit[0].patient_id] for unit in shared])
    return {
        reader: _reliability(right[:, n], counts[:, n].sum(axis=1), of_patient, len(patients))
        for reader, n in readers.items()
    }


def _reliability(right: Array, read: Array, of_patient: Array, patients: int) -> Reliability:
    by_patient = np.stack(
        [np.bincount(of_patient, weights=one, minlength=patients) for one in (right, read)], axis=1
    )
    by_patient = by_patient[by_patient[:, 1] > 0]
    value = float(right.sum() / read.sum())
    interval = None
    if len(by_patient) > 1:
        share = np.full(len(by_patient), 1 / len(by_patient))
        weights = np.random.default_rng(0).multinomial(len(by_patient), share, DRAWS)
        drawn = weights @ by_patient
        low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
        interval = (float(low), float(high))
    return Reliability(value, interval, int(read.sum()))
