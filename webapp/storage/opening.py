"""The store that the settings name."""

from config import Settings
from webapp.storage.base import BlobStore
from webapp.storage.folder import FolderStore
from webapp.storage.guards import FolderGuard, Guard, PostgresGuard


def open_store(settings: Settings) -> BlobStore:
    """The store of an installation.

    Raises:
        InvalidSetting: its address or its credentials are wrong.
    """
    if not settings.storage_url.startswith("s3:"):
        return FolderStore(settings.storage_dir, settings.least_free_bytes)
    # The library of S3 takes a moment to import, and an installation with a folder needs none.
    from webapp.storage.s3 import S3Store

    store = S3Store(settings.storage_url, _guard(settings))
    store.check()
    return store


def _guard(settings: Settings) -> Guard:
    if settings.database_url.startswith("sqlite"):
        return FolderGuard(settings.home / "storing")
    return PostgresGuard(settings.database_url)
