"""What a backup holds comes back into an empty installation, and nowhere else."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, func, select, text

from tests.conftest import make_settings
from tests.dicoms import axial_series
from tests.factories import (
    SAMPLE,
    Account,
    assess,
    make_account,
    make_api_token,
    make_study,
)
from tests.unit.webapp.models_admin.candidates import promote, write_model
from webapp import create_app
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.models_admin.models import Candidate, CandidateFile, Deployment
from webapp.models_admin.serving import fault_of
from webapp.storage import BlobStore
from webapp.studies.listing import StudyTally
from webapp.studies.models import Analysis, Image, Prediction, Study
from webapp.tenancy import acting_for, unscoped


def run(app: Flask, *command: object) -> tuple[int, str]:
    done = app.test_cli_runner().invoke(args=[str(part) for part in command])
    return done.exit_code, done.output


def empty_database(app: Flask) -> None:
    """As a new installation has it; past triggers and foreign keys."""
    with app.app_context():
        db.session.remove()
        with db.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL session_replication_role = replica"))
            else:
                connection.execute(text("BEGIN"))
                connection.execute(text("PRAGMA defer_foreign_keys = ON"))
            for table in (*db.metadata.sorted_tables, StudyTally.__table__):  # triggers fill it
                connection.execute(delete(table))


@pytest.fixture
def fresh(
    app: Flask, tmp_path: Path, migrated_sqlite: Path, request: pytest.FixtureRequest
) -> Iterator[Flask]:
    """Another installation with no rows, no files and keys of its own."""
    home = tmp_path / "fresh"
    home.mkdir()
    url = app.extensions["settings"].database_url
    if url.startswith("sqlite"):
        shutil.copyfile(migrated_sqlite, home / "sulcus.sqlite3")
        url = f"sqlite:///{home / 'sulcus.sqlite3'}"
    other = create_app(make_settings(home, SULCUS_DATABASE_URL=url))
    other.testing = True
    yield other
    with other.app_context():
        db.session.remove()
        db.engine.dispose()


class Installation:
    """What somebody sees of it."""

    def __init__(self, app: Flask, account: Account, token: str) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()
        sent = {"email": account.email, "password": account.password}
        assert self.client.post("/sign-in", data=sent).status_code == 302
        self.bearer = {"Authorization": f"Bearer {token}"}

    def answer(self, address: str) -> tuple[int, bytes]:
        got = self.client.get(
            address, headers=self.bearer if address.startswith(("/api/", "/dicomweb/")) else {}
        )
        return got.status_code, got.data

    def pages(self, addresses: list[str]) -> dict[str, tuple[int, bytes]]:
        return {address: self.answer(address) for address in addresses}

    def counts(self) -> dict[str, int]:
        with self.app.app_context(), unscoped():
            return {
                model.__tablename__: db.session.scalar(select(func.count()).select_from(model))
                for model in (Study, Image, Analysis, Prediction, Candidate, Deployment)
            }


def test_restored_installation_answers_as_before(app: Flask, fresh: Flask, tmp_path: Path) -> None:
    app.config["WTF_CSRF_ENABLED"] = fresh.config["WTF_CSRF_ENABLED"] = False
    steward = make_account(app, Role.ADMIN)
    second = make_account(app, Role.ADMIN)
    picture = make_study(app, steward, further=["meningioma"])
    with app.app_context(), acting_for(steward.organisation_id):
        user = find_user_by_address(steward.email)
        slices = [UploadedFile(f"{n}.dcm", one) for n, one in enumerate(axial_series(4))]
        series = submit_files(actor=user, files=slices).study
        series_id, series_uid = series.id, series.uid
    assess(app, steward, picture)
    candidate_id = promote(app, steward, second, write_model(tmp_path / "model"))
    _id, token = make_api_token(app, steward)
    addresses = [
        "/history.csv",
        f"/api/v1/studies/{picture.study_id}",
        f"/api/v1/studies/{series_id}",
        f"/api/v1/models/{candidate_id}",
        f"/images/{picture.image_id}/pixels",
        f"/images/{picture.image_id}/heatmap",
        f"/dicomweb/studies/{series_uid}/metadata",
    ]
    before = Installation(app, steward, token)
    expected, counts = before.pages(addresses), before.counts()
    assert {status for status, _content in expected.values()} == {200}

    code, said = run(app, "backup", tmp_path / "b", "--keys", tmp_path / "keys")
    assert code == 0, said
    if app.extensions["settings"].database_url.startswith("postgresql"):
        empty_database(app)
    assert run(fresh, "restore", tmp_path / "b")[0] == 1  # with keys of its own
    code, said = run(fresh, "restore", tmp_path / "b", "--keys", tmp_path / "keys")
    assert code == 0, said

    again = create_app(
        make_settings(
            fresh.extensions["settings"].home,
            SULCUS_DATABASE_URL=fresh.extensions["settings"].database_url,
        )
    )
    again.config["WTF_CSRF_ENABLED"] = False
    after = Installation(again, steward, token)
    assert after.pages(addresses) == expected
    assert after.counts() == counts
    with again.app_context(), unscoped():
        (row,) = db.session.scalars(select(Deployment)).all()
        assert fault_of(row) is None  # signed with the keys that came along
        blobs: BlobStore = again.extensions["blobs"]
        for key in db.session.scalars(select(CandidateFile.blob_key)):
            assert blobs.get(key)
        # A second restore finds rows.
        code, said = run(again, "restore", tmp_path / "b")
    assert code == 1
    assert "is not empty" in said


def test_a_backup_of_a_busy_portal_fits_together(app: Flask, tmp_path: Path) -> None:
    account = make_account(app)
    over = threading.Event()

    def upload() -> None:
        with app.app_context(), acting_for(account.organisation_id):
            user = find_user_by_address(account.email)
            while not over.is_set():
                submit_files(actor=user, files=[UploadedFile("a.jpg", SAMPLE.read_bytes())])

    writer = threading.Thread(target=upload)
    writer.start()
    try:
        code, said = run(app, "backup", tmp_path / "b")
    finally:
        over.set()
        writer.join()
    assert code == 0, said
    # Foreign keys are checked while the rows go in, and files by their names.
    empty_database(app)
    code, said = run(app, "restore", tmp_path / "b")
    assert code == 0, said
    with app.app_context(), unscoped():
        for study in db.session.scalars(select(Study)):
            assert study.current_analysis is not None
            assert [image.blob_key for image in study.images] != [None]


@pytest.fixture
def small(app: Flask, tmp_path: Path) -> Path:
    """A backup of one study, taken from an installation that is emptied then."""
    make_study(app, make_account(app))
    assert run(app, "backup", tmp_path / "b")[0] == 0
    empty_database(app)
    return tmp_path / "b"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_damaged_or_does_not_fit_is_refused(app: Flask, small: Path) -> None:
    def refused(word: str) -> None:
        code, said = run(app, "restore", small)
        assert code == 1
        assert word in said, said
        with app.app_context(), unscoped():
            assert not db.session.scalar(select(func.count()).select_from(Study))

    manifest = small / "manifest.json"
    kept = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(kept) | {"revision": "0001"}))
    refused("has schema 0001")
    manifest.unlink()
    refused("no finished backup")
    manifest.write_text(kept)
    blob = next((small / "blobs").glob("??/*"))
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + b"x")
    refused("is damaged")
    blob.write_bytes(content)
    rows = small / "rows" / "study.jsonl.gz"
    rows.write_bytes(rows.read_bytes()[:-1])
    refused("rows of study")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_keys_do_not_lie_in_the_backup_and_nothing_is_overwritten(
    app: Flask, tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    assert run(app, "backup", folder, "--keys", folder / "keys")[0] == 1
    assert run(app, "backup", folder)[0] == 0
    everything = b"".join(one.read_bytes() for one in folder.rglob("*") if one.is_file())
    settings = app.extensions["settings"]
    for name in ("secret_key", "pseudonym_key", "model_key", "snapshot_key"):
        assert getattr(settings, name).encode() not in everything
    code, said = run(app, "backup", folder)
    assert code == 1
    assert "is not empty" in said


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_files_that_are_lost_or_damaged_are_told(app: Flask, tmp_path: Path) -> None:
    make_study(app, make_account(app))
    settings = app.extensions["settings"]
    blob = next(settings.storage_dir.glob("??/*"))
    blob.write_bytes(b"bit rot")
    code, said = run(app, "backup", tmp_path / "b")
    assert code == 1
    assert blob.parent.name + blob.name in said
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["missing"]


def test_every_table_can_be_written_in_the_order_it_is_restored_in(app: Flask) -> None:
    """A table that points ahead would have to leave its column NULL for a moment."""
    from webapp.backup.rows import late_columns

    seen = set()
    for table in db.metadata.sorted_tables:
        late = {column.name for column in late_columns(table)}
        for key in table.foreign_keys:
            assert key.parent.name in late or key.column.table.name in seen
        assert all(table.columns[name].nullable for name in late)
        seen.add(table.name)
