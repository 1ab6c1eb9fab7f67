"""Who finds the memory in use is asked to come back, and nothing is lost."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from ml.imaging import Room
from tests.dicoms import axial_series
from tests.factories import SAMPLE, Account
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.errors import RefusedUpload
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.pacs.receiving import OUT_OF_RESOURCES, SUCCESS, receive
from webapp.studies.models import Instance, Study
from webapp.tenancy import acting_for, unscoped

SIZE = 2**28
SignIn = Callable[[Account], FlaskClient]


@contextmanager
def memory_in_use(app: Flask) -> Iterator[None]:
    """As if another thread was decoding a large file."""
    room, held = Room(SIZE, patience=0.05), ExitStack()
    app.extensions["room"] = room
    other = threading.Thread(target=lambda: held.enter_context(room.taken(SIZE)))
    other.start()
    other.join()
    with held:
        yield


def test_an_upload_is_asked_to_come_back(
    app: Flask, make_user: Callable[..., Account], sign_in: SignIn
) -> None:
    client = sign_in(make_user())

    def upload() -> int:
        data = {"files": [(io.BytesIO(SAMPLE.read_bytes()), SAMPLE.name)]}
        answer = client.post("/studies/new", data=data)
        if answer.status_code == 503:
            assert answer.headers["Retry-After"] == "30"
            assert "busy" in answer.text
        return answer.status_code

    with memory_in_use(app):
        assert upload() == 503
    with app.app_context(), unscoped():
        assert not db.session.scalars(select(Study)).all()
    assert upload() in {200, 302}


def test_an_archive_is_told_to_send_again(app: Flask, make_user: Callable[..., Account]) -> None:
    account = make_user()
    (content,) = axial_series(1)

    def send() -> int:
        with app.app_context(), acting_for(account.organisation_id):
            user = find_user_by_address(account.email)
            return receive(content, received_by=user).status

    with memory_in_use(app):
        assert send() == OUT_OF_RESOURCES
        with app.app_context(), unscoped():
            assert not db.session.scalars(select(Instance)).all()
    assert send() == SUCCESS


def test_a_file_that_needs_more_than_there_is_is_refused(
    app: Flask, make_user: Callable[..., Account]
) -> None:
    account = make_user()
    app.extensions["room"] = Room(2**16)
    with app.app_context(), acting_for(account.organisation_id):
        files = [UploadedFile(SAMPLE.name, SAMPLE.read_bytes())]
        with pytest.raises(RefusedUpload):
            submit_files(actor=find_user_by_address(account.email), files=files)


def test_fields_beside_files_are_limited_together(
    app: Flask, make_user: Callable[..., Account], sign_in: SignIn
) -> None:
    client = sign_in(make_user())
    data = {f"field-{number}": "a" * 2**19 for number in range(8)}
    answer = client.post("/studies/new", data={**data, "files": [(io.BytesIO(b"x"), "x.png")]})
    assert answer.status_code == 413
