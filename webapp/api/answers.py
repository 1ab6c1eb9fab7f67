"""Rows as the API shows them."""

import uuid
from dataclasses import asdict
from typing import Any

from flask import url_for
from flask_babel import gettext as _
from sqlalchemy import Row

from webapp.review.export import AnswerLine
from webapp.review.models import Feedback
from webapp.studies import queries
from webapp.studies.models import Series, Study
from webapp.studies.queries import StudyRow
from webapp.studies.submission import Submission
from webapp.wording import FILE_PROBLEMS, REASONS, word

Json = dict[str, Any]
Columns = Row[*tuple[Any, ...]]


def notice() -> str:
    """What every answer with a result says."""
    return str(_("Research software. Not a certified medical device; not for diagnosis."))


def accepted(study: Study) -> Json:
    """A study that was taken in."""
    return {"id": study.id, "status": study.status, "links": _links(study)}


def submitted(submission: Submission) -> Json:
    """What came of an upload."""
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
    return _facts(row.study) | {"progress": progress, "result": _result(row.study)}


def full(study: Study) -> Json:
    """A study with its images and results."""
    job = queries.newest_jobs([study.id]).get(study.id)
    images, predictions = queries.list_images(study), queries.newest_predictions(study)
    links = _ImageLinks()
    result = _result(study)
    if result is not None:
        keys = study.key_image_ids or [str(one.id) for one in queries.view_study(study).keys]
        result["key_images"] = keys
        result["contradicting_images"] = study.dissenting_image_ids or []
        result["in_distribution_share"] = study.in_distribution_share
    return _facts(study) | {
        "progress": {"done": job.images_done if job else 0, "total": len(images)},
        "series": [_series(series) for series in study.series],
        "images": [_image(image, predictions.get(image.id), links) for image in images],
        "result": result,
        "notice": notice(),
    }


def answer(feedback: Feedback) -> Json:
    """One answer of a reader."""
    return asdict(AnswerLine.of(feedback)) | {
        "id": feedback.id,
        "links": _ImageLinks().of(
            feedback.image_id, heated=feedback.prediction.heatmap_key is not None
        ),
    }


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
        "left_out": study.left_out,
    }


def _result(study: Study) -> Json | None:
    if study.label is None:
        return None
    return {
        "label": study.label,
        "probabilities": study.probabilities,
        "prediction_set": study.prediction_set,
        "in_distribution": study.in_distribution,
    }


def _series(series: Series) -> Json:
    return {
        "id": series.id,
        "position": series.position,
        "modality": series.modality,
        "plane": series.plane,
        "is_volume": series.is_volume,
        "slice_spacing": series.slice_spacing,
        "missing": series.missing,
        "duplicates": series.duplicates,
    }


def _image(image: Columns, prediction: Columns | None, links: "_ImageLinks") -> Json:
    """As :class:`webapp.api.schemas.ImageSchema` describes it."""
    heated = prediction is not None and prediction.heatmap_key is not None
    return {
        "id": image.id,
        "series_id": image.series_id,
        "position": image.position,
        "width": image.width,
        "height": image.height,
        "problem": _sentence(image.problem),
        "prediction": _prediction(prediction) if prediction else None,
        "links": links.of(image.id, heated=heated),
    }


def _prediction(prediction: Columns) -> Json:
    return {
        "label": prediction.label,
        "probabilities": prediction.probabilities,
        "prediction_set": prediction.prediction_set,
        "in_distribution": prediction.in_distribution,
        "ood_score": prediction.ood_score,
        "quality": prediction.quality,
        "model": {"name": prediction.name, "sha256": prediction.sha256},
    }


def _links(study: Study) -> Json:
    return {
        "self": url_for("api.get_study", study_id=study.id),
        "page": url_for("studies.show", study_id=study.id),
    }


class _ImageLinks:
    """The addresses of images; building each by itself would take most of an answer's time."""

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
