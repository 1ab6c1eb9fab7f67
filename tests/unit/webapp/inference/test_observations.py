"""What is observed of slices is kept with their predictions, and deleted with the study."""

from collections.abc import Callable

import numpy as np
import pytest
from flask import Flask
from sqlalchemy import select

from ml.serving.observation import FEATURES, IMAGE_STATISTICS, STATISTICS, unpack
from tests.factories import SAMPLE, Account
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.corrections.operations import Deletion, DeletionReason, delete_study
from webapp.database import db
from webapp.inference import analyses, claims
from webapp.inference.observations import SliceObservation
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.models_admin.operations import register_model
from webapp.tenancy import acting_for


def test_one_slice_stands_for_its_study_and_goes_with_it(
    app: Flask, make_user: Callable[..., Account]
) -> None:
    account = make_user(Role.ADMIN)
    with app.app_context(), acting_for(account.organisation_id):
        user = find_user_by_address(account.email)
        files = [UploadedFile(f"{n}.jpg", SAMPLE.read_bytes()) for n in range(3)]
        study = submit_files(actor=user, files=files).study
        claim = analyses.claim_analysis(study.analyses[0].id)
        assert claim is not None
        answers = [_answer(image, observed=number < 2) for number, image in enumerate(claim.images)]
        model = register_model(name="test", sha256="0" * 64, card={})
        analyses.finish_analysis(claim, answers=answers, problems={}, model=model, model_ms=1.0)
        rows = db.session.scalars(select(SliceObservation)).all()
        assert len(rows) == 2  # of one slice nothing was observed
        (chosen,) = [row for row in rows if row.stands_for_study]
        assert chosen.image_id == min(image.id for image in claim.images[:2])
        figures = unpack(chosen.figures)
        assert figures[STATISTICS.index("set_size")] == 2
        assert figures[STATISTICS.index("max_probability")] == pytest.approx(0.7)
        delete_study(actor=user, study_id=study.id, deletion=Deletion(DeletionReason.TEST))
        assert not db.session.scalars(select(SliceObservation)).all()


def _answer(image: claims.ClaimedImage, *, observed: bool) -> claims.NewPrediction:
    return claims.NewPrediction(
        image_id=image.id,
        label="glioma",
        probabilities={"glioma": 0.7, "meningioma": 0.1, "no_tumor": 0.1, "pituitary": 0.1},
        prediction_set=["glioma", "meningioma"],
        in_distribution=True,
        ood_score=0.2,
        quality=[],
        heatmap_key=None,
        image_statistics=np.zeros(len(IMAGE_STATISTICS), np.float32) if observed else None,
        features=np.zeros(FEATURES, np.float32) if observed else None,
    )
