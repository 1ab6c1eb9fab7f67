"""Weeks of studies in the database, without pictures of their own."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from flask import Flask

from ml.serving.observation import STATISTICS, pack
from tests.factories import Account
from webapp.database import db
from webapp.inference.observations import SliceObservation
from webapp.models_admin.operations import register_model
from webapp.studies.models import Analysis, Image, Patient, Series, Status, Study
from webapp.tenancy import acting_for, update_by_key

SHA256 = "a" * 64


def add_studies(
    app: Flask,
    account: Account,
    count: int,
    *,
    since: datetime,
    seed: int = 0,
    shift: float = 0.0,
    source_format: str = "PNG",
) -> list[uuid.UUID]:
    """Studies an hour apart, as the worker leaves them; ``shift`` moves every statistic."""
    random = np.random.default_rng(seed)
    labels = random.choice(["glioma", "no_tumor"], count)
    figures = random.normal(shift, 1, (count, len(STATISTICS))).astype(np.float32)
    with app.app_context(), acting_for(account.organisation_id):
        model = register_model(name="watched", sha256=SHA256, card={})
        patient = Patient(id=uuid.uuid4(), code=f"W-{uuid.uuid4().hex[:8]}")
        db.session.add(patient)
        rows: list[Any] = []
        current = {}
        for number in range(count):
            study_id, series_id, image_id, analysis_id = (uuid.uuid4() for _ in range(4))
            at, label = since + timedelta(hours=number), str(labels[number])
            current[study_id] = analysis_id
            rows += [
                Study(id=study_id, patient_id=patient.id, uploaded_by_id=account.id),
                Series(id=series_id, study_id=study_id, position=0),
                Image(
                    id=image_id,
                    study_id=study_id,
                    series_id=series_id,
                    position=0,
                    source_format=source_format,
                    width=9,
                    height=9,
                ),
                Analysis(
                    id=analysis_id,
                    study_id=study_id,
                    image_ids=[str(image_id)],
                    status=Status.DONE,
                    finished_at=at,
                    model_version_id=model.id,
                    label=label,
                    prediction_set=[label],
                    in_distribution=True,
                    in_distribution_share=1.0,
                    probabilities={label: 0.9},
                ),
                SliceObservation(
                    analysis_id=analysis_id,
                    image_id=image_id,
                    stands_for_study=True,
                    figures=pack(figures[number]),
                    created_at=at,
                ),
            ]
        db.session.add_all(rows)
        db.session.flush()
        update_by_key(
            db.session,
            Study,
            [{"id": one, "current_analysis_id": other} for one, other in current.items()],
        )
        db.session.commit()
        return list(current)
