"""Content-addressed blobs in a folder: slices and heatmaps, named by their SHA-256."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

_KEY = re.compile(r"[0-9a-f]{64}")


class MissingBlob(Exception):
    """There is no blob of that name."""


class BlobStore:
    """Write once, read many. The same content has the same key and is kept once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes) -> str:
        """Keep ``content`` and return its key. Safe against a crash and against a twin writer."""
        key = hashlib.sha256(content).hexdigest()
        path = self._path(key)
        if path.exists():
            return key
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        return key

    def get(self, key: str) -> bytes:
        """Return the content.

        Raises:
            MissingBlob: nothing was kept under ``key``.
        """
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise MissingBlob(key) from error

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise MissingBlob(key)
        return self._folder / key[:2] / key[2:]
