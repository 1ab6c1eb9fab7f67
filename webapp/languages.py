"""The language of a page: the user's choice, else the browser's preference, else English."""

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
# Locale for dates and numbers, if it is not the language code itself: the portal's English is
# British, so that the day comes before the month.
_REGIONS: dict[str, str] = {"en": "en_GB"}


def choose_locale() -> str:
    """The locale of one of :data:`LANGUAGES` for this request."""
    if not has_request_context():
        return _locale_of("en")  # commands and tasks
    chosen = getattr(current_user, "locale", None) or session.get("locale")
    if chosen in LANGUAGES:
        return _locale_of(str(chosen))
    return browser_locale()


def browser_locale() -> str:
    """The locale that the browser prefers; does not use the database."""
    return _locale_of(request.accept_languages.best_match(list(LANGUAGES)) or "en")


def current_language() -> str:
    """The language of this page, one of :data:`LANGUAGES`."""
    locale = str(get_locale() or "en")
    return next((code for code in LANGUAGES if locale in (code, _locale_of(code))), locale)


def language_tag() -> str:
    """The current language with its region as a BCP 47 tag, such as "en-GB"."""
    return _locale_of(current_language()).replace("_", "-")


def _locale_of(language: str) -> str:
    return _REGIONS.get(language, language)


def init_app(app: Flask) -> None:
    """Bind Babel and give templates the languages."""
    babel.init_app(
        app, locale_selector=choose_locale, default_translation_directories="translations"
    )
    app.jinja_env.globals.update(
        LANGUAGES=LANGUAGES, current_language=current_language, language_tag=language_tag
    )
