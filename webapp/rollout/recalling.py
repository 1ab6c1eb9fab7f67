"""Recall: a promoted model answers earlier studies again, and tells where it sees them otherwise.

Housekeeping does it in idle moments, newest studies first. What a study shows stays as it is;
clinicians get the studies that changed and acknowledge them.
"""

import uuid
from collections.abc import Sequence
from datetime import timedelta

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.checks import storable
from webapp.accounts.models import Role, User
from webapp.database import db, now, one_at_a_time
from webapp.errors import Conflict, InvalidInput
from webapp.inference.analyses import request_analysis, request_comparison
from webapp.inference.results import StudyResult, result_of_analysis
from webapp.inference.sending import send_analyses
from webapp.models_admin.models import Deployment, DeploymentKind
from webapp.models_admin.queries import deployments
from webapp.models_admin.serving import Standing, standing
from webapp.rollout.models import (
    LONGEST_NOTE,
    Change,
    RecallCase,
    RecallRun,
    RecallStatus,
)
from webapp.rollout.recall_queries import find_case, find_recall
from webapp.rollout.shadowing import AT_ONCE, count_under_way, drop_waiting
from webapp.studies.models import Analysis, Purpose, Status, Study
from webapp.tenancy import acting_for, current_organisation_id, unscoped
from webapp.wording import NO_TUMOR

USUAL_AGE = timedelta(days=365)
_OPEN = (RecallStatus.RUNNING, RecallStatus.PAUSED)


def change_between(before: StudyResult, after: StudyResult) -> Change | None:
    """In what a new answer differs so that somebody has to know; None if it does not."""
    if before.label == NO_TUMOR and after.label != NO_TUMOR:
        return Change.TUMOUR_FOUND
    if before.label != after.label:
        return Change.CLASS_CHANGED
    if set(after.named) - {NO_TUMOR} - set(before.named):
        return Change.LESS_RULED_OUT
    return None


def plan_recalls() -> list[uuid.UUID]:
    """Begin recalls of new promotions, and go on with those that run; called by housekeeping.

    Returns:
        The analyses that were asked for.
    """
    with unscoped():
        owners = db.session.scalars(
            select(Deployment.organisation_id)
            .where(Deployment.kind == DeploymentKind.PROMOTION)
            .distinct()
        ).all()
        db.session.rollback()
    found: list[uuid.UUID] = []
    for owner in owners:
        with acting_for(owner):
            found += _plan()
    return found


def change_recall(*, actor: User, run_id: uuid.UUID, status: RecallStatus) -> RecallRun:
    """Pause a recall, let it go on, or stop it for good.

    Raises:
        NotAllowed: the actor is no steward.
        NotFound: there is no such recall.
        Conflict: it has ended.
        InvalidInput: a recall cannot be brought into this state.
    """
    demand_role(actor, Role.STEWARD)
    if status not in {RecallStatus.RUNNING, RecallStatus.PAUSED, RecallStatus.STOPPED}:
        raise InvalidInput.of_field("status", _("A recall can be paused, resumed or stopped."))
    one_at_a_time([_recalls_of(actor.organisation_id)])
    run = find_recall(run_id)
    if run.status not in _OPEN:
        raise Conflict(_("This recall has ended."))
    run.status, run.changed_by_id = status, actor.id
    if status is RecallStatus.STOPPED:
        drop_waiting(run.candidate, Purpose.RECALL)
    audit.record("change_recall", subject=run, actor_id=actor.id, status=status.value)
    db.session.commit()
    return run


def recall_everything(*, actor: User, run_id: uuid.UUID) -> RecallRun:
    """Let a recall go on with studies older than a year, also if it has ended.

    Raises:
        NotAllowed: the actor is no steward.
        NotFound: there is no such recall.
        Conflict: its model was rolled back, or all studies are part of it already.
    """
    demand_role(actor, Role.STEWARD)
    one_at_a_time([_recalls_of(actor.organisation_id)])
    run = find_recall(run_id)
    if run.everything or run.status is RecallStatus.WITHDRAWN:
        raise Conflict(_("This recall cannot be extended."))
    run.everything, run.status, run.changed_by_id = True, RecallStatus.RUNNING, actor.id
    run.reached = None  # what was dropped when it was stopped comes as well
    audit.record("extend_recall", subject=run, actor_id=actor.id)
    db.session.commit()
    return run


def acknowledge(*, actor: User, case_id: uuid.UUID, note: str = "") -> RecallCase:
    """Note that the actor has taken notice of what the new model says.

    Raises:
        NotFound: there is no such case, or it is none of the actor's.
        Conflict: somebody has acknowledged it.
        InvalidInput: the note is too long.
    """
    text = storable(note).strip()
    if len(text) > LONGEST_NOTE:
        message = _("This may have at most %(n)d characters.", n=LONGEST_NOTE)
        raise InvalidInput.of_field("note", message)
    one_at_a_time([_recalls_of(actor.organisation_id)])
    case = find_case(case_id, reader=actor)
    if case.acknowledged_at is not None:
        raise Conflict(_("This has been acknowledged already."))
    case.acknowledged_by_id, case.acknowledged_at, case.note = actor.id, now(), text
    # Without the note, which may say something about the patient.
    audit.record("acknowledge_recall", subject=case, actor_id=actor.id, study=str(case.study_id))
    db.session.commit()
    return case


def analyse_again(*, actor: User, case_id: uuid.UUID) -> Study:
    """Analyse the study of a case with the model that serves; its answer is the study's then.

    Raises:
        NotFound: there is no such case, or it is none of the actor's.
        Conflict: the study has been analysed again since, or is being analysed.
    """
    case = find_case(case_id, reader=actor)
    refusal = Conflict(_("This study has been analysed again already."))
    if case.study.current_analysis_id != case.before_id:
        raise refusal
    try:
        analysis = request_analysis(case.study)
        audit.record("analyse_recalled", subject=case.study, actor_id=actor.id, case=str(case.id))
        db.session.commit()
    except IntegrityError as error:  # a double click: the other request was faster
        db.session.rollback()
        raise refusal from error
    send_analyses([analysis.id])
    return case.study


def note_change(analysis: Analysis) -> None:
    """Keep a case of a study that the new model sees otherwise; in the worker's transaction."""
    if analysis.purpose is not Purpose.RECALL or analysis.compared_with is None:
        return
    run = db.session.scalar(
        select(RecallRun)
        .where(
            RecallRun.candidate_id == analysis.candidate_id,
            RecallRun.status != RecallStatus.WITHDRAWN,
        )
        .order_by(RecallRun.created_at.desc())
        .limit(1)
    )
    before, after = result_of_analysis(analysis.compared_with), result_of_analysis(analysis)
    if run is None or before is None or after is None:
        return
    change = change_between(before, after)
    known = select(RecallCase.id).where(
        RecallCase.run_id == run.id, RecallCase.study_id == analysis.study_id
    )
    if change is None or db.session.scalar(known) is not None:
        return
    case = RecallCase(
        run_id=run.id,
        study_id=analysis.study_id,
        before_id=analysis.compared_with_id,
        after_id=analysis.id,
        change=change,
    )
    db.session.add(case)
    audit.record("find_recall", subject=case, change=change.value)


def _plan() -> list[uuid.UUID]:
    one_at_a_time([_recalls_of(current_organisation_id())])
    found = standing(deployments())
    _withdraw(found)
    run = _begun(found) if found.promoted and not found.is_off else None
    asked = _go_on(run) if run and run.status is RecallStatus.RUNNING else []
    db.session.commit()
    return asked


def _withdraw(found: Standing) -> None:
    """End recalls whose model was rolled back; what it said need not bother anybody."""
    holds = {row.id for row in found.promoted}
    runs = db.session.scalars(
        select(RecallRun).where(RecallRun.status != RecallStatus.WITHDRAWN)
    ).all()
    for run in runs:
        if run.deployment_id not in holds:
            run.status = RecallStatus.WITHDRAWN
            drop_waiting(run.candidate, Purpose.RECALL)
            audit.record("withdraw_recall", subject=run)
        elif run.deployment_id != found.promoted[-1].id and run.status in _OPEN:
            run.status = RecallStatus.STOPPED  # a newer model's recall takes its place
            drop_waiting(run.candidate, Purpose.RECALL)
            audit.record("stop_recall", subject=run)


def _begun(found: Standing) -> RecallRun | None:
    """The recall of the model that serves, begun if there is none."""
    row = found.promoted[-1]
    run = db.session.scalar(select(RecallRun).where(RecallRun.deployment_id == row.id))
    if run is None and row.candidate_id is not None:
        run = RecallRun(deployment_id=row.id, candidate_id=row.candidate_id)
        db.session.add(run)
        audit.record("begin_recall", subject=run)
    return run


def _go_on(run: RecallRun) -> list[uuid.UUID]:
    room = AT_ONCE - count_under_way(run.candidate, Purpose.RECALL)
    studies = _earlier_studies(run, room) if room > 0 else []
    asked = []
    for study in studies:
        asked.append(
            request_comparison(study, purpose=Purpose.RECALL, candidate_id=run.candidate_id).id
        )
        run.reached = study.created_at
        run.taken += 1
    if not studies and room == AT_ONCE:
        run.status = RecallStatus.DONE
        audit.record("finish_recall", subject=run, taken=run.taken)
    return asked


def _earlier_studies(run: RecallRun, most: int) -> Sequence[Study]:
    """Studies that another model has answered and this one has not, newest first."""
    return db.session.scalars(
        select(Study)
        .join(Analysis, Analysis.id == Study.current_analysis_id)
        .where(
            Analysis.status == Status.DONE,
            Analysis.model_version_id != run.candidate.model_version_id,
            Study.created_at <= (run.reached or now()),
            *_young_enough(run),
            ~_is_repeated(run),
        )
        .order_by(Study.created_at.desc(), Study.id)
        .limit(most)
    ).all()


def _young_enough(run: RecallRun) -> list[ColumnElement[bool]]:
    return [] if run.everything else [Study.created_at >= run.deployment.created_at - USUAL_AGE]


def _is_repeated(run: RecallRun) -> ColumnElement[bool]:
    repeated = aliased(Analysis)
    return exists().where(
        repeated.study_id == Study.id,
        repeated.purpose == Purpose.RECALL,
        repeated.candidate_id == run.candidate_id,
        repeated.compared_with_id == Study.current_analysis_id,
        repeated.status != Status.SUPERSEDED,
        # A model that was rolled back and is promoted again finds its cases anew.
        repeated.created_at >= run.created_at,
    )


def _recalls_of(organisation_id: uuid.UUID) -> str:
    return f"recalls {organisation_id}"
