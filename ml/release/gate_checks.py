"""All gates: what a candidate is judged by beside the incumbent, in the plan's thresholds."""

from collections.abc import Callable, Iterator

from ml.evaluation.evaluation import accuracy
from ml.labels import LABELS
from ml.release.change_plan import ChangePlan
from ml.release.gate import Gate, unmeasured, verdict_if
from ml.release.gate_accuracy import (
    accuracy_gates,
    localisation_gates,
    missed_tumor_gates,
    sensitivity_gates,
)
from ml.release.gate_figures import Evidence


def judge(evidence: Evidence, plan: ChangePlan) -> list[Gate]:
    """All gates, in a fixed order."""
    return [gate for check in _CHECKS for gate in check(evidence, plan)]


def _calibration(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    limits = plan.gates.calibration
    new, old = (one.reference.figures for one in (evidence.candidate, evidence.incumbent))
    for key, words, margin in (
        ("ece", "The expected calibration error", limits.ece_margin),
        ("nll", "The negative log-likelihood", limits.nll_margin),
    ):
        rise = new[key] - old[key]
        yield Gate(
            f"calibration_{key}",
            verdict_if(rise <= margin),
            f"{words} is {new[key]:.4f}, the incumbent's {old[key]:.4f}; "
            f"{margin:g} more is allowed.",
            rise,
            margin,
            required=limits.required,
        )


def _coverage(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    new, old = (one.reference.figures for one in (evidence.candidate, evidence.incumbent))
    for label in LABELS:
        covered, before = (found["coverage_per_class"][label.value] for found in (new, old))
        count = new["per_class"][label.value]["n"]
        yield _covered(f"coverage_{label.value}", label.value, count, covered, before, plan)
    for name, part in new["by_source"].items():
        words, before = f"the source {name}", old["by_source"][name]["coverage"]
        yield _covered(f"coverage_source_{name}", words, part["n"], part["coverage"], before, plan)
    local, known = evidence.candidate.local, evidence.incumbent.local
    count = len(local.answers) if local else 0
    covered, before = (site.figures["coverage"] if site else None for site in (local, known))
    yield _covered("coverage_local", "the hold-out part", count, covered, before, plan)


def _covered(
    name: str,
    words: str,
    count: int,
    covered: float | None,
    before: float | None,
    plan: ChangePlan,
) -> Gate:
    limits = plan.gates.coverage
    if covered is None or before is None or count < limits.fewest_slices:
        reason = f"{count} slices of {words} are too few; {limits.fewest_slices} are needed."
        return unmeasured(name, reason, limits.required)
    threshold = min(limits.least, before) - limits.margin
    return Gate(
        name,
        verdict_if(covered >= threshold),
        f"{covered:.1%} of {count} prediction sets of {words} hold the true class, of the "
        f"incumbent's {before:.1%}; at least {threshold:.1%} must.",
        covered,
        threshold,
        required=limits.required,
    )


def _set_size(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    new, old = (
        one.reference.figures["mean_set_size"] for one in (evidence.candidate, evidence.incumbent)
    )
    limits = plan.gates.set_size
    yield Gate(
        "set_size",
        verdict_if(new / old <= limits.most_times),
        f"A prediction set holds {new:.3f} classes on average, the incumbent's {old:.3f}; "
        f"{limits.most_times:g} times as many are allowed.",
        new / old,
        limits.most_times,
        required=limits.required,
    )


def _unfamiliar(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    limits = plan.gates.unfamiliar
    new, old = (
        one.pictures["flagged"] / one.pictures["n"]
        for one in (evidence.candidate, evidence.incumbent)
    )
    least = limits.least_flagged if old >= limits.least_flagged else old - limits.margin
    yield Gate(
        "unfamiliar_flagged",
        verdict_if(new >= least),
        f"{new:.1%} of {evidence.candidate.pictures['n']} pictures that are no brain MRI are "
        f"called unfamiliar, by the incumbent {old:.1%}; at least {least:.1%} must be.",
        new,
        least,
        required=limits.required,
    )
    new, old = (
        1 - one.reference.figures["in_distribution"]
        for one in (evidence.candidate, evidence.incumbent)
    )
    most = limits.most_flagged if old <= limits.most_flagged else old + limits.margin
    yield Gate(
        "familiar_flagged",
        verdict_if(new <= most),
        f"{new:.1%} of the brain MRI is called unfamiliar, by the incumbent {old:.1%}; at most "
        f"{most:.1%} may be.",
        new,
        most,
        required=limits.required,
    )


def unfamiliar_local(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    """No gate where the snapshot has no such slice, as plans from before these know none."""
    found, known = evidence.candidate.out_of_scope, evidence.incumbent.out_of_scope
    if found is None or known is None:
        return
    name, limits, count = "unfamiliar_local", plan.gates.unfamiliar, found["n"]
    if count < limits.fewest_slices:
        yield unmeasured(
            name,
            f"{count} slices of none of the classes are too few; {limits.fewest_slices} are "
            "needed.",
            limits.required and name in plan.may_be_unmeasured,
        )
        return
    new, old = (one["flagged"] / one["n"] for one in (found, known))
    least = old - limits.margin
    yield Gate(
        name,
        verdict_if(new >= least),
        f"{new:.1%} of {count} slices that readers call none of the classes are called "
        f"unfamiliar, by the incumbent {old:.1%}; at least {max(least, 0):.1%} must be.",
        new,
        least,
        required=limits.required,
    )


def _other_hospital(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    limits = plan.gates.other_hospital
    new, old = (1 - accuracy(one.healthy) for one in (evidence.candidate, evidence.incumbent))
    yield Gate(
        "other_hospital",
        verdict_if(new <= old + limits.margin),
        f"{new:.0%} of {len(evidence.candidate.healthy)} healthy slices of another hospital are "
        f"called a tumour, by the incumbent {old:.0%}; {100 * limits.margin:g} points more are "
        "allowed.",
        new,
        old + limits.margin,
        required=limits.required,
    )


def _cost(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    mine, others = (bytes_taken / 1e6 for bytes_taken in evidence.memory)
    for name, times, limits, words in (
        ("speed", evidence.times_as_slow, plan.gates.speed, "A slice takes {} as long"),
        (
            "memory",
            mine / others,
            plan.gates.memory,
            f"A process takes {mine:.0f} MB, with the incumbent {others:.0f} MB: {{}} as much",
        ),
    ):
        yield Gate(
            name,
            verdict_if(times <= limits.most_times),
            f"{words.format(f'{times:.2f} times')}; {limits.most_times:g} times is allowed.",
            times,
            limits.most_times,
            required=limits.required,
        )


def _overlap(evidence: Evidence, _plan: ChangePlan) -> Iterator[Gate]:
    copies, groups = evidence.learnt_copies, evidence.learnt_groups
    reason = "Nothing that the candidate learnt from copies what it is judged on."
    if copies:
        digest, how = min(copies.items())
        reason = (
            f"The candidate learnt from {len(copies)} slices of groups that it is judged on, such "
            f"as {digest[:12]}… ({how})."
        )
    elif groups:
        reason = (
            f"The candidate's card does not hold out {len(groups)} groups of the reference set, "
            f"such as {groups[0]}."
        )
    found = len(copies) + len(groups)
    yield Gate("no_overlap", verdict_if(not found), reason, float(found), 0.0)


def _engine(evidence: Evidence, plan: ChangePlan) -> Iterator[Gate]:
    limits, engines = plan.gates.engine, evidence.engines
    count = len(engines.said)
    same = engines.same / count
    lost = accuracy(engines.exact) - accuracy(engines.said)
    # One slice of a small part always may be answered otherwise.
    one = 1 / count
    yield Gate(
        "engine_same_answers",
        verdict_if(same >= limits.same_answers or engines.same >= count - 1),
        f"{engines.name} answers {engines.same} of {count} slices as float32 does; "
        f"{limits.same_answers:.1%} must be the same, all but one always suffice.",
        same,
        limits.same_answers,
        required=limits.required,
    )
    yield Gate(
        "engine_accuracy",
        verdict_if(lost <= max(limits.most_lost, one) + 1e-9),
        f"{engines.name} loses {100 * lost:.1f} points of accuracy beside float32; "
        f"{100 * max(limits.most_lost, one):.1f} are allowed.",
        lost,
        max(limits.most_lost, one),
        required=limits.required,
    )


_CHECKS: tuple[Callable[[Evidence, ChangePlan], Iterator[Gate]], ...] = (
    accuracy_gates,
    sensitivity_gates,
    missed_tumor_gates,
    _calibration,
    _coverage,
    _set_size,
    localisation_gates,
    _unfamiliar,
    unfamiliar_local,
    _other_hospital,
    _cost,
    _overlap,
    _engine,
)
