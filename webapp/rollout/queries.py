"""What pages and API read about shadow runs. Nothing here changes anything."""

from collections.abc import Sequence

from sqlalchemy import select

from webapp.database import db
from webapp.models_admin.models import Candidate
from webapp.rollout.models import ShadowRun


def shadow_runs(candidate: Candidate) -> Sequence[ShadowRun]:
    """Those of the candidate, newest first."""
    return db.session.scalars(
        select(ShadowRun)
        .where(ShadowRun.candidate_id == candidate.id)
        .order_by(ShadowRun.created_at.desc(), ShadowRun.id)
    ).all()
