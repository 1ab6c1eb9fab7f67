"""The web tier: pages and API. It never imports torch; only the worker does."""

from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from config import REPOSITORY, Settings
from ml.imaging import Room
from webapp import (
    errorpages,
    health,
    languages,
    logs,
    monitoring,
    queueing,
    security,
    staticfiles,
    storage,
    tracing,
    uploads,
    wording,
)
from webapp.accounts import guard, throttle
from webapp.accounts.sessions import SESSION_LASTS
from webapp.database import db
from webapp.extensions import csrf, limiter, migrate
from webapp.storage import open_store


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application. Requests need a database; startup needs no broker.

    Raises:
        InvalidSetting: a variable of the environment has an invalid value.
    """
    settings = settings or Settings.from_environment()
    app = Flask(__name__)
    logs.init_app(app, level=settings.log_level, log_format=settings.log_format)
    app.config.update(_flask_settings(settings))
    app.extensions["settings"] = settings
    app.extensions["room"] = Room(settings.max_decoding_bytes)
    app.extensions["blobs"] = open_store(settings)
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=count, x_proto=count, x_host=count
        )
    tracing.init_app(app, settings)  # first, so that every later log names its request
    db.init_app(app)
    migrate.init_app(app, db, directory=str(REPOSITORY / "migrations"), render_as_batch=True)
    uploads.init_app(app)
    csrf.init_app(app)
    limiter.init_app(app)
    throttle.init_app(app, settings)
    languages.init_app(app)
    wording.init_app(app)
    queueing.init_app(app, settings)
    security.init_app(app)
    staticfiles.init_app(app)
    errorpages.init_app(app)
    guard.init_app(app)
    health.init_app(app)
    monitoring.init_app(app)
    storage.init_app(app)
    _register_features(app)
    return app


def _flask_settings(settings: Settings) -> dict[str, Any]:
    sqlite = settings.database_url.startswith("sqlite")
    return {
        "SECRET_KEY": settings.secret_key,
        "SQLALCHEMY_DATABASE_URI": settings.database_url,
        # Statement errors are logged; their parameters contain patient data and password hashes.
        "SQLALCHEMY_ENGINE_OPTIONS": {"hide_parameters": True}
        | ({} if sqlite else {"pool_pre_ping": True, "pool_size": 10}),
        "MAX_CONTENT_LENGTH": uploads.LARGEST_OF_VISITORS,  # webapp.uploads raises it per endpoint
        "MAX_FORM_MEMORY_SIZE": 2**20,
        "MAX_FORM_PARTS": 2100,
        "SESSION_COOKIE_NAME": "sulcus",
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": settings.cookie_secure,
        "REMEMBER_COOKIE_HTTPONLY": True,
        "REMEMBER_COOKIE_SAMESITE": "Lax",
        "REMEMBER_COOKIE_SECURE": settings.cookie_secure,
        "REMEMBER_COOKIE_DURATION": SESSION_LASTS,
        # The session's database row decides (webapp.accounts.sessions); no cookie outlasts it.
        "PERMANENT_SESSION_LIFETIME": SESSION_LASTS,
        "WTF_CSRF_TIME_LIMIT": None,  # as long as the session, so that an open page can be sent
        "WTF_CSRF_SSL_STRICT": True,
        "RATELIMIT_STORAGE_URI": settings.limits_url,
        "RATELIMIT_STORAGE_OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
        "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED": True,  # per process
        "TRUSTED_HOSTS": _trusted_hosts(settings),
        "TEMPLATES_AUTO_RELOAD": False,
        "API_TITLE": "Sulcus",
        "API_VERSION": "v1",
        "OPENAPI_VERSION": "3.1.0",
    }


def _trusted_hosts(settings: Settings) -> list[str] | None:
    """None accepts every name. Health checks use the loopback names."""
    if not settings.trusted_hosts:
        return None
    return [*settings.trusted_hosts, "localhost", "127.0.0.1"]


def _register_features(app: Flask) -> None:
    # Imported here because they need the extensions.
    from webapp import (
        accounts,
        api,
        backup,
        corrections,
        demo,
        dicomweb,
        inference,
        intake,
        learning,
        model_page,
        models_admin,
        operating,
        pacs,
        plans,
        reading,
        reporting,
        review,
        rollout,
        viewer,
        watch,
        worklist,
    )

    features = (accounts, inference, intake, viewer, worklist, corrections, review, reporting)
    last = (watch, operating, model_page, dicomweb, api, demo, backup)
    for feature in (*features, plans, models_admin, learning, reading, rollout, pacs, *last):
        feature.init_app(app)
