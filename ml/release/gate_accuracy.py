"""The gates about right answers: accuracy, sensitivity, missed tumours and where the heat lies."""

from collections.abc import Iterator

import numpy as np

from ml.evaluation.evaluation import Answer, Pointed, classes_called, pointing_game
from ml.evaluation.metrics import bootstrap_intervals
from ml.evaluation.significance import difference
from ml.labels import INDEX, LABELS, Label
from ml.release.change_plan import ChangePlan
from ml.release.gate import Gate, not_worse, paired, points, unmeasured, verdict_if, within
from ml.release.gate_figures import Evidence, Site

_NO_TUMOR = INDEX[Label.NO_TUMOR]

_Pair = tuple[list[Answer], list[Answer]]  # the candidate's answers and the incumbent's


def accuracy_gates(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    """On the reference set, and on what the snapshot holds out."""
    limits = plan.gates
    new, old = evidence.candidate, evidence.incumbent
    yield not_worse(
        "non_inferiority",
        "accuracy",
        new.reference.answers,
        old.reference.answers,
        margin=limits.non_inferiority.margin,
        required=limits.non_inferiority.required,
    )
    local = _pair(new.local, old.local)
    groups = len({one.group for one in local[0]})
    if groups < plan.data.fewest_holdout_groups:
        reason = (
            f"The hold-out part has {groups} patients; {plan.data.fewest_holdout_groups} are "
            "needed."
        )
        yield unmeasured("non_inferiority_local", reason, limits.non_inferiority_local.required)
        yield unmeasured("superiority", reason, limits.superiority.required)
        return
    yield not_worse(
        "non_inferiority_local",
        "accuracy",
        *local,
        margin=limits.non_inferiority_local.margin,
        required=limits.non_inferiority_local.required,
    )
    yield _superiority(*local, plan)


def _superiority(new: list[Answer], old: list[Answer], plan: ChangePlan) -> Gate:
    limits = plan.gates.superiority
    found = paired(new, old)
    return Gate(
        "superiority",
        verdict_if(found.low > limits.least),
        f"Accuracy on what it was retrained for changes by {points(found.accuracy)} points"
        f"{within(found, new)}; the lower bound must be above {points(limits.least)}.",
        found.accuracy,
        limits.least,
        (found.low, found.high),
        limits.required,
    )


def sensitivity_gates(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    """Of each class, on the reference set."""
    limits = plan.gates.sensitivity
    for label in LABELS:
        new, old = (
            [one for one in said.reference.answers if one.label is label]
            for said in (evidence.candidate, evidence.incumbent)
        )
        name = f"sensitivity_{label.value}"
        if not new:
            yield unmeasured(name, f"No slice shows {label.value}.", limits.required)
            continue
        yield not_worse(
            name, f"sensitivity for {label.value}", new, old,
            margin=limits.margin, required=limits.required,
        )  # fmt: skip


def missed_tumor_gates(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    """How many tumours are called no tumour, on both sites."""
    limits = plan.gates.missed_tumors
    sites = (
        ("missed_tumors", evidence.candidate.reference, evidence.incumbent.reference),
        ("missed_tumors_local", evidence.candidate.local, evidence.incumbent.local),
    )
    for name, new, old in sites:
        if new is None or old is None or new.figures["tumor_called_no_tumor"] is None:
            yield unmeasured(name, "No slice shows a tumour.", limits.required)
            continue
        rate, before = (site.figures["tumor_called_no_tumor"] for site in (new, old))
        rise = rate - before
        yield Gate(
            name,
            verdict_if(rise <= limits.margin),
            f"{rate:.2%} of the tumours are called no tumour, by the incumbent {before:.2%}; "
            f"{100 * limits.margin:g} points more are allowed.",
            rise,
            limits.margin,
            _missed_interval(new.answers, old.answers),
            limits.required,
        )


def _missed_interval(new: list[Answer], old: list[Answer]) -> tuple[float, float]:
    missed = [
        (classes_called(said) == _NO_TUMOR)[[one.label is not Label.NO_TUMOR for one in said]]
        for said in (new, old)
    ]
    more = missed[0].astype(float) - missed[1]
    groups = [one.group for one in new if one.label is not Label.NO_TUMOR]
    found = bootstrap_intervals(groups, {"more": lambda chosen: float(more[chosen].mean())})
    return found["more"][0], found["more"][1]


def localisation_gates(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    """How often the hottest place lies inside the tumour's box."""
    new, old = evidence.candidate, evidence.incumbent
    yield _localisation("localisation", _pair(new.reference, old.reference), plan)
    yield _localisation("localisation_local", _pair(new.local, old.local), plan)


def _localisation(name: str, pair: _Pair, plan: ChangePlan) -> Gate:
    limits = plan.gates.localisation
    groups: list[str] = []
    pointed: list[tuple[Pointed, Pointed]] = []
    for now, before in zip(*pair, strict=True):
        if now.pointed and before.pointed:
            groups.append(now.group)
            pointed.append((now.pointed, before.pointed))
    if not pointed:
        return unmeasured(name, "No slice has a tumour's box.", limits.required)
    rate, was = (pointing_game(side)["rate"] for side in zip(*pointed, strict=True))
    hits, hits_before = (np.array([one.hit for one in side]) for side in zip(*pointed, strict=True))
    found = difference(hits, hits_before, groups)
    return Gate(
        name,
        verdict_if(found.low > -limits.margin),
        f"The hottest place lies in the box in {rate:.1%} of {len(pointed)} slices, by the "
        f"incumbent in {was:.1%}; the lower bound of the change must be above "
        f"{points(-limits.margin)} points.",
        found.accuracy,
        -limits.margin,
        (found.low, found.high),
        limits.required,
    )


def _pair(new: Site | None, old: Site | None) -> _Pair:
    return (new.answers, old.answers) if new is not None and old is not None else ([], [])
