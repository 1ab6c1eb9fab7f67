"""Who may call which view: marks on views, read by :mod:`webapp.accounts.guard`.

Without a mark a view wants a signed-in user. :func:`public` opens it, :func:`requires` asks for a
role.
"""

from collections.abc import Callable
from typing import TypeVar

from flask import current_app, g

from webapp.accounts.models import Role, User

View = TypeVar("View", bound=Callable[..., object])
DICOMWEB_PREFIX = "/dicomweb/"
# Whoever calls these is a program: it has a token, and is answered with problem documents.
API_PREFIX = ("/api/", DICOMWEB_PREFIX)


def public(view: View) -> View:
    """Let anybody call ``view``."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def requires(role: Role) -> Callable[[View], View]:
    """Let only users whose role includes ``role`` call the view."""

    def mark(view: View) -> View:
        view.required_role = role  # type: ignore[attr-defined]
        return view

    return mark


def is_public(view: Callable[..., object]) -> bool:
    """Whether anybody may call ``view``; what serves static files does not say so itself."""
    return getattr(view, "is_public", False) or view is current_app.view_functions.get("static")


def actor() -> User:
    """The user on whose behalf the request acts, by cookie or by token."""
    user: User = g.actor
    return user
