"""The web server of `make run` goes on answering while others send slowly or do not receive."""

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.portal import Portal

HEAD = "{} {} HTTP/1.1\r\nHost: localhost\r\n"
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
MULTIPART = "Content-Type: multipart/form-data; boundary=b\r\n"
UNFINISHED = {
    "nothing": "",
    "an empty line": "\r\n\r\n",
    "a head": HEAD.format("GET", "/sign-in"),
    "a form": HEAD.format("POST", "/sign-in") + FORM + "Content-Length: 60000\r\n\r\nemail=a",
    "a form that waits": HEAD.format("POST", "/sign-in")
    + FORM
    + "Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
    "a large form": HEAD.format("POST", "/sign-in")
    + FORM
    + "Content-Length: 500000000\r\n\r\nemail=a",
    "chunks": HEAD.format("POST", "/sign-in") + FORM + "Transfer-Encoding: chunked\r\n\r\n5\r\nem",
    "an upload": HEAD.format("POST", "/studies/new")
    + MULTIPART
    + "Content-Length: 500000000\r\n\r\n--b\r\n",
    "an upload in chunks": HEAD.format("POST", "/api/v1/studies")
    + MULTIPART
    + "Transfer-Encoding: chunked\r\n\r\n5\r\n--b\r\n",
    "what follows a request": HEAD.format("GET", "/healthz") + "\r\n" + "GET /sign",
}
Address = tuple[str, int]


@pytest.fixture
def web(portal: Portal) -> Address:
    portal.environment["SULCUS_WEB_THREADS"] = "2"
    parts = urlsplit(portal.start_web())
    return str(parts.hostname), int(parts.port or 0)


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def opened(web: Address, stack: ExitStack, sent: str = "") -> socket.socket:
    connection = stack.enter_context(socket.create_connection(web, timeout=60))
    connection.sendall(sent.encode())
    return connection


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def status_of(web: Address, path: str) -> int:
    with ExitStack() as stack:
        asked = opened(web, stack, HEAD.format("GET", path) + "Connection: close\r\n\r\n")
        return answer_of(asked)[0]


def test_unfinished_requests_hold_no_thread(web: Address, connections: ExitStack) -> None:
    for sent in UNFINISHED.values():
        for _ in range(10):
            opened(web, connections, sent)
    # Their time is far from over when these are answered, else the server would have ended them.
    assert [status_of(web, path) for path in ["/sign-in", "/healthz", "/"] * 5] == [
        200,
        200,
        302,
    ] * 5
    waiting = opened(web, connections, UNFINISHED["a head"])
    assert status_of(web, "/sign-in") == 200
    waiting.sendall(b"\r\n")
    assert answer_of(waiting)[0] == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_slow_uploads_of_users_keep_nobody_from_the_pages(
    web: Address, connections: ExitStack, portal: Portal
) -> None:
    token = portal.token(portal.make_user().email)
    head = HEAD.format("POST", "/api/v1/studies") + f"Authorization: Bearer {token}\r\n"
    sent = head + MULTIPART + "Content-Length: 500000\r\n\r\n--b\r\n"
    uploads = [opened(web, connections, sent) for _ in range(10)]
    assert [status_of(web, "/sign-in") for _ in range(5)] == [200] * 5
    ended, _writable, _failed = select.select(uploads, [], [], 0)
    assert not ended  # so it was not their end that made room


def test_strangers_get_an_answer_before_they_have_sent_it_all(
    web: Address, connections: ExitStack
) -> None:
    wanted = {"a large form": 413, "chunks": 411, "an upload": 302, "an upload in chunks": 401}
    for name, status in wanted.items():
        assert answer_of(opened(web, connections, UNFINISHED[name]))[0] == status, name


def test_requests_in_pieces_and_one_behind_the_other_are_answered(
    web: Address, connections: ExitStack
) -> None:
    connection = opened(web, connections)
    for piece in HEAD.format("GET", "/healthz") + "\r\n":
        connection.sendall(piece.encode())
    assert answer_of(connection)[0] == 200
    body = "email=a%40b.example&password=c"
    form = HEAD.format("POST", "/sign-in") + FORM + f"Content-Length: {len(body)}\r\n\r\n" + body
    last = HEAD.format("GET", "/healthz") + "Connection: close\r\n\r\n"
    connection.sendall((form + last).encode())
    # Read as one: both answers may arrive at once, and a reader of the first would keep the second.
    answers = connection.makefile("rb").read()
    assert answers.startswith(b"HTTP/1.1 400 ")  # without the token of the form
    assert answers.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 200 OK" in answers
    assert answers.endswith(b'{"status":"ok"}\n')


def test_a_body_that_waits_to_be_asked_for_is_asked_for(
    web: Address, connections: ExitStack
) -> None:
    connection = opened(web, connections, UNFINISHED["a form that waits"])
    assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"a" * 100)
    assert answer_of(connection)[0] == 400


def test_a_head_without_end_is_refused(web: Address, connections: ExitStack) -> None:
    connection = opened(web, connections, HEAD.format("GET", "/") + "X: " + "a" * 40_000)
    assert answer_of(connection)[0] == 431


@pytest.mark.parametrize("size", ["zz", "-1", "5;\x01", ""])
def test_a_bad_size_of_a_chunk_is_the_sender_s_fault(
    web: Address, connections: ExitStack, portal: Portal, size: str
) -> None:
    token = portal.token(portal.make_user().email)
    head = HEAD.format("POST", "/api/v1/studies") + f"Authorization: Bearer {token}\r\n"
    sent = head + MULTIPART + f"Transfer-Encoding: chunked\r\n\r\n{size}\r\n--b--\r\n0\r\n\r\n"
    assert answer_of(opened(web, connections, sent))[0] == 400
