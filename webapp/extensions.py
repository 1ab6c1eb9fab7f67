"""Flask extensions, created bare and bound in ``create_app``, and what else an application has."""

from typing import cast

from flask import current_app
from flask_babel import Babel
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager
from flask_migrate import Migrate
from flask_wtf import CSRFProtect

from config import Settings
from ml.imaging import Room
from webapp.storage import BlobStore

babel = Babel()
csrf = CSRFProtect()
limiter = Limiter(key_func=get_remote_address, headers_enabled=False)
login_manager = LoginManager()
migrate = Migrate()


def current_settings() -> Settings:
    """The settings of the application acted in."""
    return cast("Settings", current_app.extensions["settings"])


def current_room() -> Room:
    """What this process has to decode pictures in."""
    return cast("Room", current_app.extensions["room"])


def current_blobs() -> BlobStore:
    """The blobs of the application acted in."""
    return cast("BlobStore", current_app.extensions["blobs"])
