"""What is said about a study. Everything that says it reads it here: pages, lists, reports, API.

The current analysis owns the answer (docs/decisions/0025). While a newer analysis waits or
works, a study has no answer; what earlier analyses said stays readable, and is called earlier.
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
    """The answer of one analysis about its study.

    Attributes:
        number: of the analysis, from 1 inside the study.
        images: number of images that it is of.
        label: what the study is called.
        named: every class that the headline names: ``label`` first, then whatever else is not
            ruled out, likeliest first.
        probability: of ``label``; None where the headline names several classes, images suggest
            different tumours, or the study is unlike what the model was trained on. Then no one
            number stands for it.
        probabilities: class -> calibrated probability, of the first key image.
        prediction_set: classes that are not ruled out; empty where none fits well.
        key_images: those that stand for the study, the most telling first.
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
        """Whether the study looks like the brain MRI that the model was trained on."""
        share = self.in_distribution_share
        return self.in_distribution and (share is None or share >= 0.5)

    @property
    def is_certain(self) -> bool:
        """Whether one class alone is named, and nothing speaks against it."""
        return len(self.prediction_set) == 1 and len(self.named) == 1 and not self.contradicting

    @property
    def headline(self) -> str:
        """What the study is called, in words: every class that is not ruled out."""
        return headline(self.named)

    @property
    def doubt(self) -> str:
        """What the model is not certain of, as a sentence."""
        return doubt_sentence(
            self.label,
            self.prediction_set,
            self.probabilities,
            against=tuple(dict.fromkeys(self.contradicting.values())),
        )


def result_of(study: Study) -> StudyResult | None:
    """What is said about the study now: the answer of its current analysis, None without one."""
    return result_of_analysis(study.current_analysis) if study.current_analysis else None


def result_of_analysis(analysis: Analysis) -> StudyResult | None:
    """The answer of any analysis; None where it has none."""
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
    """The model that gave the study's answer."""
    return study.current_analysis.model_version if study.current_analysis else None


def earlier_analyses(study: Study) -> Sequence[Analysis]:
    """Those that answered before the current one, the latest first."""
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
    """Classes in words. "No tumour" is worded as what was looked for: the model knows no more."""
    if tuple(named) == (NO_TUMOR,):
        return str(_("No glioma, meningioma or pituitary tumour found"))
    return either(named)


def short_headline(named: Sequence[str]) -> str:
    """The same where there is little room, as in a line of a list."""
    if tuple(named) == (NO_TUMOR,):
        return str(_("None of the three tumours found"))
    return either(named)


def named_classes(label: str, possible: Sequence[str]) -> tuple[str, ...]:
    """The classes that a headline names, of a study or of one slice.

    ``label`` first, then whatever else is not ruled out; "no tumour" last among these.
    """
    others = [one for one in dict.fromkeys(possible) if one != label]
    return (
        label,
        *(one for one in others if one != NO_TUMOR),
        *([NO_TUMOR] * (NO_TUMOR in others)),
    )
