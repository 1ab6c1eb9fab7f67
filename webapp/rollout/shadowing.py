"""Shadow runs: started and stopped by stewards, supplied with studies by housekeeping."""

import uuid
from datetime import timedelta

from flask_babel import gettext as _
from sqlalchemy import exists, func, select

from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.models import Role, User
from webapp.database import db, now, one_at_a_time
from webapp.errors import Conflict, InvalidInput
from webapp.inference.analyses import request_comparison
from webapp.models_admin.models import Candidate
from webapp.models_admin.queries import deployments, find_candidate
from webapp.models_admin.serving import standing
from webapp.models_admin.shares import is_in_share
from webapp.rollout.models import ShadowRun, ShadowStatus
from webapp.studies.models import Analysis, Purpose, Status, Study
from webapp.tenancy import acting_for, current_organisation_id, unscoped

MOST_STUDIES = 10_000
# Analyses of a run that wait at a time, so that stopping it stops the work as well.
AT_ONCE = 4
# What was answered just now may stand in a transaction that is not yet visible.
SETTLED_AFTER = timedelta(seconds=10)
_LOOKED_AT = 200  # studies, of which many may be outside of the share


def start_shadow(*, actor: User, candidate_id: uuid.UUID, share: int, most: int) -> ShadowRun:
    """Let a candidate answer new studies as well, beside the serving model and unseen.

    Args:
        share: per cent of the studies that come from now on.
        most: studies after which it ends.

    Raises:
        NotAllowed: the actor is no steward.
        NotFound: there is no such candidate.
        Conflict: its gates have not let it through, it serves, or another one runs.
        InvalidInput: share or number is out of range.
    """
    demand_role(actor, Role.STEWARD)
    _check(share, most)
    one_at_a_time([_shadows_of(actor.organisation_id)])
    candidate = find_candidate(candidate_id)
    if not candidate.has_passed:
        raise Conflict(_("This model has not passed the gates."))
    if _serves(candidate.id):
        raise Conflict(_("This model is already serving."))
    if running_shadow() is not None:
        raise Conflict(_("A shadow is already running. Stop it first."))
    run = ShadowRun(
        candidate_id=candidate.id, share=share, most=most, started_by_id=actor.id, reached=now()
    )
    db.session.add(run)
    audit.record("start_shadow", subject=run, actor_id=actor.id, share=share, most=most)
    db.session.commit()
    return run


def stop_shadow(*, actor: User, candidate_id: uuid.UUID) -> ShadowRun:
    """Give a candidate no further studies; what waits for it is dropped.

    Raises:
        NotAllowed: the actor is no steward.
        NotFound: there is no such candidate.
        Conflict: no shadow of it runs.
    """
    demand_role(actor, Role.STEWARD)
    one_at_a_time([_shadows_of(actor.organisation_id)])
    candidate = find_candidate(candidate_id)
    run = running_shadow()
    if run is None or run.candidate_id != candidate.id:
        raise Conflict(_("No shadow of this model is running."))
    run.status, run.ended_by_id, run.ended_at = ShadowStatus.STOPPED, actor.id, now()
    drop_waiting(candidate, Purpose.SHADOW)
    audit.record("stop_shadow", subject=run, actor_id=actor.id, taken=run.taken)
    db.session.commit()
    return run


def running_shadow() -> ShadowRun | None:
    """That of the organisation acted for."""
    return db.session.scalar(select(ShadowRun).where(ShadowRun.status == ShadowStatus.RUNNING))


def plan_shadows(*, settled_after: timedelta = SETTLED_AFTER) -> list[uuid.UUID]:
    """Ask the candidates about studies that have been answered since; called by housekeeping.

    Nothing of this happens while a study is answered, so that no shadow can disturb it.

    Returns:
        The analyses that were asked for.
    """
    with unscoped():
        owners = db.session.scalars(
            select(ShadowRun.organisation_id).where(ShadowRun.status == ShadowStatus.RUNNING)
        ).all()
        db.session.rollback()
    found: list[uuid.UUID] = []
    for owner in owners:
        with acting_for(owner):
            found += _plan(settled_after)
    return found


def _plan(settled_after: timedelta) -> list[uuid.UUID]:
    one_at_a_time([_shadows_of(current_organisation_id())])
    run = running_shadow()
    if run is None:
        db.session.rollback()
        return []
    room = AT_ONCE - count_under_way(run.candidate, Purpose.SHADOW)
    found: list[uuid.UUID] = []
    for study, answered in _answered_since(run, settled_after) if room > 0 else []:
        if run.taken >= run.most or len(found) >= room:
            break
        run.reached = answered.finished_at or run.reached
        if _is_wanted(run, study, answered):
            asked = request_comparison(study, purpose=Purpose.SHADOW, candidate_id=run.candidate_id)
            found.append(asked.id)
            run.taken += 1
    if run.taken >= run.most or _serves(run.candidate_id):
        run.status, run.ended_at = ShadowStatus.FINISHED, now()
        audit.record("finish_shadow", subject=run, taken=run.taken)
    db.session.commit()
    return found


def _serves(candidate_id: uuid.UUID) -> bool:
    promoted = standing(deployments()).promoted
    return bool(promoted) and promoted[-1].candidate_id == candidate_id


def _answered_since(run: ShadowRun, settled_after: timedelta) -> list[tuple[Study, Analysis]]:
    rows = db.session.execute(
        select(Study, Analysis)
        .join(Analysis, Analysis.id == Study.current_analysis_id)
        .where(
            Analysis.status == Status.DONE,
            Analysis.finished_at > run.reached,
            Analysis.finished_at <= now() - settled_after,
            Study.created_at >= run.created_at,
        )
        .order_by(Analysis.finished_at)
        .limit(_LOOKED_AT)
    )
    return [(study, answered) for study, answered in rows]


def _is_wanted(run: ShadowRun, study: Study, answered: Analysis) -> bool:
    if not is_in_share(study.id, run.share, of=run.id):
        return False
    if answered.model_version_id == run.candidate.model_version_id:
        return False  # a trial of the same model: there is nothing to compare
    known = exists().where(
        Analysis.study_id == study.id,
        Analysis.purpose == Purpose.SHADOW,
        Analysis.candidate_id == run.candidate_id,
        Analysis.status != Status.SUPERSEDED,
    )
    return not db.session.scalar(select(known))


def count_under_way(candidate: Candidate, purpose: Purpose) -> int:
    """Analyses by a candidate that wait or run."""
    return (
        db.session.scalar(
            select(func.count())
            .select_from(Analysis)
            .where(
                Analysis.candidate_id == candidate.id,
                Analysis.purpose == purpose,
                Analysis.status.in_([Status.QUEUED, Status.RUNNING]),
            )
        )
        or 0
    )


def drop_waiting(candidate: Candidate, purpose: Purpose) -> None:
    """End analyses by a candidate that no worker has begun, in the caller's transaction."""
    waiting = db.session.scalars(
        select(Analysis).where(
            Analysis.candidate_id == candidate.id,
            Analysis.purpose == purpose,
            Analysis.status == Status.QUEUED,
        )
    )
    for one in waiting:
        one.status, one.finished_at = Status.SUPERSEDED, now()


def _check(share: int, most: int) -> None:
    faults = {}
    if not 1 <= share <= 100:
        faults["share"] = _("Please give a share between 1 and 100 per cent.")
    if not 1 <= most <= MOST_STUDIES:
        faults["most"] = _("Please give a number between 1 and %(most)d.", most=MOST_STUDIES)
    if faults:
        raise InvalidInput.of_form({name: [sentence] for name, sentence in faults.items()})


def _shadows_of(organisation_id: uuid.UUID) -> str:
    return f"shadows {organisation_id}"
