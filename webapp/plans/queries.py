"""What pages, API and command line read about plans. Nothing here changes anything."""

import uuid
from collections.abc import Sequence

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from webapp.database import db
from webapp.errors import NotFound
from webapp.plans.models import PlanDecision, PlanVersion


def list_plans() -> Sequence[PlanVersion]:
    """All plans that were ever proposed in the organisation acted for, newest first."""
    return db.session.scalars(
        select(PlanVersion)
        .order_by(PlanVersion.number.desc())
        .options(joinedload(PlanVersion.proposed_by))
        .execution_options(populate_existing=True)
    ).all()


def find_plan(plan_id: uuid.UUID) -> PlanVersion:
    """One of the organisation acted for; raises :class:`NotFound`."""
    row = db.session.scalar(select(PlanVersion).where(PlanVersion.id == plan_id))
    if row is None:
        raise NotFound(_("There is no such plan."))
    return row


def decisions() -> Sequence[PlanDecision]:
    """All decisions of the organisation acted for, newest first."""
    return db.session.scalars(
        select(PlanDecision)
        .order_by(PlanDecision.number.desc())
        .options(joinedload(PlanDecision.plan))
        .execution_options(populate_existing=True)
    ).all()
