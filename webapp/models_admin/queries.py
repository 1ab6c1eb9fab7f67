"""What pages, API and worker read about models. Nothing here changes anything."""

import uuid
from collections.abc import Sequence

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from webapp.audit import AuditEvent
from webapp.database import db
from webapp.errors import NotFound
from webapp.models_admin.models import Candidate, Deployment

_MOST_REFUSALS = 20


def candidates() -> Sequence[Candidate]:
    """Those of the organisation acted for, newest first."""
    return db.session.scalars(
        select(Candidate)
        .order_by(Candidate.created_at.desc(), Candidate.id)
        .options(
            selectinload(Candidate.gate_runs),
            selectinload(Candidate.proposals),
            joinedload(Candidate.registered_by),
        )
    ).all()


def find_candidate(candidate_id: uuid.UUID) -> Candidate:
    """One candidate, by its own id or by that of its model.

    Raises:
        NotFound: the organisation acted for has none.
    """
    found = db.session.scalar(
        select(Candidate).where(
            (Candidate.id == candidate_id) | (Candidate.model_version_id == candidate_id)
        )
    )
    if found is None:
        raise NotFound(_("There is no such model."))
    return found


def deployments() -> Sequence[Deployment]:
    """Which model served from when on, newest first."""
    return db.session.scalars(
        select(Deployment)
        .order_by(Deployment.number.desc())
        .options(
            joinedload(Deployment.candidate).selectinload(Candidate.files),
            joinedload(Deployment.gate_run),
        )
        .execution_options(populate_existing=True)
    ).all()


def newest_deployment() -> Deployment | None:
    """The row with the highest number."""
    return db.session.scalar(select(Deployment).order_by(Deployment.number.desc()).limit(1))


def refusals() -> Sequence[AuditEvent]:
    """Deployments that a worker refused to follow, newest first."""
    return db.session.scalars(
        select(AuditEvent)
        .where(AuditEvent.action == "refuse_model")
        .order_by(AuditEvent.created_at.desc())
        .limit(_MOST_REFUSALS)
    ).all()
