"""The account pages, from the first run to the administration of users."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from config import Settings
from tests.conftest import make_settings
from tests.factories import Account, make_api_token
from webapp import create_app
from webapp.accounts.models import Invitation, Role, User
from webapp.database import db, now
from webapp.tenancy import unscoped

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
WRONG = "The e-mail address or password is incorrect."
FIRST = {
    "organisation": "Hospital",
    "name": "Anna",
    "email": "anna@hospital.example",
    "password": "correct horse staple",
    "password_again": "correct horse staple",
}


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/account").status_code == 200


def secret_in(page: str) -> str:
    """The value of the field that shows a new token or link."""
    found = re.search(r'readonly value="([^"]+)" autocomplete="off" spellcheck', page)
    assert found, page
    return found[1]


class TestFirstRun:
    def test_makes_the_administrator_and_signs_in(self, client: FlaskClient) -> None:
        assert "/first-run" in client.get("/sign-in").text
        assert client.get("/first-run").status_code == 200
        answer = client.post("/first-run", data=FIRST)
        assert (answer.status_code, answer.location) == (302, "/")
        assert client.get("/admin/users").status_code == 200

    def test_is_not_there_once_there_is_an_account(
        self, client: FlaskClient, make_user: MakeUser
    ) -> None:
        make_user()
        assert client.get("/first-run").status_code == 404
        assert client.post("/first-run", data=FIRST).status_code == 404
        assert "/first-run" not in client.get("/sign-in").text

    def test_shows_what_is_wrong_beside_the_field(self, client: FlaskClient) -> None:
        answer = client.post("/first-run", data={**FIRST, "password_again": "another"})
        assert answer.status_code == 422
        assert "The passwords do not match." in answer.text
        weak = {**FIRST, "password": "1234567890", "password_again": "1234567890"}
        answer = client.post("/first-run", data=weak)
        assert "very common" in answer.text
        assert "1234567890" not in answer.text


class TestSignIn:
    def sign_in(self, client: FlaskClient, account: Account, **values: str) -> int:
        data = {"email": account.email, "password": account.password, **values}
        return client.post("/sign-in", data=data).status_code

    def test_leads_to_the_worklist(self, client: FlaskClient, make_user: MakeUser) -> None:
        account = make_user()
        data = {"email": f" {account.email.upper()} ", "password": account.password}
        answer = client.post("/sign-in", data=data)
        assert (answer.status_code, answer.location) == (302, "/")
        assert is_signed_in(client)

    @pytest.mark.parametrize("email", ["known@x.example", "unknown@x.example", "nonsense"])
    def test_does_not_tell_what_was_wrong(
        self, client: FlaskClient, make_user: MakeUser, email: str
    ) -> None:
        make_user(email="known@x.example")
        answer = client.post("/sign-in", data={"email": email, "password": "wrong password"})
        assert answer.status_code == 422
        assert WRONG in answer.text
        assert "wrong password" not in answer.text

    def test_goes_on_to_where_the_visitor_wanted(
        self, client: FlaskClient, make_user: MakeUser
    ) -> None:
        account = make_user()
        answer = client.get("/history?label=glioma&status=done")
        assert answer.status_code == 302
        data = {"email": account.email, "password": account.password}
        assert client.post(answer.location, data=data).location == (
            "/history?label=glioma&status=done"
        )

    @pytest.mark.parametrize(
        "target",
        [
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/ok\r\nSet-Cookie: a=b",
            "javascript:alert(1)",
            "history",
            "",
        ],
    )
    def test_never_leads_to_another_site(
        self, client: FlaskClient, make_user: MakeUser, target: str
    ) -> None:
        account = make_user()
        data = {"email": account.email, "password": account.password}
        answer = client.post("/sign-in", data=data, query_string={"next": target})
        assert (answer.status_code, answer.location) == (302, "/")

    def test_begins_a_new_session_but_keeps_the_language(
        self, client: FlaskClient, make_user: MakeUser
    ) -> None:
        client.post("/language", data={"locale": "de"})
        with client.session_transaction() as session:
            session["planted"] = "by somebody else"
        self.sign_in(client, make_user())
        with client.session_transaction() as session:
            assert "planted" not in session
            assert session["locale"] == "de"

    def test_is_remembered_only_if_wanted(self, client: FlaskClient, make_user: MakeUser) -> None:
        account = make_user()
        for remember, expected in (("", False), ("y", True)):
            self.sign_in(client, account, remember=remember)
            client.delete_cookie("sulcus")
            assert is_signed_in(client) is expected

    def test_ends_with_signing_out(self, client: FlaskClient, make_user: MakeUser) -> None:
        self.sign_in(client, make_user(), remember="y")
        assert client.post("/sign-out").location == "/sign-in"
        assert not is_signed_in(client)

    def test_too_many_failures_have_to_wait(self, client: FlaskClient, make_user: MakeUser) -> None:
        account = make_user()
        statuses = [self.sign_in(client, account, password="wrong") for _ in range(11)]
        assert statuses == [422] * 10 + [429]
        assert self.sign_in(client, account) == 429

    def test_successes_do_not_count(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        assert {self.sign_in(app.test_client(), account) for _ in range(12)} == {302}


class TestLanguage:
    def test_of_a_visitor_lasts_as_long_as_the_session(self, client: FlaskClient) -> None:
        answer = client.post("/language", data={"locale": "de", "next": "/sign-in"})
        assert answer.location == "/sign-in"
        assert '<html lang="de"' in client.get("/sign-in").text

    def test_of_a_user_is_kept_with_the_account(
        self, client: FlaskClient, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        sign_in(account).post("/language", data={"locale": "de"})
        assert '<html lang="de"' in sign_in(account).get("/account").text

    def test_has_to_be_one_of_ours(self, client: FlaskClient) -> None:
        assert client.post("/language", data={"locale": "xx"}).status_code == 422


class TestPassword:
    def test_a_change_signs_out_the_other_devices_alone(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        here, elsewhere = sign_in(account), sign_in(account)
        values = {
            "current": account.password,
            "password": "a new sentence",
            "password_again": "a new sentence",
        }
        assert here.post("/account/password", data=values).location == "/account"
        assert is_signed_in(here)
        assert not is_signed_in(elsewhere)

    def test_a_wrong_current_one_is_told(self, make_user: MakeUser, sign_in: SignIn) -> None:
        values = {"current": "wrong", "password": "a new one!", "password_again": "a new one!"}
        answer = sign_in(make_user()).post("/account/password", data=values)
        assert answer.status_code == 422
        assert "The current password is incorrect." in answer.text


class TestToken:
    def test_is_shown_once_and_can_be_revoked(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        client = sign_in(make_user())
        answer = client.post("/account/tokens", data={"name": "PACS bridge"})
        assert answer.status_code == 200
        token = secret_in(answer.text)
        assert token.startswith("sulcus_")
        page = client.get("/account").text
        assert "PACS bridge" in page
        assert token not in page
        revoke = re.search(r'action="(/account/tokens/[^"]+/revoke)"', page)
        assert revoke
        assert client.post(revoke[1]).location == "/account"
        assert revoke[1] not in client.get("/account").text

    def test_of_a_colleague_is_not_found(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        token_id, _token = make_api_token(app, make_user())
        answer = sign_in(make_user(Role.ADMIN)).post(f"/account/tokens/{token_id}/revoke")
        assert answer.status_code == 404


class TestInvitation:
    ACCEPT = {
        "name": "New Colleague",
        "password": "another good one",
        "password_again": "another good one",
    }

    def invite(self, client: FlaskClient) -> str:
        values = {"email": "new@x.example", "role": "reviewer"}
        answer = client.post("/admin/invitations", data=values)
        assert answer.status_code == 200
        return secret_in(answer.text)

    def test_becomes_an_account(
        self, app: Flask, client: FlaskClient, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        link = self.invite(sign_in(make_user(Role.ADMIN)))
        assert link.startswith("http://localhost/invitations/")
        assert "new@x.example" in client.get(link).text
        assert client.post(link, data=self.ACCEPT).location == "/"
        assert "New Colleague" in client.get("/account").text
        assert app.test_client().get(link).status_code == 404

    def test_shows_what_is_wrong(
        self, client: FlaskClient, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        link = self.invite(sign_in(make_user(Role.ADMIN)))
        short = {**self.ACCEPT, "password": "short", "password_again": "short"}
        answer = client.post(link, data=short)
        assert answer.status_code == 422
        assert "at least 10 characters" in answer.text

    def test_is_a_link_to_the_public_address(self, app: Flask, make_user: MakeUser) -> None:
        admin = make_user(Role.ADMIN)
        settings: Settings = app.extensions["settings"]
        public = create_app(
            make_settings(
                settings.home,
                SULCUS_DATABASE_URL=settings.database_url,
                SULCUS_PUBLIC_URL="http://sulcus.example.org/",
            )
        )
        public.config["WTF_CSRF_ENABLED"] = False
        client = public.test_client()
        client.post("/sign-in", data={"email": admin.email, "password": admin.password})
        assert self.invite(client).startswith("http://sulcus.example.org/invitations/")

    def test_that_is_over_is_not_there(
        self, app: Flask, client: FlaskClient, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        link = self.invite(sign_in(make_user(Role.ADMIN)))
        with app.app_context(), unscoped():
            db.session.scalars(select(Invitation)).one().expires_at = now() - timedelta(days=1)
            db.session.commit()
        answer = client.post(link, data=self.ACCEPT)
        assert answer.status_code == 404
        assert "Ask for a new one." in answer.text

    def test_can_be_revoked(
        self, client: FlaskClient, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        admin = sign_in(make_user(Role.ADMIN))
        link = self.invite(admin)
        page = admin.get("/admin/users").text
        revoke = re.search(r'action="(/admin/invitations/[^"]+/revoke)"', page)
        assert revoke
        assert admin.post(revoke[1]).location == "/admin/users"
        assert client.get(link).status_code == 404


class TestUsers:
    def test_of_other_organisations_are_not_told_of(
        self, client: FlaskClient, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        make_user(email="anna@x.example", organisation="Hospital B")
        admin = sign_in(make_user(Role.ADMIN))
        shown = []
        for email in ("anna@x.example", "nobody@x.example"):
            answer = admin.post("/admin/invitations", data={"email": email, "role": "reviewer"})
            link = secret_in(answer.text)
            page = re.sub(r'value="[^"]+"|<time.*?</time>', "", answer.text)
            shown.append((answer.status_code, page.replace(email, "")))
            assert client.get(link).status_code == 200
            if email.startswith("anna"):
                accepted = client.post(link, data=TestInvitation.ACCEPT)
                assert accepted.status_code == 422
                assert "already an account" not in accepted.text
                revoke = re.search(r'action="(/admin/invitations/[^"]+/revoke)"', answer.text)
                assert revoke
                admin.post(revoke[1])
                admin.get("/admin/users")  # shows that it was revoked
        first, second = (re.sub(r"[0-9a-f-]{36}", "", page) for _status, page in shown)
        assert (shown[0][0], first) == (shown[1][0], second)

    def test_of_other_organisations_are_not_shown(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        make_user(organisation="Hospital B", name="Foreign Colleague")
        assert "Foreign Colleague" not in sign_in(make_user(Role.ADMIN)).get("/admin/users").text

    def test_who_are_closed_out_are_signed_out_at_once(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        victim, admin = sign_in(account), sign_in(make_user(Role.ADMIN))
        assert is_signed_in(victim)
        answer = admin.post(f"/admin/users/{account.id}", data={"role": "clinician"})
        assert answer.location == "/admin/users"
        assert not is_signed_in(victim)

    def test_the_last_administrator_stays(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user(Role.ADMIN)
        answer = sign_in(account).post(
            f"/admin/users/{account.id}", data={"role": "clinician", "is_active": "y"}
        )
        assert answer.status_code == 409
        assert "needs at least one active administrator" in answer.text
        with app.app_context(), unscoped():
            assert db.session.get_one(User, account.id).role is Role.ADMIN

    def test_an_administrator_who_steps_down_lands_on_the_worklist(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        make_user(Role.ADMIN)
        account = make_user(Role.ADMIN)
        values = {"role": "reviewer", "is_active": "y"}
        assert sign_in(account).post(f"/admin/users/{account.id}", data=values).location == "/"

    def test_an_unknown_role_is_refused(self, make_user: MakeUser, sign_in: SignIn) -> None:
        account = make_user(Role.ADMIN)
        answer = sign_in(account).post(f"/admin/users/{account.id}", data={"role": "owner"})
        assert answer.status_code == 422


def test_a_damaged_session_is_that_of_a_visitor(app: Flask, tmp_path: Path) -> None:
    client = app.test_client()
    for user_id in ("nonsense", "00000000-0000-0000-0000-000000000000.key", ".", ""):
        with client.session_transaction() as session:
            session["_user_id"] = user_id
        assert client.get("/account").status_code == 302
