"""What every answer carries, and what a form needs to be taken."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from config import Settings
from tests.conftest import make_settings
from tests.factories import Account, make_api_token
from webapp import create_app
from webapp.dicomweb.addresses import instance_url

SignIn = Callable[[Account], FlaskClient]
MakeUser = Callable[..., Account]

BEARER_PREFIXES = ("/api/", "/dicomweb/")


def post_rules(app: Flask) -> Iterator[str]:
    """An address for each page that takes a POST; services for programs know no cookie."""
    example = {"token": "t", "filename": "f"}
    for rule in app.url_map.iter_rules():
        if "POST" in (rule.methods or ()) and not rule.rule.startswith(BEARER_PREFIXES):
            values: dict[str, Any] = {
                name: example.get(name, "00000000-0000-0000-0000-000000000000")
                for name in rule.arguments
            }
            with app.test_request_context():
                yield app.url_for(rule.endpoint, **values)


@pytest.mark.parametrize("path", ["/sign-in", "/nowhere", "/static/css/sulcus.css", "/healthz"])
def test_every_answer_is_hardened(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "Strict-Transport-Security" not in headers


def test_pages_are_not_kept_by_caches(client: FlaskClient) -> None:
    assert client.get("/sign-in").headers["Cache-Control"] == "no-store"
    assert "no-store" not in client.get("/static/css/sulcus.css").headers["Cache-Control"]


def test_pages_hold_no_inline_script_style_or_foreign_address(client: FlaskClient) -> None:
    page = client.get("/sign-in").text
    assert "<style" not in page
    assert " style=" not in page
    assert "http://" not in page.replace("http://localhost", "")
    assert "https://" not in page
    assert all("src=" in tag for tag in page.split("<script")[1:])


def test_https_behind_a_proxy_is_believed_only_where_one_is_trusted(tmp_path: Path) -> None:
    for trusted in (0, 1):
        settings = make_settings(tmp_path, SULCUS_TRUSTED_PROXIES=str(trusted))
        answer = (
            create_app(settings)
            .test_client()
            .get("/healthz", headers={"X-Forwarded-Proto": "https"})
        )
        assert ("Strict-Transport-Security" in answer.headers) == bool(trusted)


def test_no_form_is_taken_without_its_token(app: Flask, client: FlaskClient) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    addresses = list(post_rules(app))
    assert len(addresses) >= 10
    for address in addresses:
        answer = client.post(address, data={})
        assert answer.status_code == 400, address
        assert "out of date" in answer.text


def test_a_form_is_taken_with_its_token(
    app: Flask, client: FlaskClient, make_user: Callable[..., Account]
) -> None:
    account = make_user()
    app.config["WTF_CSRF_ENABLED"] = True
    page = client.get("/sign-in").text
    token = page.partition('name="csrf_token"')[2].partition('value="')[2].partition('"')[0]
    values = {"email": account.email, "password": account.password, "csrf_token": token}
    assert client.post("/sign-in", data=values).status_code == 302


def test_the_session_cookie_is_out_of_reach_for_scripts(
    app: Flask, client: FlaskClient, make_user: Callable[..., Account]
) -> None:
    account = make_user()
    values = {"email": account.email, "password": account.password, "remember": "y"}
    cookies = client.post("/sign-in", data=values).headers.getlist("Set-Cookie")
    names = {cookie.partition("=")[0] for cookie in cookies}
    assert names == {"sulcus", "remember_token", "sulcus_device"}
    for cookie in cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie


def test_cookies_of_a_portal_behind_https_are_secure(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, SULCUS_PUBLIC_URL="https://sulcus.example.org")
    config = create_app(settings).config
    assert config["SESSION_COOKIE_SECURE"]
    assert config["REMEMBER_COOKIE_SECURE"]


def test_an_error_page_says_nothing_about_the_inside(client: FlaskClient) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.text
    assert "Traceback" not in answer.text


def test_errors_are_problems_for_those_who_ask_for_json(client: FlaskClient) -> None:
    answer = client.get("/nowhere", headers={"Accept": "application/json"})
    assert answer.content_type == "application/problem+json"
    problem = answer.get_json(force=True)
    assert (problem["status"], problem["title"]) == (404, "Not Found")


class TestHostNames:
    @pytest.fixture
    def visitor(self, settings: Settings) -> FlaskClient:
        return create_app(
            settings.model_copy(update={"trusted_hosts": ("sulcus.example.org",)})
        ).test_client()

    @pytest.mark.parametrize("path", ["/sign-in", "/dicomweb/studies", "/healthz", "/nowhere"])
    @pytest.mark.parametrize("host", ["evil.example", "a b", "sulcus.example.org.evil.example"])
    def test_that_are_not_ours_are_refused(
        self, visitor: FlaskClient, path: str, host: str
    ) -> None:
        answer = visitor.get(path, headers={"Host": host})
        assert answer.status_code == 400
        assert host not in answer.text

    @pytest.mark.parametrize("host", ["sulcus.example.org", "sulcus.example.org:8000", "127.0.0.1"])
    def test_that_are_ours_are_answered(self, visitor: FlaskClient, host: str) -> None:
        assert visitor.get("/sign-in", headers={"Host": host}).status_code == 200

    def test_are_not_repeated_by_dicomweb(self, app: Flask, make_user: MakeUser) -> None:
        _id, token = make_api_token(app, make_user())
        with app.test_request_context(headers={"Host": "evil.example"}):
            assert instance_url("1.2", "1.3", "1.4") == (
                "/dicomweb/studies/1.2/series/1.3/instances/1.4"
            )
        answer = app.test_client().get(
            "/dicomweb/studies",
            query_string={"PatientAge": "1"},
            headers={"Authorization": f"Bearer {token}", "Host": "evil.example"},
        )
        assert "evil" not in str(answer.headers) + answer.text
