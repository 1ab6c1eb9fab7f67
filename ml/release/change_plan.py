"""The plan of change: what a retraining may do, on which data, and what its candidate must pass.

A TOML file; ``plan_of_change.toml`` ships as version 1 and explains every value. The plan is made
before the model is changed, and every report names it by version and hash.
"""

import hashlib
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ml.errors import InvalidConfiguration
from ml.training.configuration import from_table, parse_toml

SHIPPED = Path(__file__).with_name("plan_of_change.toml")
MODES = ("head", "full")
LABEL_ISSUES = ("report", "leave_out")


@dataclass(frozen=True)
class DataRules:
    """What a snapshot needs to be learnt from; of its training part unless said otherwise."""

    fewest_slices: int = 50
    fewest_groups: int = 10
    fewest_groups_per_class: int = 2
    fewest_holdout_groups: int = 5
    quorum: int = 2
    single_reader: bool = False
    label_issues: str = "report"


@dataclass(frozen=True)
class Margin:
    """How much worse than the incumbent a candidate may be."""

    margin: float
    required: bool = True


@dataclass(frozen=True)
class Superiority:
    """How much better than the incumbent a candidate must be on what it was retrained for."""

    least: float = 0.0
    required: bool = True


@dataclass(frozen=True)
class CalibrationLimits:
    """How much expected calibration error and negative log-likelihood may grow."""

    ece_margin: float = 0.01
    nll_margin: float = 0.02
    required: bool = True


@dataclass(frozen=True)
class Coverage:
    """How often prediction sets must hold the true class."""

    least: float = 0.95
    margin: float = 0.02
    fewest_slices: int = 50
    required: bool = True


@dataclass(frozen=True)
class Times:
    """How many times as much as the incumbent a candidate may take."""

    most_times: float
    required: bool = True


@dataclass(frozen=True)
class Unfamiliar:
    """What of no brain MRI must be called unfamiliar, and what of brain MRI may be.

    Attributes:
        fewest_slices: of none of the classes, of the snapshot; fewer are not measured.
    """

    least_flagged: float = 0.9
    most_flagged: float = 0.03
    margin: float = 0.02
    fewest_slices: int = 20
    required: bool = True


@dataclass(frozen=True)
class EngineLimits:
    """How far the engine that serves may differ from float32."""

    same_answers: float = 0.99
    most_lost: float = 0.005
    slices: int = 200
    required: bool = True


@dataclass(frozen=True)
class GateLimits:
    """The thresholds of all gates."""

    non_inferiority: Margin = Margin(0.01)
    non_inferiority_local: Margin = Margin(0.01)
    superiority: Superiority = Superiority()
    sensitivity: Margin = Margin(0.03)
    missed_tumors: Margin = Margin(0.005)
    calibration: CalibrationLimits = CalibrationLimits()
    coverage: Coverage = Coverage()
    set_size: Times = Times(1.1)
    localisation: Margin = Margin(0.03)
    unfamiliar: Unfamiliar = Unfamiliar()
    other_hospital: Margin = Margin(0.1)
    speed: Times = Times(1.2)
    memory: Times = Times(1.2)
    engine: EngineLimits = EngineLimits()


@dataclass(frozen=True)
class ChangePlan:
    """A checked plan; see the module.

    Attributes:
        locked_groups: pseudonyms of patients that are always held out.
        may_be_unmeasured: names of gates that pass where nothing is there to measure them on.
    """

    version: int
    modes: tuple[str, ...] = MODES
    locked_groups: tuple[str, ...] = ()
    may_be_unmeasured: tuple[str, ...] = ()
    data: DataRules = field(default_factory=DataRules)
    gates: GateLimits = field(default_factory=GateLimits)


@dataclass(frozen=True)
class ReadPlan:
    """A plan with the hash of its file."""

    plan: ChangePlan
    sha256: str


def read_plan_of_change(path: Path = SHIPPED) -> ReadPlan:
    """Read a file.

    Raises:
        InvalidConfiguration: it cannot be read, or a value is wrong; the message names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error}") from error
    return parse_plan_of_change(text, where=str(path))


def parse_plan_of_change(text: str, *, where: str) -> ReadPlan:
    """Read a plan from its text, whose UTF-8 bytes are hashed.

    Args:
        where: the place in words for messages, such as the file's name.

    Raises:
        InvalidConfiguration: it is no TOML, or a value is wrong; the message names it.
    """
    plan = plan_of(parse_toml(text, where=where), where=where)
    return ReadPlan(plan, hashlib.sha256(text.encode()).hexdigest())


def plan_of(table: dict[str, Any], *, where: str) -> ChangePlan:
    """Make a plan of its tables.

    Args:
        where: the place in words for messages, such as the file's name.

    Raises:
        InvalidConfiguration: a key is unknown or missing, or a value is wrong.
    """
    plan = from_table(ChangePlan, table, where=where)
    if plan.version < 1:
        raise InvalidConfiguration(f"{where}: version is a whole number from 1.")
    if not plan.modes or set(plan.modes) - set(MODES):
        raise InvalidConfiguration(f"{where}: modes are some of {', '.join(MODES)}.")
    if plan.data.label_issues not in LABEL_ISSUES:
        raise InvalidConfiguration(
            f"{where}, data: label_issues is one of {', '.join(LABEL_ISSUES)}."
        )
    for one in fields(plan.data):
        value = getattr(plan.data, one.name)
        if type(value) is int and value < 0:
            raise InvalidConfiguration(f"{where}, data: {one.name} is below 0.")
    if plan.data.quorum < 1:
        raise InvalidConfiguration(f"{where}, data: quorum is a whole number from 1.")
    for gate in fields(plan.gates):
        _check_gate(getattr(plan.gates, gate.name), f"{where}, gates.{gate.name}")
    return plan


def _check_gate(limits: Any, where: str) -> None:
    for one in fields(limits):
        value = getattr(limits, one.name)
        if type(value) is int and value < 1:
            raise InvalidConfiguration(f"{where}: {one.name} is a whole number from 1.")
        if type(value) is not float:
            continue
        # NaN compares as false.
        if one.name == "most_times" and not 1 <= value < math.inf:
            raise InvalidConfiguration(f"{where}: most_times is a number from 1.")
        if one.name != "most_times" and not 0 <= value <= 1:
            raise InvalidConfiguration(f"{where}: {one.name} goes from 0 to 1.")
