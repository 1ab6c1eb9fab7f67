"""Data for the part of a study's page in which a reader assesses a slice."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from flask_babel import gettext as _
from sqlalchemy import select

from webapp.accounts.models import User
from webapp.database import db
from webapp.errors import NotFound
from webapp.inference.results import StudyResult, result_of_analysis
from webapp.review.forms import AssessmentForm, BlindForm
from webapp.review.queries import Assessments, assessments_of, draft_of
from webapp.studies.models import Analysis, Image, Prediction, Purpose, Status, Study
from webapp.viewer.series import ShownSeries, shown_series

Row = TypeVar("Row", Image, Analysis)


@dataclass(frozen=True)
class Panel:
    """One slice with the answer that the reader saw and the readers' assessments.

    Attributes:
        analysis: the assessed analysis.
        series: the slice's series.
        total: number of images in the study.
        result: the analysis's result for the whole study.
        begun_at: when the draft shown in the form was last changed; None without a draft.
        saved: number of slices just saved; 0 for a whole study; None if nothing was saved.
    """

    study: Study
    image: Image
    analysis: Analysis
    prediction: Prediction
    series: ShownSeries
    total: int
    result: StudyResult | None
    said: Assessments
    form: AssessmentForm
    begun_at: datetime | None = None
    saved: int | None = None

    @property
    def waits_for_confirmation(self) -> bool:
        """Whether the reader's opinion is a first one, given before the model's answer."""
        return self.said.current is not None and not self.said.current.model_shown

    @property
    def number(self) -> int:
        """Number of the slice in the study, from 1."""
        return self.image.position + 1

    @property
    def has_newer(self) -> bool:
        """Whether the study has a newer analysis."""
        return self.analysis.id != self.study.current_analysis_id

    @property
    def is_begun(self) -> bool:
        """Whether the form has unsaved values."""
        return self.begun_at is not None or bool(self.form.errors)


@dataclass(frozen=True)
class BlindPanel:
    """One slice that is read before the model's answer is shown; nothing here tells of it.

    Attributes:
        total: number of images in the study.
        begun_at: as in :class:`Panel`.
    """

    study: Study
    image: Image
    analysis_id: uuid.UUID
    total: int
    form: BlindForm
    begun_at: datetime | None = None

    @property
    def number(self) -> int:
        """Number of the slice in the study, from 1."""
        return self.image.position + 1

    @property
    def is_begun(self) -> bool:
        """Whether the form has unsaved values."""
        return self.begun_at is not None or bool(self.form.errors)


def panel_of(
    study: Study,
    position: int,
    *,
    reader: User,
    saved: int | None = None,
) -> Panel | None:
    """The panel for the slice at ``position``, filled with the reader's draft if it is for it.

    Returns:
        None if there is nothing to assess: no such slice, or no prediction for it.
    """
    draft = begun_panel(study, reader=reader)
    if draft is not None and draft.image.position == position:
        return draft
    image = db.session.scalar(
        select(Image).where(Image.study_id == study.id, Image.position == position)
    )
    if image is None or study.current_analysis is None:
        return None
    return _panel(study, image, study.current_analysis, reader=reader, saved=saved)


def begun_panel(study: Study, *, reader: User) -> Panel | None:
    """The panel with the reader's draft; None if there is no draft."""
    draft = draft_of(study.id, reader=reader)
    if draft is None:
        return None
    try:
        return panel_with(
            study, AssessmentForm.typed(draft.payload), reader=reader, begun_at=draft.updated_at
        )
    except NotFound:
        return None  # the slice of the draft is no longer in the study


def blind_panel(
    study: Study, image_id: uuid.UUID, *, reader: User, form: BlindForm | None = None
) -> BlindPanel:
    """The panel for a slice that is read blind, with a form as typed or with the reader's draft.

    Raises:
        NotFound: there is no such slice, or no analysis of it to assess.
    """
    image = db.session.scalar(select(Image).where(Image.id == image_id, Image.study_id == study.id))
    analysis = study.current_analysis
    if image is None or analysis is None or analysis.status is not Status.DONE:
        raise NotFound(_("There is nothing to assess in this study now."))
    begun_at = None
    draft = draft_of(study.id, reader=reader) if form is None else None
    if draft is not None and draft.payload.get("image_id") == str(image.id):
        form, begun_at = BlindForm.typed(draft.payload), draft.updated_at
    form = form or BlindForm.showing(None, image_id=image.id, analysis_id=analysis.id)
    form.reading.data = str(image.id)
    every = shown_series(study)
    return BlindPanel(
        study=study,
        image=image,
        analysis_id=analysis.id,
        total=sum(one.count for one in every),
        form=form,
        begun_at=begun_at,
    )


def panel_with(
    study: Study,
    form: AssessmentForm,
    *,
    reader: User,
    begun_at: datetime | None = None,
    saved: int | None = None,
) -> Panel:
    """The panel with a form as typed, for the slice and the analysis that it names.

    Raises:
        NotFound: the study has no such slice or analysis, or no prediction for it.
    """
    image = _found(Image, form.image_id.data, study)
    analysis = _found(Analysis, form.analysis_id.data, study)
    if analysis.purpose is not Purpose.SERVING:
        raise NotFound("no analysis that was shown")
    panel = _panel(study, image, analysis, reader=reader, form=form, begun_at=begun_at, saved=saved)
    if panel is None:
        raise NotFound("nothing to assess")
    return panel


def _panel(
    study: Study,
    image: Image,
    analysis: Analysis,
    *,
    reader: User,
    form: AssessmentForm | None = None,
    begun_at: datetime | None = None,
    saved: int | None = None,
) -> Panel | None:
    prediction = db.session.scalar(
        select(Prediction).where(
            Prediction.analysis_id == analysis.id, Prediction.image_id == image.id
        )
    )
    if prediction is None or analysis.status is not Status.DONE:
        return None
    every = shown_series(study)
    said = assessments_of(study.id, image.id, reader=reader)
    return Panel(
        study=study,
        image=image,
        analysis=analysis,
        prediction=prediction,
        series=next(one for one in every if one.holds(image.position)),
        total=sum(one.count for one in every),
        result=result_of_analysis(analysis),
        said=said,
        form=form
        or AssessmentForm.showing(said.current, image_id=image.id, analysis_id=analysis.id),
        begun_at=begun_at,
        saved=saved,
    )


def _found(kind: type[Row], text: str | None, study: Study) -> Row:
    try:
        identifier = uuid.UUID(text or "")
    except ValueError as error:
        raise NotFound("no identifier") from error
    row = db.session.scalar(select(kind).where(kind.id == identifier, kind.study_id == study.id))
    if row is None:
        raise NotFound("no such row")
    return row
