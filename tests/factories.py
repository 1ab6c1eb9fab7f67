"""What tests need in the database, made by the portal's own operations."""

import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from ml.labels import LABELS
from webapp.accounts import operations as accounts
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.models_admin.operations import register_model
from webapp.storage import BlobStore
from webapp.studies import jobs
from webapp.studies.operations import UploadedFile, submit_study
from webapp.tenancy import acting_for

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
    """A study and its first image."""

    study_id: uuid.UUID
    image_id: uuid.UUID


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


def make_study(app: Flask, account: Account, *, label: str = "glioma") -> StudyIds:
    """Upload one slice and classify it as ``label``, the way the worker does but for the model."""
    with app.app_context(), acting_for(account.organisation_id):
        user = find_user_by_address(account.email)
        files = [UploadedFile(SAMPLE.name, SAMPLE.read_bytes())]
        study = submit_study(actor=user, files=files)
        ids = StudyIds(study.id, study.images[0].id)
        claim = jobs.claim_job(study.jobs[0].id)
        assert claim is not None
        blobs: BlobStore = app.extensions["blobs"]
        others = 0.1 / (len(LABELS) - 1)
        answer = jobs.Answer(
            image_id=ids.image_id,
            label=label,
            probabilities={each: 0.9 if each == label else others for each in LABELS},
            prediction_set=[label],
            in_distribution=True,
            ood_score=0.1,
            heatmap_key=blobs.put(blobs.get(study.images[0].blob_key)),
        )
        model = register_model(name="test", sha256="0" * 64, card={})
        jobs.finish_job(claim, answers=[answer], problems={}, model=model, model_ms=1.0)
        return ids
