"""The result of a study, the single source for pages, lists, reports and the API.

The current analysis owns the answer (docs/decisions/0025). While a newer analysis is queued or
running, a study has no answer; results of earlier analyses stay readable, marked as earlier.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from webapp.database import db
from webapp.models_admin.models import ModelVersion
from webapp.studies.models import Analysis, Mode, Purpose, Status, Study
from webapp.wording import NO_TUMOR, doubt_sentence, either


@dataclass(frozen=True)
class StudyResult:
    """The result of one analysis of a study.

    Attributes:
        number: of the analysis within the study, from 1.
        images: number of images analysed.
        label: the class given as the answer.
        named: every class in the headline: ``label`` first, then the others that are not ruled
            out, likeliest first.
        probability: of ``label``; None if the headline names several classes, if images suggest
            different tumours, or if the study is unlike the training data. No single number
            describes the result then.
        probabilities: class -> calibrated probability, of the first key image.
        prediction_set: classes that are not ruled out; empty if none fits well.
        key_images: the images that represent the study, most significant first.
        contradicting: id -> label of images that suggest another tumour.
        mode: None for analyses from before it was recorded.
    """

    analysis_id: uuid.UUID
    number: int
    images: int
    finished_at: datetime
    label: str
    named: tuple[str, ...]
    probability: float | None
    probabilities: Mapping[str, float]
    prediction_set: tuple[str, ...]
    in_distribution: bool
    in_distribution_share: float | None
    key_images: tuple[uuid.UUID, ...]
    contradicting: Mapping[uuid.UUID, str]
    mode: Mode | None

    @property
    def is_familiar(self) -> bool:
        """Whether the study resembles the brain MRI that the model was trained on."""
        share = self.in_distribution_share
        return self.in_distribution and (share is None or share >= 0.5)

    @property
    def is_certain(self) -> bool:
        """Whether exactly one class is named and no image contradicts it."""
        return len(self.prediction_set) == 1 and len(self.named) == 1 and not self.contradicting

    @property
    def headline(self) -> str:
        """The result in words: every class that is not ruled out."""
        return headline(self.named)

    @property
    def doubt(self) -> str:
        """The model's uncertainty as a sentence."""
        return doubt_sentence(
            self.label,
            self.prediction_set,
            self.probabilities,
            against=tuple(dict.fromkeys(self.contradicting.values())),
        )


def result_of(study: Study) -> StudyResult | None:
    """The result of the study's current analysis, or None."""
    return result_of_analysis(study.current_analysis) if study.current_analysis else None


def result_of_analysis(analysis: Analysis) -> StudyResult | None:
    """The result of an analysis, or None if it has none."""
    if (
        analysis.status is not Status.DONE
        or analysis.label is None
        or analysis.probabilities is None
        or analysis.finished_at is None
    ):
        return None
    possible = tuple(analysis.prediction_set or ())
    contradicting = {
        uuid.UUID(one): label for one, label in (analysis.contradicting_images or {}).items()
    }
    familiar = analysis.in_distribution is not False
    named = named_classes(analysis.label, (*possible, *contradicting.values()))
    single = len(named) == 1 and not contradicting and familiar
    return StudyResult(
        analysis_id=analysis.id,
        number=analysis.number,
        images=analysis.images_total,
        finished_at=analysis.finished_at,
        label=analysis.label,
        named=named,
        probability=analysis.probabilities[analysis.label] if single else None,
        probabilities=dict(analysis.probabilities),
        prediction_set=possible,
        in_distribution=familiar,
        in_distribution_share=analysis.in_distribution_share,
        key_images=tuple(uuid.UUID(one) for one in analysis.key_image_ids or ()),
        contradicting=contradicting,
        mode=analysis.mode,
    )


def model_of(study: Study) -> ModelVersion | None:
    """The model of the study's current analysis."""
    return study.current_analysis.model_version if study.current_analysis else None


def earlier_analyses(study: Study) -> Sequence[Analysis]:
    """Completed analyses before the current one, latest first."""
    return db.session.scalars(
        select(Analysis)
        .where(
            Analysis.study_id == study.id,
            Analysis.purpose == Purpose.SERVING,
            Analysis.status == Status.DONE,
            Analysis.id != study.current_analysis_id,
        )
        .order_by(Analysis.number.desc())
        .options(
            joinedload(Analysis.model_version).load_only(ModelVersion.name, ModelVersion.sha256)
        )
    ).all()


def headline(named: Sequence[str]) -> str:
    """Classes in words. "No tumour" names the classes looked for: the model knows no others."""
    if tuple(named) == (NO_TUMOR,):
        return str(_("No glioma, meningioma or pituitary tumour found"))
    return either(named)


def short_headline(named: Sequence[str]) -> str:
    """A shorter headline, for example for lists."""
    if tuple(named) == (NO_TUMOR,):
        return str(_("None of the three tumours found"))
    return either(named)


def named_classes(label: str, possible: Sequence[str]) -> tuple[str, ...]:
    """The classes that a headline names, for a study or a slice.

    ``label`` first, then the others that are not ruled out, with "no tumour" last.
    """
    others = [one for one in dict.fromkeys(possible) if one != label]
    return (
        label,
        *(one for one in others if one != NO_TUMOR),
        *([NO_TUMOR] * (NO_TUMOR in others)),
    )
