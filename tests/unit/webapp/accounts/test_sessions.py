"""A cookie is worth something only while the server knows its session."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from tests.factories import Account, make_api_token
from webapp.accounts.models import ApiToken, Role, UserSession
from webapp.database import db, now
from webapp.tenancy import unscoped

MakeUser = Callable[..., Account]
COOKIES = ("sulcus", "remember_token")
NEW = {"password": "a new sentence", "password_again": "a new sentence"}


def signed_in(app: Flask, account: Account) -> FlaskClient:
    client = app.test_client()
    values = {"email": account.email, "password": account.password, "remember": "y"}
    assert client.post("/sign-in", data=values).status_code == 302
    return client


def copies(app: Flask, client: FlaskClient) -> list[FlaskClient]:
    """Browsers of a thief: one has the session cookie, one the remember cookie."""
    thieves = []
    for name in COOKIES:
        cookie = client.get_cookie(name)
        assert cookie is not None
        thief = app.test_client()
        thief.set_cookie(name, cookie.value)
        thieves.append(thief)
    return thieves


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/account").status_code == 200


def age(app: Flask, **values: object) -> None:
    """Set columns of all sessions."""
    with app.app_context(), unscoped():
        db.session.execute(update(UserSession).values(**values))
        db.session.commit()


def last_use(app: Flask) -> timedelta:
    with app.app_context(), unscoped():
        return now() - db.session.scalars(select(UserSession.last_seen_at)).one()


def sign_out(client: FlaskClient, _account: Account, _admin: FlaskClient) -> None:
    client.post("/sign-out")


def sign_out_everywhere(_client: FlaskClient, account: Account, admin: FlaskClient) -> None:
    other = signed_in(admin.application, account)
    assert other.post("/account/sign-out-everywhere").location == "/sign-in"


def change_password(client: FlaskClient, account: Account, _admin: FlaskClient) -> None:
    values = {"current": account.password, **NEW}
    assert client.post("/account/password", data=values).status_code == 302


def close_account(_client: FlaskClient, account: Account, admin: FlaskClient) -> None:
    for values in ({"role": "clinician"}, {"role": "clinician", "is_active": "y"}):
        assert admin.post(f"/admin/users/{account.id}", data=values).status_code == 302


@pytest.mark.parametrize("end", [sign_out, sign_out_everywhere, change_password, close_account])
def test_no_copy_of_a_cookie_works_any_longer(
    app: Flask, make_user: MakeUser, end: Callable[..., None]
) -> None:
    admin, account = signed_in(app, make_user(Role.ADMIN)), make_user()
    client = signed_in(app, account)
    for thief in copies(app, client):
        assert is_signed_in(thief)
    thieves = copies(app, client)
    end(client, account, admin)
    assert [is_signed_in(thief) for thief in thieves] == [False, False]
    assert is_signed_in(client) is (end is change_password)
    assert is_signed_in(admin)


def test_signing_out_leaves_the_other_devices(app: Flask, make_user: MakeUser) -> None:
    account = make_user()
    here, elsewhere = signed_in(app, account), signed_in(app, account)
    here.post("/sign-out")
    assert not is_signed_in(here)
    assert is_signed_in(elsewhere)


def test_a_session_that_nobody_uses_ends(
    app: Flask, make_user: MakeUser, sign_in: Callable[[Account], FlaskClient]
) -> None:
    client = sign_in(make_user())
    age(app, last_seen_at=now() - timedelta(hours=11, minutes=59))
    assert is_signed_in(client)
    assert last_use(app) < timedelta(minutes=1)
    age(app, last_seen_at=now() - timedelta(hours=12, minutes=1))
    assert not is_signed_in(client)


def test_a_page_that_polls_does_not_keep_the_session_open(
    app: Flask, make_user: MakeUser, sign_in: Callable[[Account], FlaskClient]
) -> None:
    client = sign_in(make_user())
    age(app, last_seen_at=now() - timedelta(hours=11))
    assert client.get("/", headers={"HX-Request": "true"}).status_code == 200
    assert last_use(app) > timedelta(hours=10)


def test_a_remembered_session_ends_after_two_weeks(app: Flask, make_user: MakeUser) -> None:
    client = signed_in(app, make_user())
    age(app, last_seen_at=now() - timedelta(days=13))
    assert is_signed_in(client)
    age(app, expires_at=now())
    assert not is_signed_in(client)
    assert not any(map(is_signed_in, copies(app, client)))


def test_only_the_hash_of_a_cookie_is_kept(app: Flask, make_user: MakeUser) -> None:
    client = signed_in(app, make_user())
    with client.session_transaction() as session:
        token = session["_user_id"]
    with app.app_context(), unscoped():
        row = db.session.execute(select(UserSession.__table__)).one()
    assert token not in str(row)


def test_sessions_that_ended_are_forgotten_at_the_next_sign_in(
    app: Flask, make_user: MakeUser
) -> None:
    account = make_user()
    signed_in(app, account)
    age(app, expires_at=now())
    signed_in(app, account)
    with app.app_context(), unscoped():
        assert len(db.session.scalars(select(UserSession)).all()) == 1


FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPAD = (
    "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)


def from_device(app: Flask, account: Account, user_agent: str) -> FlaskClient:
    """A browser in which the account has signed in, of a kind of device."""
    client = app.test_client()
    values = {"email": account.email, "password": account.password}
    answer = client.post("/sign-in", data=values, headers={"User-Agent": user_agent})
    assert answer.status_code == 302
    return client


def buttons(page: str) -> list[tuple[str, str]]:
    """Where each button leads that ends one session, and what it is called."""
    pattern = r'action="(/account/sessions/[0-9a-f-]{36}/end)".*?aria-label="([^"]+)"'
    return re.findall(pattern, page)


class TestListOfDevices:
    def test_names_each_and_marks_this_one(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        from_device(app, account, IPAD)
        page = from_device(app, account, FIREFOX).get("/account").text
        assert re.search(r"Firefox on Windows\s*<span[^>]*>.*?this device", page)
        assert [name for _action, name in buttons(page)] == ["Sign out the device Safari on iPad"]

    def test_ends_one_and_leaves_the_others(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        lost, kept = from_device(app, account, IPAD), from_device(app, account, "curl/8")
        here = from_device(app, account, FIREFOX)
        ends = {name: action for action, name in buttons(here.get("/account").text)}
        assert set(ends) == {
            f"Sign out the device {n}" for n in ("Safari on iPad", "Unknown device")
        }
        action = ends["Sign out the device Safari on iPad"]
        assert here.post(action).location == "/account"
        assert [is_signed_in(each) for each in (lost, kept, here)] == [False, True, True]
        assert here.post(action).status_code == 404

    def test_ends_all_others(self, app: Flask, make_user: MakeUser) -> None:
        account, colleague = make_user(), signed_in(app, make_user())
        others = [signed_in(app, account), from_device(app, account, IPAD)]
        here = from_device(app, account, FIREFOX)
        assert here.post("/account/sessions/end-others").location == "/account"
        page = here.get("/account").text
        assert not any(map(is_signed_in, others))
        assert is_signed_in(colleague)
        assert "All other devices have been signed out." in page
        assert "end-others" not in page

    def test_ends_no_session_of_somebody_else(self, app: Flask, make_user: MakeUser) -> None:
        victim = signed_in(app, make_user())
        with app.app_context(), unscoped():
            session_id = db.session.scalars(select(UserSession.id)).one()
        action = f"/account/sessions/{session_id}/end"
        assert signed_in(app, make_user(Role.ADMIN)).post(action).status_code == 404
        assert app.test_client().post(action).location.startswith("/sign-in")
        assert is_signed_in(victim)

    def test_leaves_out_what_has_ended(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        from_device(app, account, IPAD)
        age(app, last_seen_at=now() - timedelta(days=2))
        assert not buttons(from_device(app, account, FIREFOX).get("/account").text)

    def test_takes_nothing_from_the_header_but_the_family(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        hostile = "<script>Zebrafink</script> Firefox/1 Linux " + "x" * 5_000
        page = from_device(app, make_user(), hostile).get("/account").text
        assert "Firefox on Linux" in page
        assert "Zebrafink" not in page
        with app.app_context(), unscoped():
            assert "Zebrafink" not in str(db.session.execute(select(UserSession.__table__)).one())


class TestTokensOfTheApi:
    def test_that_has_expired_is_told_so(self, app: Flask, make_user: MakeUser) -> None:
        token_id, token = make_api_token(app, make_user())
        with app.app_context(), unscoped():
            db.session.get_one(ApiToken, token_id).expires_at = now()
            db.session.commit()
        headers = {"Authorization": f"Bearer {token}"}
        for path in ("/api/v1/studies", "/dicomweb/studies"):
            answer = app.test_client().get(path, headers=headers)
            assert answer.status_code == 401
            assert "Bearer" in answer.headers["WWW-Authenticate"]
            assert "expired" in answer.text
        described = app.test_client().get("/api/v1/openapi.json", headers=headers)
        assert described.status_code == 200

    def test_may_be_chosen_to_read_alone(
        self, app: Flask, make_user: MakeUser, sign_in: Callable[[Account], FlaskClient]
    ) -> None:
        client = sign_in(make_user())
        values = {"name": "viewer", "scope": "read", "days": "30"}
        page = client.post("/account/tokens", data=values).text
        found = re.search(r'value="(sulcus_[^"]+)"', page)
        assert found
        headers = {"Authorization": f"Bearer {found[1]}"}
        assert app.test_client().get("/api/v1/studies", headers=headers).status_code == 200
        for path in ("/api/v1/studies", "/dicomweb/studies"):
            answer = app.test_client().post(path, headers=headers)
            assert answer.status_code == 403
            assert "may only read" in answer.text

    @pytest.mark.parametrize("values", [{"days": "3650"}, {"scope": "admin"}, {"days": "x"}])
    def test_no_other_choice_is_taken(
        self, make_user: MakeUser, sign_in: Callable[[Account], FlaskClient], values: dict[str, str]
    ) -> None:
        client = sign_in(make_user())
        answer = client.post("/account/tokens", data={"name": "bridge", **values})
        assert answer.status_code == 422
        assert "sulcus_" not in answer.text
