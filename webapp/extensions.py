"""Flask extensions, bound in ``create_app``, and accessors for objects of the current app."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from flask import current_app
from flask_babel import Babel
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager
from flask_migrate import Migrate
from flask_wtf import CSRFProtect

from config import Settings
from ml.imaging import Room, footprint
from webapp.storage import BlobStore, Keeper

babel = Babel()
csrf = CSRFProtect()
limiter = Limiter(key_func=get_remote_address, headers_enabled=False)
login_manager = LoginManager()
migrate = Migrate()


def current_settings() -> Settings:
    """The settings of the current application."""
    return cast("Settings", current_app.extensions["settings"])


def current_room() -> Room:
    """This process's memory budget for decoding images."""
    return cast("Room", current_app.extensions["room"])


def current_blobs() -> BlobStore:
    """The blob store of the current application."""
    return cast("BlobStore", current_app.extensions["blobs"])


@contextmanager
def blob_to_read(key: str, blobs: Keeper | None = None) -> Iterator[bytes]:
    """Read a stored file and reserve memory for it and for one of its slices at a time.

    Raises:
        MissingBlob: there is no such file.
        UnreadableImage: ``too_many_pixels`` if it needs more than the whole budget.
        MemoryBusy: other work needed the memory for too long.
    """
    room = current_room()
    blobs = blobs or current_blobs()
    with room.taken(blobs.size(key)):
        content = blobs.get(key)
        with room.taken(footprint(content).reading):
            yield content
