"""Who may call which view, decided in one place before every request.

Pages know the session cookie alone, and what programs call knows tokens alone, so that a page of
another site cannot use the API with a visitor's cookie. Many picture archives know no bearer
tokens: DICOMweb takes a token as the password of basic authentication, too.
"""

from flask import Flask, current_app, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user
from werkzeug.exceptions import Unauthorized

from webapp.accounts.access import API_PREFIX, DICOMWEB_PREFIX, is_public
from webapp.accounts.models import Role, User
from webapp.accounts.operations import user_of_token
from webapp.accounts.sessions import user_of_session
from webapp.errors import NotAllowed
from webapp.extensions import login_manager
from webapp.tenancy import set_request_scope

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def init_app(app: Flask) -> None:
    """Guard every view of ``app``."""
    login_manager.init_app(app)
    login_manager.user_loader(_load_user)
    app.before_request(_guard)


def _load_user(session_token: str) -> User | None:
    # Fragments poll while nobody sits there; pages, forms and images are asked for by somebody.
    polls = request.method == "GET" and "HX-Request" in request.headers
    return user_of_session(session_token, by_person=not polls)


def admit_visitor() -> bool:
    """Let the request act for the person who has signed in; False where nobody has.

    For what answers ahead of the guard, such as a form whose token is out of date.
    """
    user = _signed_in()
    if user is None:
        return False
    g.actor = user
    set_request_scope(user.organisation_id)
    return True


def refuse_visitor() -> ResponseReturnValue | None:
    """What a person gets who may not call the view of this request; None for all others.

    For what has to know it ahead of the guard, such as whether to read a large body.

    Raises:
        Unauthorized, NotAllowed: instead of an answer, where programs call or a role is missing.
    """
    return _guard()


def _guard() -> ResponseReturnValue | None:
    if request.endpoint is None:
        return None  # no such address: 404 for everybody
    view = current_app.view_functions[request.endpoint]
    is_api = request.path.startswith(API_PREFIX)
    if is_public(view) and is_api:
        return None  # whatever the token
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
    role: Role = getattr(view, "required_role", Role.CLINICIAN)
    if not user.may(role):
        raise NotAllowed(gettext("Your role does not allow this."))
    return None


def _signed_in() -> User | None:
    return current_user._get_current_object() if current_user.is_authenticated else None


def _token_holder() -> User | None:
    given = request.authorization
    if given is None:
        return None
    token = given.token if given.type == "bearer" else None
    if given.type == "basic" and request.path.startswith(DICOMWEB_PREFIX):
        token = given.password  # whatever the user name
    writes = request.method not in _READING
    return user_of_token(token, writes=writes) if token else None


def _to_sign_in() -> ResponseReturnValue:
    """Send a visitor to the sign-in page; a script that polls gets 401 and a place to go to."""
    if request.headers.get("HX-Request"):
        return "", 401, {"HX-Redirect": url_for("accounts.sign_in")}
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("accounts.sign_in", next=wanted))
