"""Guessing passwords is slow, whoever guesses and however; the owner of the account gets in."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from urllib.parse import urlsplit

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from config import Settings
from tests.broker import running_broker
from tests.factories import Account
from webapp import create_app
from webapp.accounts.throttle import Throttle

MakeUser = Callable[..., Account]


@pytest.fixture
def broker_url(redis_url: str) -> str:
    """A Redis that has not counted anything yet."""
    with redis.Redis(unix_socket_path=urlsplit(redis_url).path) as client:
        client.flushall()
    return redis_url


@pytest.fixture
def processes(settings: Settings, app: Flask) -> list[Flask]:
    """Four processes of one portal."""
    apps = [app, *(create_app(settings) for _ in range(3))]
    for one in apps:
        one.config["WTF_CSRF_ENABLED"] = False
    return apps


def attempt(app: Flask, email: str, password: str = "wrong", client: str = "192.0.2.1") -> int:
    browser = app.test_client()
    browser.environ_base["REMOTE_ADDR"] = client
    return sign_in(browser, email, password)


def sign_in(browser: FlaskClient, email: str, password: str) -> int:
    return browser.post("/sign-in", data={"email": email, "password": password}).status_code


def test_all_processes_count_together(processes: list[Flask], make_user: MakeUser) -> None:
    account = make_user()
    statuses = [attempt(processes[n % 4], account.email) for n in range(14)]
    assert statuses == [422] * 10 + [429] * 4


def test_tries_at_the_same_moment_do_not_slip_through(app: Flask, make_user: MakeUser) -> None:
    account, together = make_user(), Barrier(20)

    def one(_number: int) -> int:
        together.wait(timeout=30)
        return attempt(app, account.email)

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(one, range(20)))
    assert statuses.count(422) <= 10
    assert set(statuses) == {422, 429}


def test_every_spelling_of_an_address_counts(app: Flask, make_user: MakeUser) -> None:
    make_user(email="anna@x.example")
    spellings = ["anna@x.example", "ANNA@X.EXAMPLE", "\uff41nna@x.example", " anna@\uff58.example "]
    statuses = [attempt(app, spellings[n % 4]) for n in range(12)]
    assert statuses == [422] * 10 + [429] * 2


def test_somebody_elsewhere_does_not_lock_the_owner_out(app: Flask, make_user: MakeUser) -> None:
    account = make_user()
    for number in range(30):
        attempt(app, account.email, client=f"198.51.100.{number % 3}")
    assert attempt(app, account.email, client="198.51.100.1") == 429
    assert attempt(app, account.email, account.password, client="203.0.113.7") == 302


def test_a_known_device_gets_in_while_everywhere_guesses(app: Flask, make_user: MakeUser) -> None:
    account = make_user()
    browser = app.test_client()
    assert sign_in(browser, account.email, account.password) == 302
    browser.post("/sign-out")
    for number in range(101):
        last = attempt(app, account.email, client=f"198.51.100.{number}")
    assert last == 429
    assert attempt(app, account.email, account.password, client="203.0.113.9") == 429
    assert sign_in(browser, account.email, account.password) == 302


def test_a_device_of_somebody_else_is_not_known(app: Flask, make_user: MakeUser) -> None:
    owner, other = make_user(), make_user()
    browser = app.test_client()
    sign_in(browser, other.email, other.password)
    browser.post("/sign-out")
    cookie = browser.get_cookie("sulcus_device")
    assert cookie is not None
    assert owner.email not in cookie.decoded_value
    for _number in range(10):
        attempt(app, owner.email, client="127.0.0.1")
    assert sign_in(browser, owner.email, owner.password) == 429
    browser.set_cookie("sulcus_device", "nonsense")
    assert sign_in(browser, other.email, other.password) == 302


def test_a_known_device_guesses_no_faster(app: Flask, make_user: MakeUser) -> None:
    account, browser = make_user(), app.test_client()
    sign_in(browser, account.email, account.password)
    browser.post("/sign-out")
    statuses = [sign_in(browser, account.email, "wrong") for _ in range(11)]
    assert statuses == [422] * 10 + [429]


def test_the_answer_says_how_long_to_wait(app: Flask, make_user: MakeUser) -> None:
    account, browser = make_user(), app.test_client()
    for _ in range(10):
        sign_in(browser, account.email, "wrong")
    values = {"email": account.email, "password": "wrong"}
    answer = browser.post("/sign-in", data=values)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
    assert "Please wait a minute." in answer.text


@pytest.mark.parametrize("client", ["2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "", "unix:"])
def test_every_kind_of_client_can_sign_in(app: Flask, make_user: MakeUser, client: str) -> None:
    account = make_user()
    assert attempt(app, account.email, account.password, client=client) == 302


def test_one_network_of_ipv6_is_one_client(app: Flask, make_user: MakeUser) -> None:
    account = make_user()
    statuses = [attempt(app, account.email, client=f"2001:db8:0:1::{n}") for n in range(1, 12)]
    assert statuses == [422] * 10 + [429]


def test_without_redis_each_process_counts_by_itself(
    settings: Settings, make_user: MakeUser
) -> None:
    with running_broker() as broker:
        account = make_user()
        app = create_app(settings)
        app.config["WTF_CSRF_ENABLED"] = False
        app.extensions["throttle"] = Throttle(broker.url.replace("redis+socket", "redis+unix"))
        assert attempt(app, account.email) == 422
        broker.close()
        assert [attempt(app, account.email) for _ in range(11)] == [422] * 10 + [429]
        assert attempt(app, account.email, account.password, client="203.0.113.7") == 302
