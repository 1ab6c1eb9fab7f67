"""Access control, in one place before every request.

Pages accept only the session cookie, and paths for programs accept only tokens, so that another
site's page cannot call the API with a visitor's cookie. Many PACS cannot send bearer tokens, so
DICOMweb also accepts a token as the password of basic authentication.
"""

from flask import Flask, current_app, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user
from werkzeug.exceptions import Unauthorized

from webapp.accounts.access import API_PREFIX, DICOMWEB_PREFIX, demand_role, is_public
from webapp.accounts.models import Role, User
from webapp.accounts.operations import user_of_token
from webapp.accounts.sessions import user_of_session
from webapp.extensions import login_manager
from webapp.tenancy import set_request_scope

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def init_app(app: Flask) -> None:
    """Guard every view of ``app``."""
    login_manager.init_app(app)
    login_manager.user_loader(_load_user)
    app.before_request(_guard)


def _load_user(session_token: str) -> User | None:
    # Polling fragments do not count as use of the session; pages, forms and images do.
    polls = request.method == "GET" and "HX-Request" in request.headers
    return user_of_session(session_token, by_person=not polls)


def admit_visitor() -> bool:
    """Set the signed-in user as the request's actor; False if nobody is signed in.

    For code that answers before the guard, such as a form with an outdated CSRF token.
    """
    user = _signed_in()
    if user is None:
        return False
    g.actor = user
    set_request_scope(user.organisation_id)
    return True


def refuse_visitor() -> ResponseReturnValue | None:
    """The response to a person who may not call this request's view; None for all others.

    For code that must know this before the guard, such as whether to read a large body.

    Raises:
        Unauthorized, NotAllowed: for a program, or if the user's role is insufficient.
    """
    return _guard()


def _guard() -> ResponseReturnValue | None:
    if request.endpoint is None:
        return None  # no such URL: 404 for everybody
    view = current_app.view_functions[request.endpoint]
    is_api = request.path.startswith(API_PREFIX)
    if is_public(view) and is_api:
        return None  # whatever the token is
    user = _token_holder() if is_api else _signed_in()
    if user is not None:
        g.actor = user
        set_request_scope(user.organisation_id)
    if is_public(view):
        return None
    if user is None:
        if is_api:
            raise Unauthorized(gettext("A valid bearer token is required."))
        return _to_sign_in()
    demand_role(user, getattr(view, "required_role", Role.CLINICIAN))
    return None


def _signed_in() -> User | None:
    return current_user._get_current_object() if current_user.is_authenticated else None


def _token_holder() -> User | None:
    given = request.authorization
    if given is None:
        return None
    token = given.token if given.type == "bearer" else None
    if given.type == "basic" and request.path.startswith(DICOMWEB_PREFIX):
        token = given.password  # whatever the user name is
    writes = request.method not in _READING
    return user_of_token(token, writes=writes) if token else None


def _to_sign_in() -> ResponseReturnValue:
    """Redirect a visitor to the sign-in page; an htmx request gets 401 with HX-Redirect."""
    if request.headers.get("HX-Request"):
        return "", 401, {"HX-Redirect": url_for("accounts.sign_in")}
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("accounts.sign_in", next=wanted))
