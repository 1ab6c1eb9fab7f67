"""Read-only queries on studies and images."""

import uuid
from collections.abc import Sequence
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.orm import selectinload

from webapp.database import db
from webapp.errors import NotFound
from webapp.studies.models import Image, Prediction, Status, Study


def find_study(study_id: uuid.UUID) -> Study:
    """The study of the current organisation; raises :class:`NotFound`."""
    study = db.session.scalar(select(Study).where(Study.id == study_id))
    if study is None:
        raise NotFound(_("There is no such study."))
    return study


def find_image(image_id: uuid.UUID) -> Image:
    """The image of the current organisation; raises :class:`NotFound`."""
    image = db.session.scalar(select(Image).where(Image.id == image_id))
    if image is None:
        raise NotFound(_("There is no such image."))
    return image


def image_counts(study_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Number of images of each study."""
    found = db.session.execute(
        select(Image.study_id, func.count())
        .where(Image.study_id.in_(study_ids))
        .group_by(Image.study_id)
    )
    return dict(found.all())


def images_of(study: Study) -> list[Image]:
    """All images in order, with the predictions of the current analysis."""
    return list(
        db.session.scalars(
            select(Image)
            .where(Image.study_id == study.id)
            .order_by(Image.position)
            .options(selectinload(Image.predictions.and_(_is_current(study))))
            # The worker writes concurrently; objects in the session may be stale.
            .execution_options(populate_existing=True)
        )
    )


def list_images(study: Study) -> Sequence[Row[*tuple[Any, ...]]]:
    """The columns that the API needs of each image of a study, in order.

    A series has hundreds of images, and clients poll until it is done; mapped objects would take
    several times as long.
    """
    return db.session.execute(
        select(Image.id, Image.series_id, Image.position, Image.width, Image.height, Image.problem)
        .where(Image.study_id == study.id)
        .order_by(Image.position)
    ).all()


def current_predictions(study: Study) -> dict[uuid.UUID, Row[*tuple[Any, ...]]]:
    """The current analysis's predictions as columns, by image id; empty until it is done."""
    if study.status is not Status.DONE:
        return {}
    found = db.session.execute(
        select(
            Prediction.image_id,
            Prediction.label,
            Prediction.probabilities,
            Prediction.prediction_set,
            Prediction.in_distribution,
            Prediction.ood_score,
            Prediction.quality,
            Prediction.heatmap_key,
        ).where(_is_current(study))
    )
    return {row.image_id: row for row in found}


def _is_current(study: Study) -> ColumnElement[bool]:
    return Prediction.analysis_id == study.current_analysis_id
