"""Slices, heatmaps and volumes as the browser fetches them."""

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
    """All slices of a study, for the script of the viewer."""
    return jsonify(stack.read_stack(find_study(study_id)))


@blueprint.get("/images/<uuid:image_id>/pixels")
def pixels(image_id: uuid.UUID) -> ResponseReturnValue:
    """A slice."""
    return pictures.slice_for_display(find_image(image_id))


@blueprint.get("/images/<uuid:image_id>/values")
def values(image_id: uuid.UUID) -> ResponseReturnValue:
    """The grey values of a slice, to be windowed in the browser."""
    return volumes.slice_values(find_image(image_id))


@blueprint.get("/images/<uuid:image_id>/heatmap")
def heatmap(image_id: uuid.UUID) -> ResponseReturnValue:
    """Where the model suspects something, to lay over the slice."""
    return pictures.heatmap(find_image(image_id))


@blueprint.get("/series/<uuid:series_id>/volume.nii")
def volume(series_id: uuid.UUID) -> ResponseReturnValue:
    """A series as a volume."""
    return volumes.volume(find_series(series_id))


@blueprint.get("/series/<uuid:series_id>/heatmap.nii.gz")
def heatmap_volume(series_id: uuid.UUID) -> ResponseReturnValue:
    """The heatmaps of a series, to lay over its volume."""
    return volumes.heatmap_volume(find_series(series_id))
