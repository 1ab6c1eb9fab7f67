"""Convert rows to the API's JSON."""

import uuid
from collections import Counter
from dataclasses import asdict
from typing import Any

from flask import url_for
from flask_babel import gettext as _
from sqlalchemy import Row

from webapp.corrections.operations import version_of
from webapp.inference.results import (
    StudyResult,
    earlier_analyses,
    model_of,
    result_of,
    result_of_analysis,
)
from webapp.intake.submission import Submission
from webapp.models_admin.models import ModelVersion
from webapp.review.export import AssessmentLine
from webapp.review.models import Assessment
from webapp.studies.models import Analysis, Series, Study
from webapp.studies.queries import current_predictions, list_images
from webapp.wording import FILE_PROBLEMS, REASONS, order_note, word
from webapp.worklist.queries import StudyRow

Json = dict[str, Any]
Columns = Row[*tuple[Any, ...]]


def notice() -> str:
    """The disclaimer in every response with a result."""
    return str(_("Research software. Not a certified medical device; not for diagnosis."))


def accepted(study: Study) -> Json:
    """A study that was accepted."""
    return {"id": study.id, "status": study.status, "links": _links(study)}


def submitted(submission: Submission) -> Json:
    """The outcome of an upload."""
    return accepted(submission.study) | {
        "studies": [
            accepted(study) | {"patient_code": study.patient.code, "label": label}
            for study, label in zip(submission.studies, submission.labels, strict=True)
        ],
        "already_known": [
            {
                "study_id": known.study.id,
                "matching": len(known.members),
                "links": _links(known.study),
            }
            for known in submission.already_known
        ],
        "left_out": [
            {"name": name, "code": code, "reason": str(word(FILE_PROBLEMS, code))}
            for name, code in submission.left_out
        ],
        "notes": submission.notes,
    }


def summary(row: StudyRow) -> Json:
    """A study in a list."""
    progress = {"done": row.images_done, "total": row.image_count}
    return _facts(row.study) | {"progress": progress, "result": _result(row.result)}


def full(study: Study) -> Json:
    """A study with its images and results."""
    images, predictions = list_images(study), current_predictions(study)
    counts = Counter(image.series_id for image in images)
    links = _ImageLinks()
    found = result_of(study)
    model = model_of(study)
    result = _result(found)
    if found is not None and result is not None:
        result["key_images"] = found.key_images
        result["contradicting_images"] = list(found.contradicting)
        result["in_distribution_share"] = found.in_distribution_share
        result["mode"] = found.mode
    analysis = study.current_analysis
    return _facts(study) | {
        "progress": {"done": analysis.images_done if analysis else 0, "total": len(images)},
        "series": [_series(series, counts[series.id]) for series in study.series],
        "images": [_image(image, predictions.get(image.id), model, links) for image in images],
        "result": result,
        "analysis": _analysis(analysis) if analysis else None,
        "earlier_analyses": [
            _analysis(one) | {"result": _result(result_of_analysis(one))}
            for one in earlier_analyses(study)
        ],
        "notice": notice(),
    }


def _analysis(analysis: Analysis) -> Json:
    model = analysis.model_version
    return {
        "id": analysis.id,
        "number": analysis.number,
        "status": analysis.status,
        "images": analysis.images_total,
        "created_at": analysis.created_at,
        "finished_at": analysis.finished_at,
        "model": {"name": model.name, "sha256": model.sha256} if model else None,
    }


def assessment(one: Assessment) -> Json:
    """One reader's assessment."""
    links = None
    if one.image_id is not None:
        heated = one.prediction is not None and one.prediction.heatmap_key is not None
        links = _ImageLinks().of(one.image_id, heated=heated)
    return asdict(AssessmentLine.of(one)) | {"id": one.id, "links": links}


def page(items: list[Json], next_cursor: str | None, *, endpoint: str, query: Json) -> Json:
    """One page of a list, with the links to itself and to the next."""
    kept = {name: value for name, value in query.items() if value}
    onward = url_for(endpoint, **{**kept, "cursor": next_cursor}) if next_cursor else None
    return {
        "items": items,
        "next_cursor": next_cursor,
        "links": {"self": url_for(endpoint, **kept), "next": onward},
        "notice": notice(),
    }


def _facts(study: Study) -> Json:
    return accepted(study) | {
        "reason": _sentence(study.reason),
        "created_at": study.created_at,
        "finished_at": study.finished_at,
        "patient_code": study.patient.code,
        "description": study.description,
        "priority": study.priority,
        "version": version_of(study),
        "left_out": study.left_out,
    }


def _result(result: StudyResult | None) -> Json | None:
    if result is None:
        return None
    return {
        "analysis_id": result.analysis_id,
        "label": result.label,
        "named": result.named,
        "headline": result.headline,
        "probabilities": result.probabilities,
        "prediction_set": result.prediction_set,
        "in_distribution": result.in_distribution,
    }


def _series(series: Series, count: int) -> Json:
    return {
        "id": series.id,
        "position": series.position,
        "modality": series.modality,
        "plane": series.plane,
        "is_stack": series.is_stack,
        "is_volume": series.is_volume,
        "slice_spacing": series.slice_spacing,
        "missing": series.missing,
        "duplicates": series.duplicates,
        "slice_order": series.slice_order,
        "order_note": order_note(series.slice_order, count) or None,
    }


def _image(
    image: Columns, prediction: Columns | None, model: ModelVersion | None, links: "_ImageLinks"
) -> Json:
    """As :class:`webapp.api.answer_schemas.ImageSchema` describes."""
    heated = prediction is not None and prediction.heatmap_key is not None
    return {
        "id": image.id,
        "series_id": image.series_id,
        "position": image.position,
        "width": image.width,
        "height": image.height,
        "problem": _sentence(image.problem),
        "prediction": _prediction(prediction, model) if prediction else None,
        "links": links.of(image.id, heated=heated),
    }


def _prediction(prediction: Columns, model: ModelVersion | None) -> Json:
    return {
        "label": prediction.label,
        "probabilities": prediction.probabilities,
        "prediction_set": prediction.prediction_set,
        "in_distribution": prediction.in_distribution,
        "ood_score": prediction.ood_score,
        "quality": prediction.quality,
        "model": {"name": model.name, "sha256": model.sha256} if model else None,
    }


def _links(study: Study) -> Json:
    return {
        "self": url_for("api.get_study", study_id=study.id),
        "page": url_for("worklist.show", study_id=study.id),
    }


class _ImageLinks:
    """URLs of images. Calling ``url_for`` for each would take most of a response's time."""

    def __init__(self) -> None:
        self._any = str(uuid.UUID(int=0))
        self._pixels = url_for("api.get_pixels", image_id=self._any)
        self._heatmap = url_for("api.get_heatmap", image_id=self._any)

    def of(self, image_id: uuid.UUID, *, heated: bool) -> Json:
        own = str(image_id)
        return {
            "pixels": self._pixels.replace(self._any, own),
            "heatmap": self._heatmap.replace(self._any, own) if heated else None,
        }


def _sentence(reason: str | None) -> str | None:
    return str(word(REASONS, reason)) if reason else None
