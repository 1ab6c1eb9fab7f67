"""Add the bundled sample slices to a portal. Idempotent."""

import csv
import os
import secrets
import threading
import time
from pathlib import Path

from sqlalchemy import func, select

from config import REPOSITORY
from webapp.accounts.models import Role, User
from webapp.accounts.operations import create_user, set_password
from webapp.accounts.queries import user_by_address
from webapp.database import db
from webapp.extensions import current_settings
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import Idempotency, submit_files
from webapp.studies.models import Analysis, Priority, Status, Study
from webapp.tenancy import acting_for

EMAIL = "demo@example.org"
_SAMPLES = REPOSITORY / "ml" / "samples"
_URGENT = {"glioma-1", "meningioma-2"}


def demo_account() -> tuple[User, str]:
    """The demo administrator and its password, which is stored in a private file."""
    settings = current_settings()
    path = settings.home / "demo_password"
    user = user_by_address(EMAIL)
    if user is not None and path.exists():
        return user, path.read_text(encoding="ascii")
    password = secrets.token_urlsafe(12)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(password)
    if user is None:
        return (
            create_user(
                email=EMAIL,
                password=password,
                role=Role.ADMIN,
                name="Dr Demo",
                organisation="Demonstration Hospital",
            ),
            password,
        )
    return set_password(email=EMAIL, password=password), password


def submit_samples(user: User) -> int:
    """Submit each bundled slice as one study; existing ones stay."""
    with (_SAMPLES / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with acting_for(user.organisation_id):
        for number, row in enumerate(rows, start=1):
            path = _SAMPLES / row["path"]
            submit_files(
                actor=user,
                files=[UploadedFile(path.name, path.read_bytes())],
                patient_code=f"DEMO-{number:02d}",
                description="Sample slice, public research data",
                priority=Priority.URGENT if Path(row["path"]).stem in _URGENT else Priority.ROUTINE,
                idempotency=Idempotency(f"demo-{path.stem}"),
            )
    return len(rows)


def wait_until_finished(user: User, *, seconds: float) -> int:
    """Wait until no study of the user's organisation is waiting; return how many still are."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    open_studies = (
        select(func.count(Study.id))
        .join(Study.current_analysis)
        .where(Analysis.status.in_([Status.QUEUED, Status.RUNNING]))
    )
    while True:
        with acting_for(user.organisation_id):
            left = db.session.scalar(open_studies) or 0
        db.session.rollback()  # the next query starts a new transaction and sees new data
        if not left or time.monotonic() > deadline:
            return left
        pause.wait(0.5)
