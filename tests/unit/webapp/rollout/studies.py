"""Studies that a serving model and a candidate have answered, made without a model."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from flask import Flask

from tests.factories import Account
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.inference import analyses, claims
from webapp.models_admin.models import ModelVersion
from webapp.models_admin.queries import find_candidate
from webapp.rollout.shadowing import start_shadow
from webapp.tenancy import acting_for


@dataclass(frozen=True)
class Said:
    """What a model says of a slice."""

    label: str
    possible: Sequence[str] = ()
    familiar: bool = True


def begin_shadow(
    app: Flask, steward: Account, candidate_id: uuid.UUID, *, share: int = 100, most: int = 10
) -> None:
    with app.app_context(), acting_for(steward.organisation_id):
        start_shadow(
            actor=find_user_by_address(steward.email),
            candidate_id=candidate_id,
            share=share,
            most=most,
        )


def answer(app: Flask, account: Account, analysis_id: uuid.UUID, *said: Said) -> None:
    """End an analysis for shadow or recall the way the worker does, with these answers."""
    with app.app_context():
        claim = analyses.claim_analysis(analysis_id)
        assert claim is not None
        assert claim.candidate_id is not None
        with acting_for(account.organisation_id):
            version = find_candidate(claim.candidate_id).model_version_id
            model = db.session.get_one(ModelVersion, version)
        answers = [
            claims.NewPrediction(
                image_id=image.id,
                label=one.label,
                probabilities={
                    label: 0.9 if label == one.label else 0.1 / 3
                    for label in ("glioma", "meningioma", "no_tumor", "pituitary")
                },
                prediction_set=list(one.possible or (one.label,)),
                in_distribution=one.familiar,
                ood_score=0.1,
                quality=[],
                heatmap_key=None,
            )
            for image, one in zip(claim.images, said, strict=True)
        ]
        analyses.finish_analysis(claim, answers=answers, problems={}, model=model, model_ms=3.0)
