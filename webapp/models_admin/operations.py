"""What can be done with models: register, test, propose, confirm, roll back, switch off and on."""

import uuid
from collections.abc import Mapping
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from ml.model_files import ModelFiles
from webapp import audit
from webapp.accounts.checks import checked_reason
from webapp.accounts.models import Role, User
from webapp.database import db, now, one_at_a_time
from webapp.errors import Conflict, InvalidInput, NotAllowed
from webapp.extensions import current_blobs
from webapp.models_admin.models import (
    LONGEST_REASON,
    Candidate,
    CandidateFile,
    Decision,
    Deployment,
    DeploymentKind,
    GateRun,
    GateStatus,
    ModelVersion,
    Proposal,
)
from webapp.models_admin.queries import deployments, find_candidate, newest_deployment
from webapp.models_admin.serving import Standing, standing
from webapp.models_admin.signatures import facts_of
from webapp.plans.holding import holding
from webapp.plans.operations import lock_of as plans_of
from webapp.queueing import send_gates
from webapp.signing import sign
from webapp.tenancy import acting_for, current_organisation_id

LEAST_SHARE = 5  # per cent of new studies that a model on trial answers
_LONGEST_NAME = 64  # characters, as the column has them
_SUFFIX = 12  # hexadecimal digits of a hash


def register_model(*, name: str, sha256: str, card: Mapping[str, Any]) -> ModelVersion:
    """Return the row of the model with this hash; the first worker that loads it adds it.

    A name stands for one file alone: where another file has it already, the beginning of the hash
    is appended, so that every answer, report and export tells which model spoke.
    """
    known = _find(sha256)
    if known is not None:
        return known
    db.session.add(ModelVersion(name=_unique(name, sha256), sha256=sha256, card=dict(card)))
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()  # another worker was faster
    found = _find(sha256)
    if found is None:
        raise LookupError(f"model version {sha256[:12]} was not kept")
    return found


def register_candidate(*, actor: User, files: ModelFiles) -> Candidate:
    """Keep a model's files as a candidate of the actor's organisation, and run the gates.

    Raises:
        NotAllowed: the actor is no steward.
        Conflict: the organisation has this candidate already.
        InvalidModel: a file cannot be read, or the weights do not fit the card.
    """
    candidate, run = add_candidate(actor=actor, files=files)
    db.session.commit()
    send_gates(run.id)
    return candidate


def add_candidate(*, actor: User, files: ModelFiles) -> tuple[Candidate, GateRun]:
    """As :func:`register_candidate`, without its commit; the caller sends the run afterwards."""
    _needs_steward(actor)
    version = register_model(name=files.name, sha256=files.sha256, card=files.card)
    with acting_for(actor.organisation_id):
        known = select(Candidate.id).where(Candidate.model_version_id == version.id)
        if db.session.scalar(known) is not None:
            raise Conflict(_("This model is already registered."))
        candidate = Candidate(
            model_version_id=version.id, card_name=files.card_name, registered_by_id=actor.id
        )
        with current_blobs().batch() as kept:
            candidate.files = [
                CandidateFile(name=name, blob_key=kept.put(content), size=len(content))
                for name, content in files.contents()
            ]
        db.session.add(candidate)
        audit.record(
            "register_candidate", subject=candidate, actor_id=actor.id, model=version.sha256[:12]
        )
        return candidate, _new_run(candidate, actor)


def run_gates(*, actor: User, candidate_id: uuid.UUID) -> GateRun:
    """Ask for another run of the gates, with the newest snapshot and the plan of today.

    Raises:
        NotAllowed: the actor is no steward.
        NotFound: there is no such candidate.
        Conflict: a run is under way, or the candidate is proposed or has served.
    """
    _needs_steward(actor)
    one_at_a_time([_models_of(actor.organisation_id)])
    candidate = find_candidate(candidate_id)
    if candidate.last_run and candidate.last_run.status in {GateStatus.QUEUED, GateStatus.RUNNING}:
        raise Conflict(_("The gates are already running."))
    if candidate.open_proposal is not None:
        raise Conflict(
            _("This model is waiting for a second person. Decide on the proposal first.")
        )
    run = _new_run(candidate, actor)
    audit.record("run_gates", subject=candidate, actor_id=actor.id, number=run.number)
    db.session.commit()
    send_gates(run.id)
    return run


def propose_model(
    *, actor: User, candidate_id: uuid.UUID, reason: str, share: int | None = None
) -> Proposal:
    """Propose that a candidate serves from now on; another person has to confirm it.

    Args:
        share: per cent of new studies that it is to answer on trial; None for all studies.

    Raises:
        NotAllowed: the actor is no steward.
        NotFound: there is no such candidate.
        Conflict: its gates have not let it through under the plan that holds, it serves already,
            a proposal is open, or a model is on trial already.
        InvalidInput: the reason is missing or too long, or the share is out of range.
    """
    _needs_steward(actor)
    why = checked_reason(reason, longest=LONGEST_REASON)
    _check_share(share)
    one_at_a_time([_models_of(actor.organisation_id), plans_of(actor.organisation_id)])
    candidate = find_candidate(candidate_id)
    run = _passed_run(candidate)
    if _serves(candidate):
        raise Conflict(_("This model is already serving."))
    if db.session.scalar(select(Proposal.id).where(Proposal.decision.is_(None))) is not None:
        raise Conflict(_("Another proposal is open. Decide on it first."))
    if share is not None and standing(deployments()).canary is not None:
        raise Conflict(_("A model is already on trial. End that trial first."))
    proposal = Proposal(
        candidate_id=candidate.id,
        gate_run_id=run.id,
        proposed_by_id=actor.id,
        reason=why,
        share=share,
    )
    db.session.add(proposal)
    audit.record(
        "propose_model",
        subject=proposal,
        actor_id=actor.id,
        model=candidate.model_version.sha256[:12],
        share=share,
    )
    db.session.commit()
    return proposal


def confirm_model(*, actor: User, candidate_id: uuid.UUID) -> Deployment:
    """Confirm the open proposal about a candidate: it serves from the next analysis on.

    Or it answers the share of new studies that was proposed, on trial.

    Raises:
        NotAllowed: the actor is no steward, or is who proposed it.
        NotFound: there is no such candidate.
        Conflict: nobody proposed it, or its newest gates have not let it through under the plan
            that holds.
    """
    proposal = _open_proposal(actor, candidate_id)
    if proposal.proposed_by_id == actor.id:
        raise NotAllowed(_("Somebody other than its proposer has to confirm the model."))
    candidate = proposal.candidate
    if _passed_run(candidate).id != proposal.gate_run_id:
        raise Conflict(_("The gates have been run again since. Please propose the model again."))
    if proposal.share is not None and standing(deployments()).canary is not None:
        raise Conflict(_("A model is already on trial. End that trial first."))
    _decide(proposal, actor, Decision.CONFIRMED)
    on_trial = proposal.share is not None
    deployment = _deploy(
        actor,
        DeploymentKind.CANARY if on_trial else DeploymentKind.PROMOTION,
        candidate=candidate,
        share=proposal.share,
        run=proposal.gate_run,
        proposed_by_id=proposal.proposed_by_id,
        reason=proposal.reason,
    )
    audit.record(
        "try_model" if on_trial else "promote_model",
        subject=deployment,
        actor_id=actor.id,
        model=candidate.model_version.sha256[:12],
    )
    db.session.commit()
    return deployment


def decline_model(*, actor: User, candidate_id: uuid.UUID) -> Proposal:
    """End the open proposal about a candidate without promoting it; the proposer may, too.

    Raises:
        NotAllowed: the actor is no steward.
        NotFound: there is no such candidate.
        Conflict: nobody proposed it.
    """
    proposal = _open_proposal(actor, candidate_id)
    _decide(proposal, actor, Decision.DECLINED)
    audit.record("decline_model", subject=proposal, actor_id=actor.id)
    db.session.commit()
    return proposal


def roll_back(*, actor: User, reason: str) -> Deployment:
    """Let what served before serve again; one person is enough, for it may be urgent.

    While a model is on trial, this ends the trial and nothing else.

    Raises:
        NotAllowed: the actor is no steward.
        Conflict: nothing served before.
        InvalidInput: the reason is missing or too long.
    """
    _needs_steward(actor)
    why = checked_reason(reason, longest=LONGEST_REASON)
    one_at_a_time([_models_of(actor.organisation_id)])
    found = standing(deployments())
    if found.canary is not None:
        deployment = _end_trial(actor, found, why)
        audit.record("end_trial", subject=deployment, actor_id=actor.id)
        db.session.commit()
        return deployment
    if not found.promoted:
        raise Conflict(_("The first model is serving; there is none to go back to."))
    before = found.promoted[-2] if len(found.promoted) > 1 else None
    deployment = _deploy(
        actor,
        DeploymentKind.ROLLBACK,
        candidate=before.candidate if before else None,
        run=before.gate_run if before else None,
        reason=why,
    )
    audit.record("roll_back_model", subject=deployment, actor_id=actor.id)
    db.session.commit()
    return deployment


def end_trial_by_rule(canary_id: uuid.UUID, *, reason: str) -> Deployment | None:
    """Let the portal itself end a trial, for the organisation acted for.

    Args:
        canary_id: the deployment that the rule is about.
        reason: one sentence, with the numbers.

    Returns:
        None if that trial has ended meanwhile.
    """
    one_at_a_time([_models_of(current_organisation_id())])
    found = standing(deployments())
    if found.canary is None or found.canary.id != canary_id:
        return None
    deployment = _end_trial(None, found, reason[:LONGEST_REASON])
    audit.record("end_trial_by_rule", subject=deployment, reason=deployment.reason)
    db.session.commit()
    return deployment


def switch_off(*, actor: User, reason: str) -> Deployment:
    """Let no model answer: studies are kept and shown.

    Raises:
        NotAllowed: the actor is no steward.
        Conflict: it is off already.
        InvalidInput: the reason is missing or too long.
    """
    _needs_steward(actor)
    why = checked_reason(reason, longest=LONGEST_REASON)
    one_at_a_time([_models_of(actor.organisation_id)])
    if standing(deployments()).is_off:
        raise Conflict(_("The model is already switched off."))
    deployment = _deploy(actor, DeploymentKind.OFF, candidate=None, run=None, reason=why)
    audit.record("switch_model_off", subject=deployment, actor_id=actor.id)
    db.session.commit()
    return deployment


def switch_on(*, actor: User) -> Deployment:
    """Let the model that served before it was switched off answer again.

    Raises:
        NotAllowed: the actor is no steward.
        Conflict: it is not off.
    """
    _needs_steward(actor)
    one_at_a_time([_models_of(actor.organisation_id)])
    found = standing(deployments())
    if not found.is_off:
        raise Conflict(_("The model is not switched off."))
    serving = found.promoted[-1] if found.promoted else None
    deployment = _deploy(
        actor,
        DeploymentKind.ON,
        candidate=serving.candidate if serving else None,
        run=serving.gate_run if serving else None,
    )
    audit.record("switch_model_on", subject=deployment, actor_id=actor.id)
    db.session.commit()
    return deployment


def _end_trial(actor: User | None, found: Standing, reason: str) -> Deployment:
    """A rollback to what serves anyway."""
    serving = found.promoted[-1] if found.promoted else None
    return _deploy(
        actor,
        DeploymentKind.ROLLBACK,
        candidate=serving.candidate if serving else None,
        run=serving.gate_run if serving else None,
        reason=reason,
    )


def _check_share(share: int | None) -> None:
    if share is not None and not LEAST_SHARE <= share <= 100:
        message = _("Please give a share between %(least)d and 100 per cent.", least=LEAST_SHARE)
        raise InvalidInput.of_field("share", message)


def _needs_steward(actor: User) -> None:
    if not actor.may(Role.STEWARD):
        raise NotAllowed(_("Only a data steward can do this."))


def _models_of(organisation_id: uuid.UUID) -> str:
    return f"models {organisation_id}"


def _new_run(candidate: Candidate, actor: User) -> GateRun:
    run = GateRun(number=len(candidate.gate_runs) + 1, requested_by_id=actor.id)
    candidate.gate_runs.append(run)
    db.session.flush()
    return run


def _passed_run(candidate: Candidate) -> GateRun:
    run = candidate.last_run
    if run is None or run.status is not GateStatus.PASSED:
        raise Conflict(_("This model has not passed the gates."))
    if _plan_of(run) != holding().held.sha256:
        raise Conflict(
            _("The plan of change has changed since the gates were run. Please run them again.")
        )
    return run


def _plan_of(run: GateRun) -> str | None:
    """The hash of the plan that the run judged by."""
    said = (run.report or {}).get("plan")
    return said.get("sha256") if isinstance(said, dict) else None


def _open_proposal(actor: User, candidate_id: uuid.UUID) -> Proposal:
    _needs_steward(actor)
    one_at_a_time([_models_of(actor.organisation_id), plans_of(actor.organisation_id)])
    proposal = find_candidate(candidate_id).open_proposal
    if proposal is None:
        raise Conflict(_("Nobody has proposed this model, or the proposal has been decided."))
    return proposal


def _decide(proposal: Proposal, actor: User, decision: Decision) -> None:
    proposal.decision, proposal.decided_by_id, proposal.decided_at = decision, actor.id, now()


def _serves(candidate: Candidate) -> bool:
    promoted = standing(deployments()).promoted
    return bool(promoted) and promoted[-1].candidate_id == candidate.id


def _deploy(
    actor: User | None,
    kind: DeploymentKind,
    *,
    candidate: Candidate | None,
    run: GateRun | None,
    proposed_by_id: uuid.UUID | None = None,
    reason: str = "",
    share: int | None = None,
) -> Deployment:
    last = newest_deployment()
    row = Deployment(
        organisation_id=current_organisation_id(),
        number=last.number + 1 if last else 1,
        kind=kind,
        candidate=candidate,
        gate_run=run,
        proposed_by_id=proposed_by_id,
        decided_by_id=actor.id if actor else None,
        share=share,
        reason=reason,
        previous_signature=last.signature if last else "",
        created_at=now(),
    )
    row.signature = sign(facts_of(row, at=row.created_at))
    db.session.add(row)
    return row


def _unique(name: str, sha256: str) -> str:
    """The name, or the name with the hash's first digits where another file has it."""
    name = name[:_LONGEST_NAME]
    taken = db.session.scalar(select(ModelVersion.id).where(ModelVersion.name == name).limit(1))
    if taken is None:
        return name
    suffix = f"-{sha256[:_SUFFIX]}"
    return name[: _LONGEST_NAME - len(suffix)] + suffix


def _find(sha256: str) -> ModelVersion | None:
    return db.session.scalar(select(ModelVersion).where(ModelVersion.sha256 == sha256))
