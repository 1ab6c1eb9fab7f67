"""Where slices, heatmaps and files of models are kept, named by their SHA-256."""

from webapp.storage.base import (
    BlobStore,
    DamagedBlob,
    Keeper,
    MissingBlob,
    NoRoom,
    Problem,
    StorageAway,
    init_app,
    release_kept,
)
from webapp.storage.folder import FolderStore, disk_of, free_bytes
from webapp.storage.opening import open_store

__all__ = [
    "BlobStore",
    "DamagedBlob",
    "FolderStore",
    "Keeper",
    "MissingBlob",
    "NoRoom",
    "Problem",
    "StorageAway",
    "disk_of",
    "free_bytes",
    "init_app",
    "open_store",
    "release_kept",
]
