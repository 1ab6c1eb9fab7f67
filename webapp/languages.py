"""Which language a page speaks: the user's choice, else the browser's wish, else English."""

from flask import Flask, has_request_context, request, session
from flask_babel import get_locale
from flask_login import current_user

from webapp.extensions import babel

LANGUAGES: dict[str, str] = {
    "en": "English",
    "de": "Deutsch",
    "es": "Español",
    "fr": "Français",
}


def choose_locale() -> str:
    """Pick one of :data:`LANGUAGES` for this request."""
    if not has_request_context():
        return "en"  # commands and tasks
    chosen = getattr(current_user, "locale", None) or session.get("locale")
    if chosen in LANGUAGES:
        return str(chosen)
    return browser_locale()


def browser_locale() -> str:
    """The language that the browser wishes for; asks nobody else."""
    return request.accept_languages.best_match(list(LANGUAGES)) or "en"


def current_locale() -> str:
    """The language that this page speaks."""
    return str(get_locale() or "en")


def init_app(app: Flask) -> None:
    """Bind translation and tell templates the languages."""
    babel.init_app(
        app, locale_selector=choose_locale, default_translation_directories="translations"
    )
    app.jinja_env.globals.update(LANGUAGES=LANGUAGES, current_locale=current_locale)
