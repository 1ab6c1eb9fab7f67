"""Judge a candidate beside the model that serves: every gate of the plan, and one report.

Format 1 of the report: what was judged by which hashes, each gate with its figure, 95 % interval
over patients, threshold, verdict and reason, and the verdict about all of them. A gate that could
not be measured counts as failed unless the plan lists it under ``may_be_unmeasured``.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml.dataset import content_hash
from ml.dataset.reference import BUNDLED, read_reference
from ml.dataset.snapshot import read_snapshot
from ml.registry import read_card
from ml.release.change_plan import SHIPPED, ChangePlan, read_plan_of_change
from ml.release.gate import Gate, Verdict
from ml.release.gate_checks import judge
from ml.release.gate_figures import gather

FORMAT = 1


def run_gates(
    candidate: Path,
    incumbent: Path,
    snapshot: Path,
    *,
    plan: Path = SHIPPED,
    reference: Path = BUNDLED,
    device: str = "auto",
) -> dict[str, Any]:
    """The report about a candidate.

    Args:
        candidate, incumbent: cards of models.
        snapshot: folder of what the candidate was retrained on.

    Raises:
        InvalidModel, InvalidManifest, InvalidConfiguration: something is damaged or wrong.
        UnreadableImage: a slice cannot be read or classified.
    """
    read = read_plan_of_change(plan)
    frozen, public = read_snapshot(snapshot), read_reference(reference)
    evidence = gather(
        candidate,
        incumbent,
        frozen,
        public,
        device=device,
        engine_slices=read.plan.gates.engine.slices,
    )
    gates = judge(evidence, read.plan)
    return {
        "format": FORMAT,
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "candidate": _identity(candidate),
        "incumbent": _identity(incumbent),
        "snapshot": {"id": frozen.id, "manifest_sha256": frozen.facts["manifest_sha256"]},
        "reference": {"sha256": public.sha256},
        "plan": {"version": read.plan.version, "sha256": read.sha256},
        "gates": [gate.plain() for gate in gates],
        "verdict": verdict_of(gates, read.plan),
    }


def verdict_of(gates: Sequence[Gate], plan: ChangePlan) -> Verdict:
    """``pass`` if every gate that decides anything does."""
    return "fail" if any(not _is_passed(gate, plan) for gate in gates) else "pass"


def table(report: dict[str, Any]) -> str:
    """The report in lines of text."""
    lines = [f"{one['verdict']:13}{one['name']:26}{one['reason']}" for one in report["gates"]]
    return "\n".join([*lines, "", f"verdict: {report['verdict']}"])


def _is_passed(gate: Gate, plan: ChangePlan) -> bool:
    if not gate.required or gate.verdict == "pass":
        return True
    return gate.verdict == "not_measured" and gate.name in plan.may_be_unmeasured


def _identity(card: Path) -> dict[str, str]:
    content = read_card(card)
    return {
        "name": str(content["name"]),
        "weights_sha256": str(content["weights"]["sha256"]),
        "card_sha256": content_hash(card),
    }
