"""What heads that leave groups out say of a snapshot: how far to go, and which labels to doubt."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from ml.registry import Model
from ml.release.head import Chosen, Head, HeadData, Local, choose_strength
from ml.release.label_issues import LabelIssue, described, find_label_issues
from ml.release.material import Material
from ml.release.progress import Progress
from ml.release.replay import Replay
from ml.uncertainty.calibration import Calibration


@dataclass(frozen=True)
class Inspected:
    """What heads that leave groups out say about a snapshot.

    Attributes:
        data: without the suspected slices, where that was ordered.
        chosen: how strongly the head is held, on all slices.
        issues: labels that are likely wrong.
    """

    data: HeadData
    chosen: Chosen
    issues: list[LabelIssue]


def inspect(material: Material, replay: Replay, local: Local, progress: Progress) -> Inspected:
    """Choose how strongly the head is held, and look for labels that are likely wrong."""
    old, temperature = _start(material.model)
    everything = torch.ones(len(local.exact), dtype=torch.bool)
    data = HeadData(old, temperature, local, replay, everything)
    chosen = choose_strength(data, progress.step("heads that leave groups out"))
    said = chosen.fitted.logits
    calibrated = Calibration.fit(said.float(), local.exact.labels).probabilities(said)
    issues = find_label_issues(material.learnt, calibrated, local.exact.labels)
    if material.order.label_issues == "leave_out":
        kept = everything.clone()
        kept[[issue.index for issue in issues]] = False
        data = replace(data, learnt=kept)
    progress.tell("labels", 1, 1, label_issues=len(issues), losses=plain(chosen))
    return Inspected(data, chosen, issues)


def _start(model: Model) -> tuple[Head, float]:
    """The head that serves with its temperature; of networks without one, a blank head."""
    if model.network.answers_linearly:
        return Head.of(model.network), model.doubt.calibration.temperature
    return Head.blank(model.doubt.reference.shape[1]), 1.0


def issue_facts(material: Material, inspected: Inspected) -> dict[str, Any]:
    """The card's entry about labels that are likely wrong."""
    handling = material.order.label_issues
    return {
        "handling": handling,
        "looked_at": len(material.learnt),
        "found": len(inspected.issues),
        "slices": [described(issue, handling) for issue in inspected.issues],
    }


def plain(chosen: Chosen) -> dict[str, dict[str, float | None]]:
    """What each strength cost, by name."""
    return {
        str(number_of(strength)): {"snapshot": round(own, 5), "base": base and round(base, 5)}
        for strength, (own, base) in chosen.losses.items()
    }


def number_of(strength: float) -> float | str:
    """JSON knows no infinity."""
    return strength if math.isfinite(strength) else "unchanged"
