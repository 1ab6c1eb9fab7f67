"""Endpoints for slices, heatmaps and volumes."""

import uuid

from flask import (
    Blueprint,
    jsonify,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webapp.accounts.access import actor
from webapp.errors import NotAllowed
from webapp.studies.queries import find_image, find_study
from webapp.studies.sight import blind_slice, note_answer_shown
from webapp.viewer import pictures, stack, volumes
from webapp.viewer.series import find_series

blueprint = Blueprint("viewer", __name__)


@blueprint.get("/studies/<uuid:study_id>/stack")
def slices(study_id: uuid.UUID) -> ResponseReturnValue:
    """All slices of a study as JSON, for the viewer's script; without answers where read blind."""
    study = find_study(study_id)
    if blind_slice(actor().id, study.id) is not None:
        return jsonify(stack.read_stack(study, without_answers=True))
    note_answer_shown(actor().id, study)
    return jsonify(stack.read_stack(study))


@blueprint.get("/images/<uuid:image_id>/pixels")
def pixels(image_id: uuid.UUID) -> ResponseReturnValue:
    """A slice as an 8-bit PNG."""
    return pictures.slice_for_display(find_image(image_id))


@blueprint.get("/images/<uuid:image_id>/values")
def values(image_id: uuid.UUID) -> ResponseReturnValue:
    """The grey values of a slice, for windowing in the browser."""
    return volumes.slice_values(find_image(image_id))


@blueprint.get("/images/<uuid:image_id>/heatmap")
def heatmap(image_id: uuid.UUID) -> ResponseReturnValue:
    """The heatmap to overlay on the slice."""
    image = find_image(image_id)
    _refuse_while_blind(image.study_id)
    return pictures.heatmap(image)


@blueprint.get("/series/<uuid:series_id>/volume.nii")
def volume(series_id: uuid.UUID) -> ResponseReturnValue:
    """A series as a NIfTI volume."""
    return volumes.volume(find_series(series_id))


@blueprint.get("/series/<uuid:series_id>/heatmap.nii.gz")
def heatmap_volume(series_id: uuid.UUID) -> ResponseReturnValue:
    """The heatmaps of a series, to overlay on its volume."""
    series = find_series(series_id)
    _refuse_while_blind(series.study_id)
    return volumes.heatmap_volume(series)


def _refuse_while_blind(study_id: uuid.UUID) -> None:
    if blind_slice(actor().id, study_id) is not None:
        raise NotAllowed(_("You read this study before the model’s answer is shown."))
