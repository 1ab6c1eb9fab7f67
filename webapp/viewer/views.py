"""Endpoints for slices, heatmaps and volumes."""

import uuid

from flask import (
    Blueprint,
    jsonify,
)
from flask.typing import ResponseReturnValue

from webapp.studies.queries import find_image, find_study
from webapp.viewer import pictures, stack, volumes
from webapp.viewer.series import find_series

blueprint = Blueprint("viewer", __name__)


@blueprint.get("/studies/<uuid:study_id>/stack")
def slices(study_id: uuid.UUID) -> ResponseReturnValue:
    """All slices of a study as JSON, for the viewer's script."""
    return jsonify(stack.read_stack(find_study(study_id)))


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
    return pictures.heatmap(find_image(image_id))


@blueprint.get("/series/<uuid:series_id>/volume.nii")
def volume(series_id: uuid.UUID) -> ResponseReturnValue:
    """A series as a NIfTI volume."""
    return volumes.volume(find_series(series_id))


@blueprint.get("/series/<uuid:series_id>/heatmap.nii.gz")
def heatmap_volume(series_id: uuid.UUID) -> ResponseReturnValue:
    """The heatmaps of a series, to overlay on its volume."""
    return volumes.heatmap_volume(find_series(series_id))
