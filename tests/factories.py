"""What tests need in the database, made by the portal's own operations."""

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from flask import Flask

from ml.imaging.pictures import encode_palette_png, encode_png
from ml.labels import LABELS
from webapp.accounts import operations as accounts
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.database import db, now
from webapp.inference import analyses, claims
from webapp.inference.analyses import request_analysis
from webapp.inference.telling import keep_telling_slices
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.models_admin.operations import register_model
from webapp.review.models import Verdict
from webapp.review.operations import Opinion, Subject, record_assessments
from webapp.storage import BlobStore
from webapp.studies.models import (
    Image,
    Mode,
    Patient,
    Prediction,
    Series,
    Status,
    Study,
)
from webapp.tenancy import acting_for

_DIRECTIONS = {
    "axial": ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    "coronal": ([1.0, 0.0, 0.0], [0.0, 0.0, -1.0]),
    "sagittal": ([0.0, 1.0, 0.0], [0.0, 0.0, -1.0]),
}
"""Of rows and columns in DICOM's patient system."""
SAMPLE = Path(__file__).parents[1] / "ml" / "samples" / "glioma-1.jpg"


@dataclass(frozen=True)
class Account:
    """A user as a test needs it, usable outside of any session."""

    id: uuid.UUID
    organisation_id: uuid.UUID
    email: str
    password: str
    role: Role


@dataclass(frozen=True)
class StudyIds:
    """A study, its first image, and the analysis that answered."""

    study_id: uuid.UUID
    image_id: uuid.UUID
    analysis_id: uuid.UUID


def make_account(
    app: Flask,
    role: Role = Role.CLINICIAN,
    *,
    organisation: str = "Hospital A",
    email: str | None = None,
    name: str = "",
    password: str = "correct horse staple",
) -> Account:
    """Make an account, and its organisation if it is new."""
    with app.app_context():
        user = accounts.create_user(
            email=email or f"{role.value}-{secrets.token_hex(4)}@example.org",
            password=password,
            role=role,
            name=name,
            organisation=organisation,
        )
        return Account(user.id, user.organisation_id, user.email, password, user.role)


def make_api_token(app: Flask, account: Account, name: str = "test") -> tuple[uuid.UUID, str]:
    """The id of a new token and the token itself."""
    with app.app_context():
        user = find_user_by_address(account.email)
        row, token = accounts.create_token(user=user, name=name)
        return row.id, token


def make_study(
    app: Flask,
    account: Account,
    *,
    label: str = "glioma",
    further: Sequence[str] = (),
    probability: float = 0.9,
) -> StudyIds:
    """Upload a slice and classify it as ``label``, the way the worker does but for the model.

    Args:
        further: labels of pictures that come along with it.
        probability: of each picture's label.
    """
    called = [label, *further]
    with app.app_context(), acting_for(account.organisation_id):
        user = find_user_by_address(account.email)
        files = [
            UploadedFile(f"{n}-{SAMPLE.name}", SAMPLE.read_bytes()) for n in range(len(called))
        ]
        study = submit_files(actor=user, files=files).study
        ids = StudyIds(study.id, study.images[0].id, study.analyses[0].id)
        claim = analyses.claim_analysis(study.analyses[0].id)
        assert claim is not None
        blobs: BlobStore = app.extensions["blobs"]
        others = (1 - probability) / (len(LABELS) - 1)
        answers = [
            claims.NewPrediction(
                image_id=image.id,
                label=one,
                probabilities={each: probability if each == one else others for each in LABELS},
                prediction_set=[one],
                in_distribution=True,
                ood_score=0.1,
                quality=[],
                heatmap_key=blobs.put(blobs.get(image.blob_key)),
            )
            for image, one in zip(study.images, called, strict=True)
        ]
        model = register_model(name="test", sha256="0" * 64, card={})
        analyses.finish_analysis(claim, answers=answers, problems={}, model=model, model_ms=1.0)
        return ids


@dataclass(frozen=True)
class SeriesStudyIds:
    """A study of one series, its images in order."""

    study_id: uuid.UUID
    series_id: uuid.UUID
    image_ids: list[uuid.UUID]


def phantom(slices: int) -> list[npt.NDArray[np.uint16]]:
    """A head of ellipsoids, 96 rows by 128 columns, with a bright ball right of its middle."""
    z, y, x = np.meshgrid(
        np.linspace(-1, 1, slices), np.linspace(-1, 1, 96), np.linspace(-1, 1, 128), indexing="ij"
    )
    radius = np.sqrt((x / 0.8) ** 2 + (y / 0.9) ** 2 + (z / 1.2) ** 2)
    ball = np.sqrt((x - 0.3) ** 2 + (y + 0.2) ** 2 + z**2) < 0.25
    head = np.select([ball, radius < 0.75, radius < 0.9], [900, 420 + 120 * y, 650], default=12)
    grain = np.random.default_rng(0).normal(0, 15, head.shape)
    return list(np.clip(head + grain, 0, 4095).astype(np.uint16))


def make_series_study(
    app: Flask,
    account: Account,
    *,
    slices: int = 12,
    pixels: Sequence[npt.NDArray[np.uint16]] | None = None,
    spacing: tuple[float, float] = (1.2, 1.0),
    slice_spacing: float = 5.0,
    window: tuple[float, float] | None = None,
    status: Status = Status.DONE,
    decoded: bool = True,
    code: str = "S-1",
    acquired_on: date | None = None,
    plane: str = "axial",
) -> SeriesStudyIds:
    """A study of one series, a volume, as the worker leaves it; the middle holds a tumour.

    Args:
        pixels: its slices; the phantom's without them.
        spacing: millimetres down and across.
        plane: ``axial``, ``coronal`` or ``sagittal``, as scanners lay them.
    """
    row_direction, column_direction = _DIRECTIONS[plane]
    planes = list(pixels) if pixels is not None else phantom(slices)
    normal = np.cross(row_direction, column_direction)
    done = status is Status.DONE
    with app.app_context(), acting_for(account.organisation_id):
        blobs: BlobStore = app.extensions["blobs"]
        known = db.session.query(Patient).filter_by(code=code).one_or_none()
        study = Study(
            patient=known or Patient(code=code),
            uploaded_by_id=account.id,
            acquired_on=acquired_on,
            left_out={"unreadable": 2},
        )
        series = Series(
            study=study,
            position=0,
            modality="MR",
            plane=plane,
            is_stack=True,
            is_volume=True,
            slice_spacing=slice_spacing,
            row_direction=row_direction,
            column_direction=column_direction,
        )
        series.images = [
            Image(
                study=study,
                position=number,
                blob_key=blobs.put(encode_png(plane)) if decoded else None,
                source_key="0" * 64,
                source_format="DICOM",
                width=plane.shape[1],
                height=plane.shape[0],
                row_spacing=spacing[0],
                column_spacing=spacing[1],
                origin=list(np.array([-64.0, -48.0, 0.0]) + normal * number * slice_spacing),
                value_scale=2.0,
                value_offset=-10.0,
                window_centre=window[0] if window else None,
                window_width=window[1] if window else None,
            )
            for number, plane in enumerate(planes)
        ]
        db.session.add(study)
        analysis = request_analysis(study)
        analysis.status = status
        analysis.images_done = len(planes) if done else len(planes) // 3
        if done:
            _answer(app, study, list(series.images), planes)
        ids = SeriesStudyIds(study.id, series.id, [image.id for image in series.images])
        db.session.commit()
        return ids


def finish_series_study(app: Flask, account: Account, ids: SeriesStudyIds) -> None:
    """Decode and answer a study that was made without, as the worker does in the end."""
    planes = phantom(len(ids.image_ids))
    blobs: BlobStore = app.extensions["blobs"]
    with app.app_context(), acting_for(account.organisation_id):
        study = db.session.get_one(Study, ids.study_id)
        for image, plane in zip(study.images, planes, strict=True):
            image.blob_key = blobs.put(encode_png(plane))
        _answer(app, study, study.images, planes)
        db.session.commit()


def _answer(
    app: Flask, study: Study, images: list[Image], planes: Sequence[npt.NDArray[np.uint16]]
) -> None:
    """Answers whose doubt grows with the distance from the middle; the outermost look strange."""
    model = register_model(name="test", sha256="0" * 64, card={})
    blobs: BlobStore = app.extensions["blobs"]
    middle = (len(images) - 1) / 2
    tumor = [
        float(np.exp(-(((n - middle) / max(middle, 1) / 0.4) ** 2))) for n in range(len(images))
    ]
    analysis = study.current_analysis
    assert analysis is not None
    predictions = []
    for number, image in enumerate(images):
        p = tumor[number] * 0.97
        rest = (1 - p) / 10
        predictions.append(
            Prediction(
                analysis_id=analysis.id,
                image_id=image.id,
                label="glioma" if p > 0.5 else "no_tumor",
                probabilities={
                    "glioma": p, "meningioma": rest, "no_tumor": 1 - p - 2 * rest, "pituitary": rest
                },
                prediction_set=["glioma"] if p > 0.8 else ["glioma", "no_tumor"],
                in_distribution=0 < number < len(images) - 1,
                ood_score=0.1,
                quality=[],
                heatmap_key=blobs.put(_heatmap(planes[number].shape, p)) if p > 0.05 else None,
            )
        )  # fmt: skip
    ranked = sorted(range(len(images)), key=lambda n: -tumor[n])[:3]
    db.session.add_all(predictions)
    best = predictions[ranked[0]]
    analysis.status, analysis.finished_at = Status.DONE, now()
    analysis.images_done = analysis.images_total
    analysis.mode, analysis.model_version_id = Mode.VOLUME, model.id
    analysis.key_image_ids = [str(images[n].id) for n in ranked]
    analysis.contradicting_images = {}
    analysis.label, analysis.probabilities = best.label, best.probabilities
    analysis.prediction_set, analysis.in_distribution = best.prediction_set, True
    analysis.in_distribution_share = 1 - 2 / len(images)
    keep_telling_slices(study, predictions)
    db.session.flush()


def _heatmap(shape: tuple[int, ...], strength: float) -> bytes:
    """What the worker keeps: colours of the heat, as opaque as it is hot."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    heat = strength * np.exp(-((x - 0.3) ** 2 + (y + 0.2) ** 2) / 0.08)
    levels = (heat * 255).astype(np.uint8)
    every = np.arange(256, dtype=np.uint8)
    colours = cv2.applyColorMap(every, cv2.COLORMAP_INFERNO).reshape(-1, 3)[:, ::-1]
    return encode_palette_png(levels, np.column_stack([colours, (every * 0.85).astype(np.uint8)]))


def assess(
    app: Flask,
    account: Account,
    ids: StudyIds | SeriesStudyIds,
    *,
    images: Sequence[uuid.UUID] | None = (),
    analysis_id: uuid.UUID | None = None,
    begun_on: uuid.UUID | None = None,
    **opinion: Any,
) -> list[uuid.UUID]:
    """Record what ``account`` says; by default that the model is right about the first image.

    Args:
        images: None for the study as a whole.
    """
    first = ids.image_id if isinstance(ids, StudyIds) else ids.image_ids[0]
    image_ids = None if images is None else tuple(images) or (first,)
    opinion.setdefault("verdict", Verdict.AGREE)
    with app.app_context(), acting_for(account.organisation_id):
        made = record_assessments(
            actor=find_user_by_address(account.email),
            subject=Subject(ids.study_id, image_ids, analysis_id=analysis_id, begun_on=begun_on),
            opinion=Opinion(**opinion),
        )
        return [one.id for one in made]
