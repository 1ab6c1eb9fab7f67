"""The same behaviour of a folder and of S3: content, ranges, removal, and what goes wrong."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, select, text

from config import InvalidSetting, Settings
from tests.broker import Broker
from tests.conftest import make_settings
from tests.factories import Account
from tests.portal import SAMPLES, Portal
from tests.s3 import BUCKET, ObjectServer, running_object_server
from tests.waiting import wait_until
from webapp.audit import AuditEvent
from webapp.corrections import removal
from webapp.database import db, now
from webapp.storage import BlobStore, DamagedBlob, MissingBlob, Problem, StorageAway, open_store
from webapp.storage import s3 as s3_module
from webapp.storage.guards import FolderGuard, Guard, PostgresGuard
from webapp.studies.models import Status
from webapp.tenancy import unscoped

pytestmark = pytest.mark.integration
CONTENT = bytes(range(256)) * 12000  # 3 MB, more than one request of an open blob asks for


@pytest.fixture(scope="module")
def kept_server() -> Iterator[ObjectServer]:
    """One server for all tests here."""
    with running_object_server() as server:
        yield server


@pytest.fixture
def server(kept_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    """The server, empty, and the variables that lead to it."""
    for name, value in kept_server.environment.items():
        monkeypatch.setenv(name, value)
    kept_server.empty()
    return kept_server


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """A store of each kind."""
    address = {}
    if request.param == "s3":
        request.getfixturevalue("server")
        address = {"SULCUS_STORAGE_URL": f"s3://{BUCKET}/some/prefix"}
    return open_store(make_settings(tmp_path / "home", **address))


def test_content_is_found_by_its_hash_whole_and_in_parts(store: BlobStore) -> None:
    key = store.put(CONTENT)
    assert key == store.put(CONTENT) == hashlib.sha256(CONTENT).hexdigest()
    assert store.size(key) == len(CONTENT)
    assert store.get(key) == CONTENT
    with store.open(key) as file:
        assert file.read(5) == CONTENT[:5]
        file.seek(-7, 2)
        assert file.read() == CONTENT[-7:]
        file.seek(2**20 - 3)
        assert file.read(6) == CONTENT[2**20 - 3 : 2**20 + 3]
        file.seek(0)
        assert file.read() == CONTENT


def test_many_are_read_in_order_and_the_missing_is_told(store: BlobStore) -> None:
    keys = [store.put(b"%d" % number) for number in range(20)]
    keys.insert(3, "0" * 64)
    found = list(store.get_many(keys))
    assert found == [b"0", b"1", b"2", None, *(b"%d" % number for number in range(3, 20))]


def test_batch_is_there_when_its_block_has_ended(store: BlobStore) -> None:
    with store.batch() as batch:
        keys = [batch.put(b"slice %d" % (number % 40)) for number in range(60)]
        assert batch.get(keys[7]) == b"slice 7"
        assert batch.size(keys[7]) == 7
    assert len(set(keys)) == 40
    assert store.get(keys[-1]) == b"slice 19"


@pytest.mark.parametrize("key", ["0" * 64, "../../etc/passwd", "A" * 64, ""])
def test_what_was_never_kept_is_missing(store: BlobStore, key: str) -> None:
    for ask in (store.get, store.size, store.open):
        with pytest.raises(MissingBlob):
            ask(key)


def test_damaged_content_is_not_returned(
    request: pytest.FixtureRequest, store: BlobStore, tmp_path: Path
) -> None:
    key = store.put(b"what was stored")
    if isinstance(store, s3_module.S3Store):
        server: ObjectServer = request.getfixturevalue("server")
        name = f"some/prefix/{key[:2]}/{key[2:]}"
        server.client().put_object(Bucket=BUCKET, Key=name, Body=b"what was changed")
    else:
        (tmp_path / "home" / "blobs" / key[:2] / key[2:]).write_bytes(b"what was changed")
    with pytest.raises(DamagedBlob):
        store.get(key)


def test_old_blobs_are_listed_and_removed(store: BlobStore) -> None:
    kept, removed = store.put(b"kept"), store.put(b"removed")
    later, earlier = now() + timedelta(minutes=1), now() - timedelta(minutes=1)
    assert store.older_than(later, removed[:2]) == [removed]
    assert store.older_than(earlier, removed[:2]) == []
    assert store.remove([removed]) == 1
    assert store.older_than(later, removed[:2]) == []
    assert store.get(kept) == b"kept"
    with pytest.raises(MissingBlob):
        store.get(removed)


@pytest.fixture(params=["folder", "postgresql"])
def guard(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Guard]:
    """Makes locks as several processes have them."""
    if request.param == "folder":
        return lambda: FolderGuard(tmp_path / "storing")
    url: str = request.getfixturevalue("migrated_postgres")
    return lambda: PostgresGuard(url)


def test_removal_waits_for_all_who_store(guard: Callable[[], Guard]) -> None:
    one, other, remover = guard(), guard(), guard()
    first, second, third = one.hold(), one.hold(), other.hold()
    assert remover.hold_alone() is None
    first()
    third()
    assert remover.hold_alone() is None
    second()
    release = remover.hold_alone()
    assert release is not None
    assert one.hold_alone() is None
    release()
    one.hold()()


def test_lock_in_a_database_that_restarts_is_taken_anew(migrated_postgres: str) -> None:
    guard, remover = PostgresGuard(migrated_postgres), PostgresGuard(migrated_postgres)
    release = guard.hold()
    engine = create_engine(migrated_postgres)
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()
    release()
    release = guard.hold()
    assert remover.hold_alone() is None
    release()
    assert remover.hold_alone() is not None


def test_large_content_goes_in_parts_and_unfinished_ones_are_ended(
    server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "_IN_PARTS_FROM", 5 * 2**20)
    store = open_store(make_settings(tmp_path / "home", SULCUS_STORAGE_URL=f"s3://{BUCKET}/prefix"))
    content = CONTENT * 6
    assert store.get(store.put(content)) == content
    client = server.client()
    client.create_multipart_upload(Bucket=BUCKET, Key="prefix/ab/cd")
    assert store.remove_partial(now() - timedelta(days=1)) == 0
    assert store.remove_partial(now() + timedelta(minutes=1)) == 1
    assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


@pytest.mark.parametrize(
    ("bucket", "secret", "sentence"),
    [
        (BUCKET, "another secret", "refuses the credentials"),
        ("nowhere", None, "names the bucket nowhere, which does not exist"),
    ],
)
def test_wrong_address_stops_the_start_with_a_sentence(
    server: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bucket: str,
    secret: str | None,
    sentence: str,
) -> None:
    if secret is not None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with pytest.raises(InvalidSetting, match=sentence):
        open_store(make_settings(tmp_path / "home", SULCUS_STORAGE_URL=f"s3://{bucket}"))


@pytest.fixture
def settings(tmp_path: Path, database_url: str, server: ObjectServer, broker: Broker) -> Settings:
    """Settings of a portal whose files are in S3."""
    return make_settings(
        tmp_path / "home",
        SULCUS_DATABASE_URL=database_url,
        SULCUS_STORAGE_URL=f"s3://{BUCKET}/portal",
        **broker.environment,
    )


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_portal_works_with_s3_and_outlives_its_absence(
    portal: Portal,
    app: Flask,
    server: ObjectServer,
    sign_in: Callable[[Account], FlaskClient],
) -> None:
    account = portal.make_user()
    browser = sign_in(account)
    store: BlobStore = app.extensions["blobs"]
    study_id = portal.submit(account, [SAMPLES / "glioma-1.jpg"])
    portal.start_worker()
    assert portal.wait_for_end(study_id) is Status.DONE
    (prediction,) = portal.predictions(study_id)
    unnamed = store.put(b"nobody names this")
    with app.app_context():
        assert removal.sweep_blobs() == 0  # too young
        assert removal.sweep_blobs(youngest=timedelta(seconds=-60)) == 1
        with unscoped():
            swept = db.session.scalars(
                select(AuditEvent).where(AuditEvent.action == "sweep_blobs")
            ).all()
        assert [event.details for event in swept] == [{"removed": 1}]
    with pytest.raises(MissingBlob):
        store.get(unnamed)
    picture = f"/images/{prediction.image_id}/pixels"
    assert browser.get(picture).status_code == 200

    waits = portal.submit(account, [SAMPLES / "no_tumor-1.jpg"] * 2)
    server.stop()
    answer = browser.get(picture)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert "The store of images does not answer." in answer.text
    assert Problem.AWAY in browser.get("/readyz").get_json()["reasons"]
    with pytest.raises(StorageAway):
        portal.submit(account, [SAMPLES / "meningioma-1.jpg"])
    server.start()
    assert browser.get(picture).status_code == 200
    assert portal.wait_for_end(waits) is Status.DONE
    wait_until(
        lambda: Problem.AWAY not in browser.get("/readyz").get_json()["reasons"],
        seconds=10,
        what="a store that is ready",
    )
