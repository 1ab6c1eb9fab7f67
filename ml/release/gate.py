"""One gate's judgement, and what all gates share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ml.evaluation.evaluation import Answer, accuracy
from ml.evaluation.significance import Difference, difference

Verdict = Literal["pass", "fail", "not_measured"]


@dataclass(frozen=True)
class Gate:
    """One judgement.

    Attributes:
        figure: what is compared with ``threshold``; where there is an ``interval`` (95 %, over
            patients), the bound that the reason names is compared.
        required: whether it decides anything.
    """

    name: str
    verdict: Verdict
    reason: str
    figure: float | None = None
    threshold: float | None = None
    interval: tuple[float, float] | None = None
    required: bool = True

    def plain(self) -> dict[str, Any]:
        """As the report has it."""
        interval = None if self.interval is None else [_positive_zero(one) for one in self.interval]
        return {
            "name": self.name,
            "figure": _positive_zero(self.figure),
            "interval": interval,
            "threshold": _positive_zero(self.threshold),
            "verdict": self.verdict,
            "reason": self.reason,
            "required": self.required,
        }


def not_worse(
    name: str,
    words: str,
    new: list[Answer],
    old: list[Answer],
    *,
    margin: float,
    required: bool,
) -> Gate:
    """Whether the lower bound of the change in the share of right answers is above ``-margin``."""
    found = paired(new, old)
    return Gate(
        name,
        verdict_if(found.low > -margin),
        f"The {words} is {accuracy(new):.1%}, the incumbent's {accuracy(old):.1%}: a change of "
        f"{points(found.accuracy)} points{within(found, new)}; the lower bound must be above "
        f"{points(-margin)}.",
        found.accuracy,
        -margin,
        (found.low, found.high),
        required,
    )


def paired(new: list[Answer], old: list[Answer]) -> Difference:
    """Two models on the same slices, with an interval over patients."""
    right, before = (np.array([one.called is one.label for one in said]) for said in (new, old))
    return difference(right, before, [one.group for one in new])


def unmeasured(name: str, reason: str, required: bool) -> Gate:
    """A gate for which nothing is there to measure it on."""
    return Gate(name, "not_measured", reason, required=required)


def verdict_if(passed: Any) -> Verdict:
    """Whether a gate that was measured passes."""
    return "pass" if passed else "fail"


def points(share: float) -> str:
    """A share, or a change of one, in points of a hundred with its sign."""
    return f"{round(100 * share, 1) + 0:+.1f}"


def _positive_zero(value: float | None) -> float | None:
    """Zero without a minus: databases do not keep it, and a signed report would not fit."""
    return None if value is None else float(value) + 0.0


def within(found: Difference, answers: Sequence[Answer]) -> str:
    """The interval of a difference in words."""
    groups = len({one.group for one in answers})
    return f" (95 % interval over {groups} patients {points(found.low)} to {points(found.high)})"
