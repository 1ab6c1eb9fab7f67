"""What the page of the plan shows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ml.errors import InvalidConfiguration
from ml.release.change_plan import ChangePlan, parse_plan_of_change
from webapp.plans import words
from webapp.plans.holding import Fault, HeldPlan, holding, shipped_plan
from webapp.plans.models import PlanVerdict, PlanVersion
from webapp.plans.operations import next_number
from webapp.plans.queries import list_plans


@dataclass(frozen=True)
class PlanRow:
    """A proposed plan, whatever became of it.

    Attributes:
        changes: beside the plan that held before it; None where its text cannot be read any more.
    """

    plan: PlanVersion
    changes: Sequence[words.Change] | None

    @property
    def is_open(self) -> bool:
        """Whether it waits for a second person."""
        return self.plan.decision is None


@dataclass(frozen=True)
class PlansPage:
    """The plan that holds in words, and all others, newest first."""

    held: HeldPlan
    faults: Sequence[Fault]
    modes: Sequence[str]
    data: Sequence[tuple[str, str]]
    gates: Sequence[words.GateRow]
    rows: Sequence[PlanRow]
    number: int

    @property
    def proposed(self) -> PlanRow | None:
        """The one that waits for a second person."""
        return next((row for row in self.rows if row.is_open), None)


def plans_page() -> PlansPage:
    """All of it for the organisation acted for."""
    found = holding()
    plan = found.held.plan
    return PlansPage(
        held=found.held,
        faults=found.faults,
        modes=words.modes_of(plan),
        data=words.data_rows(plan),
        gates=words.gate_rows(plan),
        rows=_rows(found.held),
        number=next_number(),
    )


def next_text(text: str) -> str:
    """The text of a plan with the next version, to be edited."""
    return re.sub(r"(?m)^version\s*=\s*\d+", f"version = {next_number()}", text, count=1)


def _rows(held: HeldPlan) -> list[PlanRow]:
    """Each beside the plan that was confirmed last before it; the open one beside what holds."""
    rows: list[PlanRow] = []
    before = shipped_plan().plan
    for one in reversed(list_plans()):
        read = _read(one)
        against = held.plan if one.decision is None else before
        rows.append(PlanRow(one, None if read is None else words.changes(against, read)))
        confirmed = one.decision is not None and one.decision.verdict is PlanVerdict.CONFIRMED
        if confirmed and read is not None:
            before = read
    return rows[::-1]


def _read(plan: PlanVersion) -> ChangePlan | None:
    try:
        return parse_plan_of_change(plan.text, where=f"plan {plan.number}").plan
    except InvalidConfiguration:
        return None
