"""Which model serves an organisation, by its signed list of deployments."""

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ml.model_files import BUNDLED, find_model_files
from webapp import audit
from webapp.database import db
from webapp.extensions import current_settings
from webapp.models_admin.models import Candidate, Deployment, DeploymentKind, GateRun
from webapp.models_admin.queries import deployments, find_candidate
from webapp.models_admin.shares import is_in_share
from webapp.models_admin.signatures import facts_of
from webapp.signing import is_signed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrival:
    """A study that is to be answered, by its id and when it came."""

    study_id: uuid.UUID
    since: datetime


@dataclass(frozen=True)
class ServingFiles:
    """The files of a candidate, and what they have to be.

    Attributes:
        deployment_id: by which it serves; None if it is only compared.
        sha256: of the weights.
        files: name -> SHA-256 of the content, which is the key of its blob.
    """

    deployment_id: uuid.UUID | None
    candidate_id: uuid.UUID
    sha256: str
    card_name: str
    files: Mapping[str, str]


class Off:
    """No model answers."""


class FirstModel:
    """The model that the installation was started with."""


Serving = ServingFiles | Off | FirstModel
OFF, FIRST_MODEL = Off(), FirstModel()


@dataclass(frozen=True)
class Standing:
    """What the list of deployments comes to.

    Attributes:
        promoted: promotions that hold, the one that serves last; empty where the first model
            serves. Those that were rolled back are no longer among them.
        canary: the model on trial that answers a share of new studies, beside the one that serves.
        is_off: no model answers, whatever would serve.
    """

    promoted: list[Deployment]
    canary: Deployment | None
    is_off: bool


def standing(
    rows: Sequence[Deployment], on_fault: Callable[[Deployment, str], object] | None = None
) -> Standing:
    """Follow deployments; those that may not be followed are passed over.

    A rollback takes back every promotion behind the model that it names. It ends a trial, and so
    does a promotion.

    Args:
        rows: newest first, as :func:`webapp.models_admin.queries.deployments` gives them.
        on_fault: told of each row that is passed over, and why.
    """
    promoted: list[Deployment] = []
    canary: Deployment | None = None
    is_off = False
    for row in reversed(rows):
        if fault := fault_of(row):
            if on_fault is not None:
                on_fault(row, fault)
            continue
        match row.kind:
            case DeploymentKind.PROMOTION:
                promoted.append(row)
                canary = None
            case DeploymentKind.CANARY:
                canary = row
            case DeploymentKind.ROLLBACK:
                canary = None
                while promoted and promoted[-1].candidate_id != row.candidate_id:
                    promoted.pop()
            case DeploymentKind.OFF:
                is_off = True
            case DeploymentKind.ON:
                is_off = False
    return Standing(promoted, canary, is_off)


def served_times() -> dict[uuid.UUID, list[tuple[datetime, datetime | None]]]:
    """From when to when each candidate served the organisation acted for; None: it serves.

    By the deployments whose signatures hold, as the worker follows them.
    """
    found: dict[uuid.UUID, list[tuple[datetime, datetime | None]]] = {}
    rows = deployments()[::-1]
    serving: uuid.UUID | None = None
    for number, row in enumerate(rows, start=1):
        now_serving = _answering(standing(rows[:number][::-1]))
        if now_serving == serving:
            continue
        if serving is not None:
            found[serving][-1] = (found[serving][-1][0], row.created_at)
        if now_serving is not None:
            found.setdefault(now_serving, []).append((row.created_at, None))
        serving = now_serving
    return found


def _answering(found: Standing) -> uuid.UUID | None:
    """The candidate that answers; None where the first model does, or none."""
    return found.promoted[-1].candidate_id if found.promoted and not found.is_off else None


def serving_models(study: Arrival | None = None) -> Iterator[Serving]:
    """What serves the organisation acted for, then what served before it, and so on.

    If ``study`` came during a trial and is in its share, the model on trial comes first.

    Whoever cannot load one takes the next. Rows that fail their signature are passed over, and
    this is noted once; the last one is always the installation's first model. While it is switched
    off there is :class:`Off` alone.
    """
    found = standing(deployments(), on_fault=refuse)
    if found.is_off:
        yield OFF
        return
    if study is not None and found.canary is not None and tries(found.canary, study):
        yield _files(found.canary, candidate_of(found.canary))
    for row in reversed(found.promoted):
        if row.candidate is not None:
            yield _files(row, row.candidate)
    yield FIRST_MODEL


def tries(canary: Deployment, study: Arrival) -> bool:
    """Whether the model on trial answers this study."""
    if canary.share is None or study.since < canary.created_at:
        return False
    return is_in_share(study.study_id, canary.share, of=canary.id)


def candidate_of(row: Deployment) -> Candidate:
    """What the row lets serve; only asked of promotions and trials."""
    if row.candidate is None:
        raise ValueError(f"deployment {row.id} names no model")
    return row.candidate


def files_of(candidate_id: uuid.UUID) -> ServingFiles:
    """The files of a candidate that is asked without serving."""
    return _files(None, find_candidate(candidate_id))


@dataclass(frozen=True)
class Overview:
    """Which model serves the organisation acted for, and which did before.

    Attributes:
        name: of the model that serves, or would serve if it were not switched off.
        candidate_id: None for the first model.
        since: when it came to serve; None for the first model.
        deployments: all of them, newest first.
        canary: the model on trial, if there is one.
        can_go_back: another model than the first one serves, or one is on trial.
    """

    name: str
    candidate_id: uuid.UUID | None
    since: datetime | None
    is_off: bool
    deployments: Sequence[Deployment]
    canary: Deployment | None
    can_go_back: bool


def overview() -> Overview:
    """By the deployments whose signatures hold, as the worker follows them."""
    rows = deployments()
    found = standing(rows)
    serving = found.promoted[-1] if found.promoted else None
    return Overview(
        name=_name(serving),
        candidate_id=serving.candidate_id if serving else None,
        since=serving.created_at if serving else None,
        is_off=found.is_off,
        deployments=rows,
        canary=found.canary,
        can_go_back=bool(found.promoted) or found.canary is not None,
    )


def first_model_card() -> Path:
    """The card of the model that the installation was started with."""
    return current_settings().model or BUNDLED


def _name(serving: Deployment | None) -> str:
    if serving is None or serving.candidate is None:
        return find_model_files(first_model_card()).name
    return serving.candidate.model_version.name


def fault_of(row: Deployment) -> str | None:
    """Why a deployment may not be followed; None where all signatures hold."""
    if not is_signed(facts_of(row, at=row.created_at), row.signature):
        return "the deployment's signature is wrong"
    if row.candidate is None:
        return None
    if row.gate_run is None:
        return "no gate report belongs to it"
    return _fault_of_report(row.gate_run, row.candidate)


def _fault_of_report(run: GateRun, candidate: Candidate) -> str | None:
    report = run.report
    if report is None or not is_signed(report, run.signature):
        return "the gate report's signature is wrong"
    if report.get("verdict") != "pass":
        return "the gates did not let the model through"
    if run.candidate_id != candidate.id or _reported(report) != candidate.model_version.sha256:
        return "the gate report is about another model"
    return None


def refuse(row: Deployment, fault: str) -> None:
    """Note that a deployment is not followed, once for each fault of it."""
    _log.error("deployment %s (number %d) is refused: %s", row.id, row.number, fault)
    audit.note_fault("refuse_model", subject=row, fault=fault)


def refuse_files(files: ServingFiles, fault: str) -> None:
    """Note that the files of a deployment cannot be loaded."""
    if files.deployment_id is None:
        raise ValueError("the model does not serve")
    refuse(db.session.get_one(Deployment, files.deployment_id), fault)


def _files(row: Deployment | None, candidate: Candidate) -> ServingFiles:
    return ServingFiles(
        deployment_id=row.id if row else None,
        candidate_id=candidate.id,
        sha256=candidate.model_version.sha256,
        card_name=candidate.card_name,
        files={one.name: one.blob_key for one in candidate.files},
    )


def _reported(report: Mapping[str, Any]) -> str | None:
    said = report.get("candidate")
    return said.get("weights_sha256") if isinstance(said, dict) else None
