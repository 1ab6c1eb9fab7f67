"""The web tier: pages and API. It never imports torch; the worker does that."""

import logging
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from config import REPOSITORY, Settings
from ml.imaging import Room
from webapp import (
    access,
    errorpages,
    languages,
    monitoring,
    queueing,
    security,
    storage,
    uploads,
    wording,
)
from webapp.database import db
from webapp.extensions import csrf, limiter, migrate
from webapp.storage import BlobStore


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application. Needs a database for requests, but no broker to start.

    Raises:
        InvalidSetting: the environment holds a wrong value.
    """
    settings = settings or Settings.from_environment()
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
    app = Flask(__name__)
    app.config.update(_flask_settings(settings))
    app.extensions["settings"] = settings
    app.extensions["room"] = Room(settings.max_decoding_bytes)
    app.extensions["blobs"] = BlobStore(settings.storage_dir)
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=count, x_proto=count, x_host=count
        )
    db.init_app(app)
    migrate.init_app(app, db, directory=str(REPOSITORY / "migrations"), render_as_batch=True)
    uploads.init_app(app)
    csrf.init_app(app)
    limiter.init_app(app)
    languages.init_app(app)
    wording.init_app(app)
    queueing.init_app(app, settings)
    security.init_app(app)
    errorpages.init_app(app)
    access.init_app(app)
    monitoring.init_app(app)
    storage.init_app(app)
    _register_features(app)
    return app


def _flask_settings(settings: Settings) -> dict[str, Any]:
    sqlite = settings.database_url.startswith("sqlite")
    return {
        "SECRET_KEY": settings.secret_key,
        "SQLALCHEMY_DATABASE_URI": settings.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": {} if sqlite else {"pool_pre_ping": True, "pool_size": 10},
        "MAX_CONTENT_LENGTH": uploads.LARGEST_OF_VISITORS,  # webapp.uploads says where it is more
        "MAX_FORM_MEMORY_SIZE": 2**20,
        "MAX_FORM_PARTS": 2100,
        "SESSION_COOKIE_NAME": "sulcus",
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": settings.cookie_secure,
        "REMEMBER_COOKIE_HTTPONLY": True,
        "REMEMBER_COOKIE_SAMESITE": "Lax",
        "REMEMBER_COOKIE_SECURE": settings.cookie_secure,
        "REMEMBER_COOKIE_DURATION": 14 * 24 * 3600,
        "PERMANENT_SESSION_LIFETIME": 12 * 3600,
        "WTF_CSRF_TIME_LIMIT": None,  # as long as the session: a page left open can be sent
        "WTF_CSRF_SSL_STRICT": True,
        "RATELIMIT_STORAGE_URI": "memory://",
        "TEMPLATES_AUTO_RELOAD": False,
        "API_TITLE": "Sulcus",
        "API_VERSION": "v1",
        "OPENAPI_VERSION": "3.1.0",
    }


def _register_features(app: Flask) -> None:
    # Bound here: they need the extensions.
    from webapp import accounts, api, demo, dicomweb, pacs, reporting, review, studies

    for feature in (accounts, studies, review, reporting, pacs, dicomweb, api, demo):
        feature.init_app(app)
