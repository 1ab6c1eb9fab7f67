"""Bodies are limited before anything reads them; files come back as they were sent."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from tests.factories import Account
from tests.unit.webapp.test_security import post_rules
from webapp.uploads import LARGEST, LARGEST_OF_VISITORS, Spool, SpooledPart

SIZES = [0, 1, 600_000, 5, 3_000_000]
SignIn = Callable[[Account], FlaskClient]
NOBODY = "00000000-0000-0000-0000-000000000000"


class Unread(io.RawIOBase):
    """A body that must not be looked at."""

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> int:
        raise AssertionError("the body was read")


class Endless(io.RawIOBase):
    """A body without an end; counts what was taken of it."""

    taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.taken += len(buffer)
        buffer[:] = b"a" * len(buffer)
        return len(buffer)


class Broken(io.RawIOBase):
    """A body that the server cannot read to its end."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> int:
        raise self._error


def send(
    client: FlaskClient,
    path: str,
    stream: io.RawIOBase,
    *,
    length: int | None,
    kind: str = "multipart/form-data; boundary=b",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> Any:
    """Send a body of a length, or in chunks, as a server hands it over."""
    said = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    return client.open(
        path,
        method=method,
        headers=headers,
        content_type=kind,
        environ_overrides={
            "wsgi.input": stream,
            **(said if length is None else {"CONTENT_LENGTH": str(length)}),
        },
    )


@pytest.fixture
def token(make_user: Callable[..., Account], app: Flask) -> dict[str, str]:
    from webapp.accounts.operations import create_token
    from webapp.accounts.queries import find_user_by_address

    account = make_user()
    with app.app_context():
        key = create_token(user=find_user_by_address(account.email), name="test")[1]
    return {"Authorization": f"Bearer {key}"}


def test_parts_of_one_spool_do_not_mix(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "uploads")
    contents = [bytes([number]) * size for number, size in enumerate(SIZES)]
    parts = []
    for content in contents:
        part = SpooledPart(spool)
        for start in range(0, len(content), 64_000):
            part.write(content[start : start + 64_000])
        parts.append(part)
    for part, content in zip(parts, contents, strict=True):
        part.seek(0)
        assert part.read() == content
        assert part.read() == b""
        part.seek(-len(content) // 2 if content else 0, io.SEEK_END)
        assert len(part) == len(content)


def test_large_files_lie_on_the_disk_and_have_no_name_there(app: Flask) -> None:
    data = {"files": [(io.BytesIO(bytes([n]) * size), f"{n}") for n, size in enumerate(SIZES)]}
    with app.test_request_context("/studies/new", method="POST", data=data):
        request.max_content_length = 2**23
        received = request.files.getlist("files")
        assert [len(file.read()) for file in received] == SIZES
        assert not received[0].stream._spool.is_in_memory  # type: ignore[attr-defined]
        assert list(app.extensions["uploads"].iterdir()) == []


def test_small_files_stay_in_memory(app: Flask) -> None:
    data = {"files": [(io.BytesIO(bytes(10_000)), "a")]}
    with app.test_request_context("/studies/new", method="POST", data=data):
        received = request.files["files"]
        assert received.stream._spool.is_in_memory  # type: ignore[attr-defined]


def test_upload_over_the_limit_is_refused_in_words(
    settings: Any, make_user: Callable[..., Account], sign_in: SignIn
) -> None:
    client = sign_in(make_user())
    answer = send(client, "/studies/new", Unread(), length=settings.max_upload_bytes + 2**21)
    assert answer.status_code == 413
    assert "larger than the server accepts" in answer.text


@pytest.mark.parametrize("length", [LARGEST_OF_VISITORS + 1, 2**29])
def test_nobody_reads_what_a_stranger_sends(app: Flask, client: FlaskClient, length: int) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    for address in [*post_rules(app), "/api/v1/studies", "/dicomweb/studies", "/nowhere"]:
        answer = send(client, address, Unread(), length=length)
        assert answer.status_code in {302, 401, 404, 413}, address


def test_nobody_reads_what_a_stranger_sends_in_chunks(app: Flask, client: FlaskClient) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    for address in [*post_rules(app), "/api/v1/studies", "/dicomweb/studies", "/nowhere"]:
        answer = send(client, address, Unread(), length=None)
        assert answer.status_code in {302, 401, 404, 411}, address


def test_forms_without_files_are_small(
    app: Flask, make_user: Callable[..., Account], sign_in: SignIn
) -> None:
    client = sign_in(make_user())
    for address in post_rules(app):
        if address == "/studies/new":
            continue
        kind = "application/x-www-form-urlencoded"
        answer = send(client, address, Unread(), length=2**20 + 1, kind=kind)
        # A role that is missing, or an account that one has, is noticed before.
        assert answer.status_code in {302, 403, 404, 413}, address


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/api/v1/studies/{NOBODY}/feedback"),
        ("PATCH", f"/api/v1/studies/{NOBODY}"),
        ("DELETE", f"/api/v1/studies/{NOBODY}"),
    ],
)
def test_json_is_small(client: FlaskClient, token: dict[str, str], method: str, path: str) -> None:
    json = {"kind": "application/json", "method": method, "headers": token}
    large = send(client, path, Unread(), length=LARGEST + 1, **json)  # type: ignore[arg-type]
    assert large.status_code == 413
    assert "kB" in large.json["detail"]
    stream = Endless()
    chunked = send(client, path, stream, length=None, **json)  # type: ignore[arg-type]
    assert chunked.status_code == 413, chunked.text
    assert stream.taken <= 2 * LARGEST


@pytest.mark.parametrize(
    "body",
    [
        b'{"region": [' + b"9" * 5000 + b"]}",
        b'{"verdict": -' + b"1" * 60_000 + b"}",
        b'{"region": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"verdict": "agree"',
        b"\xff\xfe{}",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_json_that_makes_no_sense_is_said_to(
    client: FlaskClient, token: dict[str, str], body: bytes, method: str
) -> None:
    path = f"/api/v1/studies/{NOBODY}" + ("/feedback" if method == "POST" else "")
    answer = client.open(
        path, method=method, data=body, headers=token, content_type="application/json"
    )
    assert answer.status_code == 400, answer.text
    assert "JSON" in answer.json["detail"]


def test_answers_about_many_wrong_values_are_short(
    client: FlaskClient, token: dict[str, str]
) -> None:
    body = json.dumps({"verdict": "agree", "image_ids": [{}] * 15_000})
    answer = client.post(
        f"/api/v1/studies/{NOBODY}/feedback",
        data=body,
        headers=token,
        content_type="application/json",
    )
    assert answer.status_code == 422
    assert len(answer.data) < 20_000


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("chunk"), 400), (TimeoutError(), 408), (OSError(), 400)]
)
@pytest.mark.parametrize("path", ["/api/v1/studies", "/dicomweb/studies", "/studies/new"])
def test_bodies_that_break_off_are_the_sender_s_fault(
    app: Flask,
    make_user: Callable[..., Account],
    sign_in: SignIn,
    token: dict[str, str],
    path: str,
    error: Exception,
    status: int,
) -> None:
    client = sign_in(make_user()) if path == "/studies/new" else app.test_client()
    kind = "multipart/related; type=application/dicom" if "web" in path else "multipart/form-data"
    answer = send(
        client, path, Broken(error), length=None, kind=f"{kind}; boundary=b", headers=token
    )
    assert answer.status_code == status, answer.text


def test_a_full_disk_is_said(
    app: Flask, make_user: Callable[..., Account], sign_in: SignIn
) -> None:
    client = sign_in(make_user())
    app.extensions["uploads"] = Path("/dev/full/uploads")
    data = {"files": [(io.BytesIO(bytes(3_000_000)), "a.dcm")]}
    answer = client.post("/studies/new", data=data)
    assert answer.status_code == 503
    assert "no room" in answer.text
