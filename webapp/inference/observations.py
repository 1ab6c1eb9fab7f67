"""What is kept of each classified slice to watch for drift, beside its prediction."""

import uuid
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ForeignKey, Index, LargeBinary, delete
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ml.serving.observation import pack
from webapp.database import Base, Identifier, Timestamped, db, now
from webapp.inference.claims import Claim, NewPrediction
from webapp.studies.models import Analysis, Image
from webapp.tenancy import OrganisationOwned, unscoped

KEPT = timedelta(days=400)  # a year beside the same month of the year before


class SliceObservation(Timestamped, OrganisationOwned, Base):
    """Figures of one slice at its analysis; deleted with the study.

    Attributes:
        stands_for_study: the one slice of its study that is compared. Slices of a study resemble
            one another, and tests take observations for independent.
        figures: :data:`ml.serving.observation.STATISTICS`, packed.
    """

    __tablename__ = "slice_observation"
    __table_args__ = (
        Index("ix_slice_observation_window", "organisation_id", "stands_for_study", "created_at"),
        Index("ix_slice_observation_age", "created_at"),
    )

    id: Mapped[Identifier]
    analysis_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), index=True
    )
    image_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    stands_for_study: Mapped[bool] = mapped_column(default=False)
    figures: Mapped[bytes] = mapped_column(LargeBinary)

    analysis: Mapped[Analysis] = relationship()
    image: Mapped[Image] = relationship()


def keep_observations(claim: Claim, answers: Sequence[NewPrediction]) -> None:
    """Add a row for each slice that was observed, in the transaction of its prediction.

    Which slice stands for the study is left to chance: its id is random.
    """
    observed = [one for one in answers if one.image_statistics is not None]
    chosen = min((one.image_id for one in observed), default=None)
    db.session.add_all(
        SliceObservation(
            analysis_id=claim.job_id,
            image_id=one.image_id,
            stands_for_study=one.image_id == chosen,
            figures=pack(one.observed),
        )
        for one in observed
    )


def purge_observations() -> int:
    """Delete those that are older than :data:`KEPT`; return how many."""
    with unscoped():
        found = db.session.execute(
            delete(SliceObservation).where(SliceObservation.created_at < now() - KEPT)
        )
        db.session.commit()
        return int(found.rowcount)  # type: ignore[attr-defined]
