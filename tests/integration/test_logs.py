"""No log holds what only the database may: marks are planted everywhere, and all logs are read."""

import json
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import pytest
import requests
from sqlalchemy import text

from tests.portal import Portal
from webapp.accounts.models import Role
from webapp.accounts.operations import invite
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.tenancy import unscoped

MARK = "Zebrafink4711"
UID = "1.2.826.0.1.471147114711"


def logs(portal: Portal) -> str:
    return "\n".join(path.read_text(errors="replace") for path in portal.folder.glob("*.log"))


def send_raw(address: str, content: bytes) -> bytes:
    parts = urlsplit(address)
    assert parts.hostname
    assert parts.port
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(65536)


@pytest.fixture
def address(portal: Portal) -> str:
    portal.environment["SULCUS_LOG_LEVEL"] = "DEBUG"
    return portal.start_web()


def test_no_log_holds_what_was_planted(portal: Portal, address: str) -> None:
    admin = portal.make_user(Role.ADMIN)
    with portal.app.app_context(), unscoped():
        actor = find_user_by_address(admin.email)
        _row, link = invite(actor=actor, email=f"{MARK}@x.example", role=Role.ADMIN)
    token = portal.token(admin.email)
    bearer = {"Authorization": f"Bearer {token}"}
    browser = requests.Session()

    assert browser.get(f"{address}/invitations/{link}", timeout=20).status_code == 200
    browser.get(f"{address}/invitations/{link}/{MARK}", timeout=20)
    browser.get(f"{address}/history", params={"patient": MARK}, timeout=20)
    browser.get(f"{address}/{MARK}", headers={"Referer": MARK, "User-Agent": MARK}, timeout=20)
    browser.request(MARK.upper()[:10], f"{address}/sign-in", timeout=20)
    values = {"email": f"{MARK}@x.example", "password": MARK}
    browser.post(f"{address}/sign-in", data=values, timeout=20)
    for path in (f"studies/{UID}", f"studies/{UID}/series/{UID}/metadata"):
        for method in ("GET", "POST"):
            requests.request(method, f"{address}/dicomweb/{path}", headers=bearer, timeout=20)
    parameters = {"PatientName": MARK, "StudyInstanceUID": UID}
    requests.get(f"{address}/dicomweb/studies", params=parameters, headers=bearer, timeout=20)
    for body in (MARK, f'{{"{MARK}": "\ud83d', "[" * 100_000, json.dumps({MARK: MARK})):
        requests.patch(
            f"{address}/api/v1/studies/{uuid.uuid4()}",
            data=body.encode(errors="replace"),
            headers={**bearer, "Content-Type": "application/json"},
            timeout=20,
        )
    head = f"POST /api/v1/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    form = f"Content-Type: multipart/form-data; boundary={MARK}\r\n"
    for rest in (
        f"{form}Transfer-Encoding: chunked\r\n\r\n{MARK}\r\n",
        f"{form}Transfer-Encoding: {MARK}\r\n\r\n",
        f"{form}Content-Length: 50\r\n\r\n--{MARK}\r\n{MARK}\r\n\r\n{MARK}",
        f"{MARK}\r\n\r\n",
        f"Bad Header {MARK}: 1\r\n\r\n",
    ):
        send_raw(address, (head + rest).encode())
    send_raw(address, f"GET /{MARK} {MARK} HTTP/1.1\r\n\r\n".encode())
    send_raw(address, f"GET /{MARK} {MARK}/1.1\r\n\r\n".encode())

    found = logs(portal)
    assert '"GET /invitations/<token> HTTP/1.1" 200' in found
    assert "/dicomweb/studies/<uid:study_uid>" in found
    assert "(no such address)" in found
    for secret in (MARK, MARK.upper()[:10], link, UID, token, admin.email, quote(admin.email)):
        assert secret.lower() not in found.lower(), secret


@contextmanager
def away(portal: Portal, table: str) -> Iterator[None]:
    """While a table has another name, statements on it fail."""
    with portal.app.app_context():
        db.session.execute(text(f"ALTER TABLE {table} RENAME TO {table}_away"))
        db.session.commit()
    yield
    with portal.app.app_context():
        db.session.execute(text(f"ALTER TABLE {table}_away RENAME TO {table}"))
        db.session.commit()


def test_a_statement_that_fails_leaves_no_parameter(portal: Portal, address: str) -> None:
    account = portal.make_user()
    values = {"email": account.email, "password": account.password}
    page = requests.get(f"{address}/sign-in", timeout=20)
    csrf = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
    with away(portal, "user_session"):
        answer = requests.post(
            f"{address}/sign-in",
            data={**values, "csrf_token": csrf},
            cookies=page.cookies,
            timeout=20,
        )
    assert answer.status_code == 500
    found = logs(portal)
    assert "POST /sign-in failed" in found
    assert "user_session" not in answer.text
    for secret in (account.email, account.password, str(account.id), account.id.hex, "argon2"):
        assert secret not in found.replace("argon2/", "").replace("import argon2", ""), secret


@pytest.mark.parametrize("header", ["SCRIPT_NAME", "PATH_INFO", "Script-Name"])
def test_no_header_changes_the_address(portal: Portal, header: str) -> None:
    address = portal.start_web()
    answer = requests.get(f"{address}/sign-in", headers={header: f"/{MARK}"}, timeout=20)
    assert answer.status_code == 200
    assert MARK not in answer.text
