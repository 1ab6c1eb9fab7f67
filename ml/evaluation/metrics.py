"""Figures of a classifier from its probabilities, with bootstrap intervals over groups.

Never imports torch: it serves networks, baselines without a network and stored answers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ml.labels import INDEX, LABELS, Label

_ECE_BINS = 15
_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
_NO_TUMOR = INDEX[Label.NO_TUMOR]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Figure = Callable[[Indices], float]


def classification_figures(
    probabilities: Floats, wanted: Indices, groups: Sequence[str], *, called: Indices | None = None
) -> dict[str, Any]:
    """Accuracy, recall, calibration and tumour detection, with 95 % intervals.

    Undefined figures, such as the recall of a class without slices, are None.

    Args:
        probabilities: (N, 4) in the order of :data:`ml.labels.LABELS`; N is at least 1.
        wanted: (N,) true class indices.
        groups: (N,) names; groups are resampled as a whole, because slices of one patient
            are correlated.
        called: (N,) predicted class indices; by default the likeliest classes.
    """
    said = probabilities.argmax(axis=1) if called is None else called
    precision, recall, f1, support = precision_recall_fscore_support(
        wanted, said, labels=range(len(LABELS)), zero_division=np.nan
    )
    return {
        "n": len(wanted),
        "groups": len(set(groups)),
        "accuracy": float((wanted == said).mean()),
        "balanced_accuracy": float(np.nanmean(recall)),
        "per_class": {
            label.value: {
                "recall": _number(float(recall[i])),
                "precision": _number(float(precision[i])),
                "f1": _number(float(f1[i])),
                "n": int(support[i]),
            }
            for i, label in enumerate(LABELS)
        },
        "confusion": {
            "labels": [label.value for label in LABELS],
            "rows_are": "true class",
            "matrix": confusion_matrix(wanted, said, labels=range(len(LABELS))).tolist(),
        },
        "intervals_95": _intervals(probabilities, wanted, said, groups),
        "ece": expected_calibration_error(probabilities, wanted),
        "nll": float(
            -np.log(np.clip(probabilities[np.arange(len(wanted)), wanted], 1e-12, 1)).mean()
        ),
        "auroc_tumor": _number(tumor_auroc(probabilities, wanted)),
        "tumor_called_no_tumor": _missed_tumors(wanted, said),
    }


def bootstrap_intervals(
    groups: Sequence[str], figures: Mapping[str, Figure]
) -> dict[str, list[float]]:
    """95 % percentile intervals (Efron and Tibshirani 1993, ch. 13) over resampled groups.

    Args:
        groups: (N,) the group of each observation.
        figures: functions from the indices of the drawn observations (with repetition) to a
            number; NaN if it is undefined for that draw.
    """
    names = np.asarray(groups)
    members = [np.flatnonzero(names == group) for group in np.unique(names)]
    random = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(_RESAMPLES):
        picked = random.integers(0, len(members), len(members))
        chosen = np.concatenate([members[number] for number in picked])
        for name, figure in figures.items():
            drawn[name].append(figure(chosen))
    return {
        name: [float(value) for value in np.nanpercentile(values, _INTERVAL)]
        for name, values in drawn.items()
    }


def expected_calibration_error(probabilities: Floats, wanted: Indices) -> float:
    """Mean gap between confidence and accuracy over 15 bins of confidence (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == wanted
    bins = np.minimum((confidence * _ECE_BINS).astype(int), _ECE_BINS - 1)
    gaps = [
        (bins == b).mean() * abs(correct[bins == b].mean() - confidence[bins == b].mean())
        for b in np.unique(bins)
    ]
    return float(np.sum(gaps))


def tumor_auroc(probabilities: Floats, wanted: Indices) -> float:
    """Area under the ROC curve of tumour against no tumour; NaN if only one of them occurs.

    Computed by ranks as the Mann-Whitney statistic (Hanley and McNeil 1982).
    """
    has_tumor = wanted != _NO_TUMOR
    tumors, others = int(has_tumor.sum()), int((~has_tumor).sum())
    if not tumors or not others:
        return float("nan")
    ranks = rankdata(1 - probabilities[:, _NO_TUMOR])
    return float((ranks[has_tumor].sum() - tumors * (tumors + 1) / 2) / (tumors * others))


def _intervals(
    probabilities: Floats, wanted: Indices, said: Indices, groups: Sequence[str]
) -> dict[str, list[float]]:
    present = sorted(set(wanted.tolist()))

    def recall(index: int) -> Figure:
        return lambda chosen: _recall(wanted[chosen], said[chosen], index)

    figures: dict[str, Figure] = {
        "accuracy": lambda chosen: float((wanted[chosen] == said[chosen]).mean()),
        "balanced_accuracy": lambda chosen: float(
            np.nanmean([_recall(wanted[chosen], said[chosen], index) for index in present])
        ),
        **{f"recall_{LABELS[index].value}": recall(index) for index in present},
    }
    if _number(tumor_auroc(probabilities, wanted)) is not None:
        figures["auroc_tumor"] = lambda chosen: tumor_auroc(probabilities[chosen], wanted[chosen])
    return bootstrap_intervals(groups, figures)


def _recall(wanted: Indices, said: Indices, index: int) -> float:
    mine = wanted == index
    return float((said[mine] == index).mean()) if mine.any() else float("nan")


def _missed_tumors(wanted: Indices, said: Indices) -> float | None:
    has_tumor = wanted != _NO_TUMOR
    return float((said[has_tumor] == _NO_TUMOR).mean()) if has_tumor.any() else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
