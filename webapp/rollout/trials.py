"""Trials: a candidate answers a share of new studies, and a rule ends it where it does worse."""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select

from ml.labels import LABELS
from webapp.database import db, now
from webapp.models_admin.models import Candidate, Deployment, DeploymentKind
from webapp.models_admin.operations import end_trial_by_rule
from webapp.models_admin.queries import deployments
from webapp.models_admin.serving import Arrival, standing, tries
from webapp.review.models import Assessment, Verdict
from webapp.rollout.statistics import fisher_greater
from webapp.studies.models import Analysis, Prediction, Purpose, Status, Study
from webapp.tenancy import acting_for, unscoped
from webapp.wording import NO_TUMOR

# The rule looks again and again, so that 5 % would end one trial in five by chance.
ALPHA = 0.01
LEAST_ASSESSED = 20  # studies of the trial that readers have assessed
MOST_FAILED = 0.01  # share of analyses
LEAST_FAILED = 2  # one failure proves nothing
MOST_MISSED = 2  # studies in which a reader found a tumour and the candidate none
_TUMOURS = [label.value for label in LABELS if label.value != NO_TUMOR]
_ENDS = (DeploymentKind.CANARY, DeploymentKind.PROMOTION, DeploymentKind.ROLLBACK)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Side:
    """What came of the studies that one of the two models answered, counted in studies.

    Attributes:
        assessed: with which a reader agreed or disagreed.
        overridden: of them, where a reader disagreed with the study's answer or a slice's.
    """

    answered: int = 0
    failed: int = 0
    assessed: int = 0
    overridden: int = 0


@dataclass(frozen=True)
class Figures:
    """A trial in numbers.

    Attributes:
        trial: the candidate on trial.
        incumbent: the serving model, about studies that came meanwhile.
        missed: studies in which the candidate found no tumour and a reader one.
    """

    trial: Side
    incumbent: Side
    missed: int = 0


@dataclass(frozen=True)
class Trial:
    """A trial, and the deployment that ended it."""

    row: Deployment
    end: Deployment | None

    @property
    def until(self) -> datetime:
        """When it ended, or now."""
        return self.end.created_at if self.end else now()


def reason_to_end(found: Figures) -> str | None:
    """Why a trial has to end, in one sentence with the numbers; None while it may go on."""
    one, other = found.trial, found.incumbent
    if found.missed >= MOST_MISSED:
        return f"Readers found a tumour in {found.missed} studies that the model called no tumour."
    tried = one.answered + one.failed
    if one.failed >= LEAST_FAILED and one.failed > MOST_FAILED * tried:
        return f"The analysis of {one.failed} of {tried} studies failed."
    if one.assessed >= LEAST_ASSESSED and other.assessed:
        p = fisher_greater(one.overridden, one.assessed, other.overridden, other.assessed)
        if p < ALPHA:
            return (
                f"Readers disagreed about {one.overridden} of {one.assessed} studies, and about "
                f"{other.overridden} of {other.assessed} of the serving model (Fisher's exact "
                f"test, one-sided, p = {p:.2g})."
            )
    return None


def check_trials() -> list[uuid.UUID]:
    """End trials where the rule demands it; called by housekeeping.

    Returns:
        The deployments that ended one.
    """
    with unscoped():
        owners = db.session.scalars(
            select(Deployment.organisation_id)
            .where(Deployment.kind == DeploymentKind.CANARY)
            .distinct()
        ).all()
        db.session.rollback()
    ended = []
    for owner in owners:
        with acting_for(owner):
            canary = standing(deployments()).canary
            reason = reason_to_end(figures(Trial(canary, None))) if canary else None
            if canary is not None and reason is not None:
                _log.warning("trial %s is ended by rule: %s", canary.id, reason)
                row = end_trial_by_rule(canary.id, reason=reason)
                ended += [row.id] if row else []
            db.session.rollback()
    return ended


def trials_of(candidate: Candidate) -> list[Trial]:
    """The candidate's trials, newest first."""
    found, later = [], None
    for row in deployments():  # newest first
        if row.kind is DeploymentKind.CANARY and row.candidate_id == candidate.id:
            found.append(Trial(row, later))
        if row.kind in _ENDS:
            later = row
    return found


def figures(trial: Trial) -> Figures:
    """What has come of the studies since the trial began, until its end."""
    row = trial.row
    candidate = row.candidate
    if candidate is None:
        raise ValueError(f"deployment {row.id} names no model")
    is_trial = Analysis.model_version_id == candidate.model_version_id
    failed = _failed(trial)
    return Figures(
        trial=_side(trial, is_trial, failed.count(True)),
        incumbent=_side(trial, ~is_trial, failed.count(False)),
        missed=_count(trial, is_trial, _missed()),
    )


def _side(trial: Trial, which: ColumnElement[bool], failed: int) -> Side:
    said = Assessment.verdict.in_([Verdict.AGREE, Verdict.DISAGREE])
    return Side(
        answered=db.session.scalar(
            select(func.count(Analysis.study_id.distinct())).where(
                _in_time(trial), Analysis.status == Status.DONE, which
            )
        )
        or 0,
        failed=failed,
        assessed=_count(trial, which, said),
        overridden=_count(trial, which, Assessment.verdict == Verdict.DISAGREE),
    )


def _count(trial: Trial, which: ColumnElement[bool], said: ColumnElement[bool]) -> int:
    """Studies about whose analysis a reader now says this."""
    found = (
        select(func.count(Analysis.study_id.distinct()))
        .join(Assessment, Assessment.analysis_id == Analysis.id)
        .outerjoin(Prediction, Prediction.id == Assessment.prediction_id)
        .where(_in_time(trial), which, Assessment.superseded_at.is_(None), said)
    )
    return db.session.scalar(found) or 0


def _missed() -> ColumnElement[bool]:
    called = func.coalesce(Prediction.label, Analysis.label)
    return and_(
        Assessment.verdict == Verdict.DISAGREE,
        Assessment.label.in_(_TUMOURS),
        called == NO_TUMOR,
    )


def _failed(trial: Trial) -> Sequence[bool]:
    """Of each study whose analysis failed, whether it fell to the candidate."""
    rows = db.session.execute(
        select(Study.id, Study.created_at)
        .join(Analysis, Analysis.id == Study.current_analysis_id)
        .where(_in_time(trial), Analysis.status == Status.FAILED)
    )
    return [tries(trial.row, Arrival(study_id, since)) for study_id, since in rows]


def _in_time(trial: Trial) -> ColumnElement[bool]:
    """Analyses for serving of studies that came during the trial."""
    came = select(Study.id).where(
        Study.created_at >= trial.row.created_at, Study.created_at < trial.until
    )
    return and_(Analysis.purpose == Purpose.SERVING, Analysis.study_id.in_(came))
