"""What a worker gets of an analysis, and what it returns."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from ml.serving.observation import Observed, observe
from webapp.leases import Lease
from webapp.studies.models import Purpose


@dataclass(frozen=True)
class Claim(Lease):
    """An analysis that this worker may work on until the lease ends.

    Attributes:
        study_since: when the study came.
        candidate_id: the model that is asked; None where the deployments decide.
    """

    study_id: uuid.UUID
    study_since: datetime
    purpose: Purpose
    candidate_id: uuid.UUID | None
    is_urgent: bool
    asked_at: datetime
    images: tuple["ClaimedImage", ...]
    """Those that the analysis is of, in the order of the study."""

    @property
    def is_serving(self) -> bool:
        """Whether its result is the study's."""
        return self.purpose is Purpose.SERVING


@dataclass(frozen=True)
class ClaimedImage:
    """What a worker needs of an image; the fields are those of :class:`Image`.

    Attributes:
        in_stack: the slices before and after it in its series are adjacent in the head.
        place: millimetres along the normal of its stack.
    """

    id: uuid.UUID
    series_id: uuid.UUID
    in_stack: bool
    place: float | None
    plane: str | None
    blob_key: str | None
    source_key: str | None
    frame: int
    spacing: tuple[float, float] | None


@dataclass(frozen=True)
class Decoded:
    """A slice that the worker has decoded and stored as a PNG; the fields are those of Image."""

    image_id: uuid.UUID
    blob_key: str
    width: int
    height: int
    value_scale: float
    value_offset: float
    window_centre: float | None
    window_width: float | None


@dataclass(frozen=True)
class NewPrediction:
    """The model's prediction for one image, ready to be stored.

    Attributes:
        tumor_by_localisation, head_share: help to choose the key images and are not kept.
        image_statistics, features: to watch for drift (:mod:`ml.serving.observation`); None where
            nothing was observed.
    """

    image_id: uuid.UUID
    label: str
    probabilities: dict[str, float]
    prediction_set: list[str]
    in_distribution: bool
    ood_score: float
    heatmap_key: str | None
    quality: list[str]
    tumor_by_localisation: float | None = None
    head_share: float = 1.0
    image_statistics: Observed | None = None
    features: Observed | None = None

    @property
    def observed(self) -> Observed:
        """All that is kept to watch for drift; only where something was observed."""
        if self.image_statistics is None or self.features is None:
            raise ValueError("nothing was observed")
        return observe(
            self.image_statistics,
            self.features,
            ood_score=self.ood_score,
            set_size=len(self.prediction_set),
            probabilities=self.probabilities,
        )
