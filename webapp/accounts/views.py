"""Pages for signing in, for the user's own account, and for an organisation's users."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_login import COOKIE_NAME, current_user, login_user, logout_user
from flask_wtf import FlaskForm

from webapp.accounts import access, operations, queries, sessions, throttle
from webapp.accounts.checks import checked_language
from webapp.accounts.devices import Device, device_of
from webapp.accounts.forms import (
    AcceptInvitationForm,
    ChangeUserForm,
    FirstRunForm,
    InviteForm,
    PasswordForm,
    ReadingForm,
    SignInForm,
    TokenForm,
)
from webapp.accounts.models import Role, User
from webapp.errors import Conflict, InvalidInput
from webapp.extensions import current_settings, limiter
from webapp.formerrors import CheckedForm

blueprint = Blueprint("accounts", __name__)


@blueprint.route("/first-run", methods=["GET", "POST"])
@access.public
def first_run() -> ResponseReturnValue:
    """Create the first account; 404 once an account exists."""
    if not queries.no_account_yet():
        abort(404)
    form = FirstRunForm()
    with _errors_shown_in(form):
        if form.validate_on_submit():
            with _counted(throttle.rules_of_secret(request, "first run")):
                user = operations.create_first_account(
                    organisation=form.organisation.data,
                    name=form.name.data,
                    email=form.email.data,
                    password=form.password.data,
                )
            sessions.open_session(user=user, device=_device())
            return _signed_in(user)
    return render_template("accounts/first_run.html", form=form), _status(form)


@blueprint.route("/sign-in", methods=["GET", "POST"])
@access.public
def sign_in() -> ResponseReturnValue:
    """Sign in, then redirect to the page that the visitor wanted."""
    target = _local_address(request.args.get("next"))
    if current_user.is_authenticated:
        return redirect(target)
    form = SignInForm()
    with _errors_shown_in(form):
        if form.validate_on_submit():
            with _counted(throttle.rules_of_sign_in(request, form.email.data)):
                user = operations.sign_in(
                    email=form.email.data,
                    password=form.password.data,
                    is_remembered=form.remember.data,
                    device=_device(),
                )
            return _signed_in(user, remember=form.remember.data, target=target)
    page = render_template(
        "accounts/sign_in.html", form=form, no_account_yet=queries.no_account_yet()
    )
    return page, _status(form)


@blueprint.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """End the session on this device."""
    sessions.sign_out(user=access.actor())
    return _signed_out()


@blueprint.post("/account/sign-out-everywhere")
def sign_out_everywhere() -> ResponseReturnValue:
    """End the sessions on all devices, including this one."""
    sessions.sign_out_everywhere(user=access.actor())
    return _signed_out()


@blueprint.post("/account/sessions/<uuid:session_id>/end")
def end_session(session_id: uuid.UUID) -> ResponseReturnValue:
    """End one of the user's own sessions."""
    sessions.end_session(user=access.actor(), session_id=session_id)
    flash(_("The device has been signed out."), "success")
    return redirect(url_for("accounts.account"))


@blueprint.post("/account/sessions/end-others")
def end_other_sessions() -> ResponseReturnValue:
    """End the sessions on all other devices."""
    sessions.end_other_sessions(user=access.actor())
    flash(_("All other devices have been signed out."), "success")
    return redirect(url_for("accounts.account"))


@blueprint.route("/invitations/<token>", methods=["GET", "POST"])
@access.public
def accept_invitation(token: str) -> ResponseReturnValue:
    """Create the account that an invitation is for."""
    form = AcceptInvitationForm()
    with _errors_shown_in(form):
        if form.validate_on_submit():
            with _counted(throttle.rules_of_secret(request, "invitation")):
                user = operations.accept_invitation(
                    token=token, name=form.name.data, password=form.password.data
                )
            sessions.open_session(user=user, device=_device())
            return _signed_in(user)
    invitation = queries.find_invitation(token)
    page = render_template("accounts/accept_invitation.html", form=form, invitation=invitation)
    return page, _status(form)


@blueprint.post("/language")
@access.public
def choose_language() -> ResponseReturnValue:
    """Store the language with the user or, for a visitor, in the session."""
    locale = checked_language(request.form.get("locale", ""))
    if current_user.is_authenticated:
        operations.choose_language(user=access.actor(), locale=locale)
    else:
        session["locale"] = locale
    return redirect(_local_address(request.form.get("next")))


@blueprint.get("/account")
def account() -> ResponseReturnValue:
    """The user's own password, devices and tokens."""
    return _account_page()


@blueprint.post("/account/password")
def change_password() -> ResponseReturnValue:
    """Change the password; signs out all other devices and revokes all tokens."""
    user, form = access.actor(), PasswordForm()
    with _errors_shown_in(form):
        if form.validate_on_submit():
            with _counted(throttle.rules_of_secret(request, "password", str(user.id))):
                operations.change_password(
                    user=user, current=form.current.data, new=form.password.data
                )
            remembered = current_app.config.get("REMEMBER_COOKIE_NAME", COOKIE_NAME)
            remember = remembered in request.cookies
            sessions.open_session(user=user, is_remembered=remember, device=_device())
            answer = _signed_in(user, remember=remember, target=url_for("accounts.account"))
            flash(_("Your password has been changed."), "success")
            return answer
    return _account_page(password_form=form)


@blueprint.post("/account/tokens")
def create_token() -> ResponseReturnValue:
    """Create a token and show it once."""
    form, new_token = TokenForm(), None
    with _errors_shown_in(form):
        if form.validate_on_submit():
            _row, new_token = operations.create_token(
                user=access.actor(),
                name=form.name.data,
                days=form.days.data,
                scope=form.scope.data,
            )
            form = TokenForm(formdata=None)
    return _account_page(token_form=form, new_token=new_token)


@blueprint.post("/account/tokens/<uuid:token_id>/revoke")
def revoke_token(token_id: uuid.UUID) -> ResponseReturnValue:
    """Revoke one of the user's own tokens."""
    operations.revoke_token(user=access.actor(), token_id=token_id)
    flash(_("The token has been revoked."), "success")
    return redirect(url_for("accounts.account"))


@blueprint.get("/admin/users")
@access.requires(Role.ADMIN)
def users() -> ResponseReturnValue:
    """The organisation's users and open invitations."""
    return _users_page()


@blueprint.post("/admin/invitations")
@access.requires(Role.ADMIN)
@limiter.limit("100/hour")
def invite() -> ResponseReturnValue:
    """Create an invitation and show its link once."""
    form, url = InviteForm(), None
    with _errors_shown_in(form):
        if form.validate_on_submit():
            _row, token = operations.invite(
                actor=access.actor(), email=form.email.data, role=form.role.data
            )
            form, url = InviteForm(formdata=None), _invitation_url(token)
    return _users_page(invite_form=form, invitation_url=url)


@blueprint.post("/admin/invitations/<uuid:invitation_id>/revoke")
@access.requires(Role.ADMIN)
def revoke_invitation(invitation_id: uuid.UUID) -> ResponseReturnValue:
    """Revoke an invitation."""
    operations.revoke_invitation(actor=access.actor(), invitation_id=invitation_id)
    flash(_("The invitation has been revoked."), "success")
    return redirect(url_for("accounts.users"))


@blueprint.post("/admin/reading")
@access.requires(Role.ADMIN)
def change_reading() -> ResponseReturnValue:
    """Set how the organisation's readers work."""
    form = ReadingForm()
    if not form.validate():
        return _users_page(reading_form=form)
    operations.set_reading(
        actor=access.actor(),
        blind_reading=bool(form.blind_reading.data),
        blind_share=form.blind_share.data,
    )
    flash(_("Saved."), "success")
    return redirect(url_for("accounts.users"))


@blueprint.post("/admin/users/<uuid:user_id>")
@access.requires(Role.ADMIN)
def change_user(user_id: uuid.UUID) -> ResponseReturnValue:
    """Set a user's role, and whether the account is active."""
    actor, form = access.actor(), ChangeUserForm()
    if not form.validate():
        raise InvalidInput(_("There is no such role."))
    try:
        user = operations.change_user(
            actor=actor, user_id=user_id, role=form.role.data, is_active=form.is_active.data
        )
    except Conflict as error:
        flash(error.message, "error")
        page, _status_of_forms = _users_page()
        return page, error.status
    flash(_("The changes to %(name)s have been saved.", name=user.name), "success")
    # A user who gave up the role can no longer open the user list.
    return redirect(url_for("accounts.users" if actor.may(Role.ADMIN) else "worklist.index"))


def _account_page(
    *,
    password_form: PasswordForm | None = None,
    token_form: TokenForm | None = None,
    new_token: str | None = None,
) -> tuple[str, int]:
    password_form = password_form or PasswordForm(formdata=None)
    token_form = token_form or TokenForm(formdata=None)
    user = access.actor()
    page = render_template(
        "accounts/account.html",
        password_form=password_form,
        token_form=token_form,
        tokens=queries.list_tokens(user),
        devices=[(row, sessions.is_acted_in(row, user)) for row in sessions.list_sessions(user)],
        new_token=new_token,
    )
    return page, _status(password_form, token_form)


def _users_page(
    *,
    invite_form: InviteForm | None = None,
    invitation_url: str | None = None,
    reading_form: ReadingForm | None = None,
) -> tuple[str, int]:
    invite_form = invite_form or InviteForm(formdata=None)
    reading_form = reading_form or ReadingForm(formdata=None, obj=access.actor().organisation)
    page = render_template(
        "accounts/users.html",
        users=queries.list_users(),
        invitations=queries.list_invitations(),
        invite_form=invite_form,
        invitation_url=invitation_url,
        reading_form=reading_form,
    )
    return page, _status(invite_form, reading_form)


@contextmanager
def _errors_shown_in(form: CheckedForm) -> Iterator[None]:
    """Show an operation's errors beside the fields of the form."""
    try:
        yield
    except (InvalidInput, Conflict) as error:
        form.show(error)


def _status(*forms: FlaskForm) -> int:
    return 422 if any(form.errors for form in forms) else 200


@contextmanager
def _counted(rules: list[throttle.Rule]) -> Iterator[None]:
    """Count an attempt before it is made; undo that if it succeeds."""
    counters = throttle.current_throttle()
    counters.count(rules)
    yield
    counters.give_back(rules)


def _signed_in(user: User, *, remember: bool = False, target: str | None = None) -> Response:
    # Clear the previous session, which somebody else may have prepared (session fixation).
    _forget_session()
    login_user(user, remember=remember)
    answer = cast("Response", redirect(target or url_for("worklist.index")))
    throttle.remember_device(request, answer, user.email)
    return answer


def _device() -> Device:
    return device_of(request.user_agent.string)


def _signed_out() -> ResponseReturnValue:
    _forget_session()
    logout_user()
    return redirect(url_for("accounts.sign_in"))


def _forget_session() -> None:
    """Clear the session but keep the visitor's language."""
    locale = session.get("locale")
    session.clear()
    if locale:
        session["locale"] = locale


def _local_address(wanted: str | None) -> str:
    """``wanted`` if it is a path on this site, else the worklist.

    Strict, because browsers read a backslash as a slash and skip tabs and line breaks.
    """
    local = wanted is not None and re.fullmatch(r"/(?![/\\])[^\\]*", wanted)
    return wanted if wanted and local and wanted.isprintable() else url_for("worklist.index")


def _invitation_url(token: str) -> str:
    settings = current_settings()
    path = url_for("accounts.accept_invitation", token=token)
    return (settings.public_url or request.host_url.rstrip("/")) + path
