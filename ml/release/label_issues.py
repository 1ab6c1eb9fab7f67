"""Slices whose label is likely wrong, found by confident learning; always listed.

Northcutt, Jiang and Chuang 2021 (JAIR 70), "Confident Learning: Estimating Uncertainty in Dataset
Labels", by the package cleanlab.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ml.dataset import Entry
from ml.dataset.manifest import write_rows
from ml.labels import LABELS, Label

_COLUMNS = ("path", "sha256", "group", "label", "suggested", "probability", "quality", "learnt")


@dataclass(frozen=True)
class LabelIssue:
    """A slice of which a head that had not learnt its group says otherwise.

    Attributes:
        index: of the slice among those that were looked at.
        suggested: the class that was likeliest.
        probability: of the slice's own label.
        quality: of the label, in 0..1; the lowest is the likeliest to be wrong.
    """

    index: int
    entry: Entry
    suggested: Label
    probability: float
    quality: float


def find_label_issues(
    entries: Sequence[Entry], probabilities: Tensor, labels: Tensor
) -> list[LabelIssue]:
    """The suspected slices, the likeliest to be wrong first.

    Args:
        probabilities: (N, 4) by heads that had not learnt the slices' groups.
        labels: (N,) class indices.
    """
    # It brings pandas, which only those pay for who retrain.
    from cleanlab.filter import find_label_issues as find
    from cleanlab.rank import get_label_quality_scores as quality_of

    said, given = probabilities.double().numpy(), labels.numpy()
    found = find(given, said, return_indices_ranked_by="self_confidence", n_jobs=1)
    quality = quality_of(given, said, method="normalized_margin")
    return [
        LabelIssue(
            index=int(index),
            entry=entries[index],
            suggested=LABELS[int(np.argmax(said[index]))],
            probability=float(said[index, given[index]]),
            quality=float(quality[index]),
        )
        for index in found
    ]


def write_label_issues(path: Path, issues: Sequence[LabelIssue], *, handling: str) -> None:
    """Write a CSV file with a line for each; of the header alone where none is suspected."""
    write_rows(path, _COLUMNS, (described(issue, handling) for issue in issues))


def described(issue: LabelIssue, handling: str) -> dict[str, Any]:
    """What is told of an issue, in card and list."""
    return {
        "path": issue.entry.path.name,
        "sha256": issue.entry.file_hash,
        "group": issue.entry.group,
        "label": issue.entry.label.value,
        "suggested": issue.suggested.value,
        "probability": round(issue.probability, 4),
        "quality": round(issue.quality, 4),
        "learnt": handling == "report",
    }
