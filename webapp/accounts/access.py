"""Access marks on views, enforced by :mod:`webapp.accounts.guard`.

A view without a mark requires a signed-in user. :func:`public` opens it to everybody,
:func:`requires` asks for a role.
"""

from collections.abc import Callable
from typing import TypeVar

from flask import current_app, g
from flask_babel import gettext as _

from webapp.accounts.models import Role, User
from webapp.errors import NotAllowed

View = TypeVar("View", bound=Callable[..., object])
DICOMWEB_PREFIX = "/dicomweb/"
# Paths for programs, which send a token and get problem documents.
API_PREFIX = ("/api/", DICOMWEB_PREFIX)


def public(view: View) -> View:
    """Open ``view`` to everybody."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def requires(role: Role) -> Callable[[View], View]:
    """Let only users whose role includes ``role`` call the view."""

    def mark(view: View) -> View:
        view.required_role = role  # type: ignore[attr-defined]
        return view

    return mark


def is_public(view: Callable[..., object]) -> bool:
    """Whether everybody may call ``view``; Flask's view of static files has no mark."""
    return getattr(view, "is_public", False) or view is current_app.view_functions.get("static")


def actor() -> User:
    """The user of the current request, signed in by cookie or token."""
    user: User = g.actor
    return user


def demand_role(user: User, role: Role) -> None:
    """Make sure that a user's role includes ``role``, wherever an operation is called from.

    Raises:
        NotAllowed: it does not.
    """
    if not user.may(role):
        raise NotAllowed(_("Your role does not allow this."))
