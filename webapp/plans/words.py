"""A plan of change as its page tells it: modes, data and gates in rows, and what has changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from ml.release.change_plan import ChangePlan
from webapp.wording import RETRAINING_MODES, word

DATA: Mapping[str, LazyString] = {
    "fewest_slices": _l("Slices to learn from, at least"),
    "fewest_groups": _l("Patients to learn from, at least"),
    "fewest_groups_per_class": _l("Patients of each diagnosis, at least"),
    "fewest_holdout_groups": _l("Patients held out, at least"),
    "quorum": _l("Independent readers who agree"),
    "single_reader": _l("One reader’s word is enough"),
    "label_issues": _l("Suspected labels"),
}
LABEL_ISSUES: Mapping[str, LazyString] = {
    "report": _l("are listed"),
    "leave_out": _l("are listed and not learnt from"),
}
LIMITS: Mapping[str, LazyString] = {
    "margin": _l("margin"),
    "least": _l("at least"),
    "ece_margin": _l("margin of the calibration error"),
    "nll_margin": _l("margin of the log-likelihood"),
    "fewest_slices": _l("slices, at least"),
    "most_times": _l("times the serving model’s, at most"),
    "least_flagged": _l("other pictures flagged, at least"),
    "most_flagged": _l("brain MRI flagged, at most"),
    "same_answers": _l("same answers, at least"),
    "most_lost": _l("accuracy lost, at most"),
    "slices": _l("slices compared"),
}


@dataclass(frozen=True)
class GateRow:
    """A gate with its thresholds, each with its word."""

    name: str
    limits: Sequence[tuple[str, str]]
    required: bool


@dataclass(frozen=True)
class Change:
    """A value that another plan has differently."""

    name: str
    before: str
    after: str


def modes_of(plan: ChangePlan) -> list[str]:
    """What may change, in words."""
    return [str(word(RETRAINING_MODES, mode)) for mode in plan.modes]


def data_rows(plan: ChangePlan) -> list[tuple[str, str]]:
    """The rules about data, each with its word."""
    return [
        (str(word(DATA, one.name)), _data_value(one.name, getattr(plan.data, one.name)))
        for one in fields(plan.data)
    ]


def gate_rows(plan: ChangePlan) -> list[GateRow]:
    """All gates with their thresholds."""
    return [_gate_row(one.name, getattr(plan.gates, one.name)) for one in fields(plan.gates)]


def changes(before: ChangePlan, after: ChangePlan) -> list[Change]:
    """What differs between two plans but for their version."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        Change(name, _value(old[name]), _value(new[name]))
        for name in new
        if name != "version" and old[name] != new[name]
    ]


def _gate_row(name: str, limits: Any) -> GateRow:
    shown = [
        (str(word(LIMITS, one.name)), _value(getattr(limits, one.name)))
        for one in fields(limits)
        if one.name != "required"
    ]
    return GateRow(name, shown, limits.required)


def _data_value(name: str, value: Any) -> str:
    if name == "label_issues":
        return str(word(LABEL_ISSUES, value))
    return _value(value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(_("yes") if value else _("no"))
    if isinstance(value, tuple):
        return ", ".join(value) or "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flat(table: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for one in fields(table):
        value = getattr(table, one.name)
        if is_dataclass(value):
            yield from _flat(value, f"{prefix}{one.name}.")
        else:
            yield f"{prefix}{one.name}", value
