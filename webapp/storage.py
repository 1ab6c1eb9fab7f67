"""Content-addressed blobs in a folder: slices and heatmaps, named by their SHA-256."""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

_KEY = re.compile(r"[0-9a-f]{64}")
_FLUSHES = 8  # at once: a file system writes down together what waits for it together


class MissingBlob(Exception):
    """There is no blob of that name."""


class Keeper(Protocol):
    """Where content can be kept: the store itself, or a batch of it."""

    def put(self, content: bytes) -> str:
        """Keep ``content`` and return its key."""

    def get(self, key: str) -> bytes:
        """Return the content; raises :class:`MissingBlob`."""


class BlobStore:
    """Write once, read many. The same content has the same key and is kept once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes) -> str:
        """Keep ``content`` and return its key. Safe against a crash and against a twin writer."""
        with self.batch() as batch:
            return batch.put(content)

    @contextmanager
    def batch(self) -> Iterator["Batch"]:
        """Keep many blobs: they are there once the block has ended, and none where it fails."""
        batch = Batch(self._path)
        try:
            yield batch
            batch.finish()
        finally:
            batch.discard()

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


class Batch:
    """Blobs that get their names together, after all of them have reached the disk."""

    def __init__(self, path_of: Callable[[str], Path]) -> None:
        self._path_of = path_of
        self._partial: dict[str, Path] = {}

    def put(self, content: bytes) -> str:
        """Write ``content`` and return the key under which it will be found."""
        key = hashlib.sha256(content).hexdigest()
        path = self._path_of(key)
        if key in self._partial or path.exists():
            return key
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        self._partial[key] = Path(partial)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return key

    def get(self, key: str) -> bytes:
        """Return the content, which may have no name yet.

        Raises:
            MissingBlob: nothing was kept under ``key``.
        """
        try:
            return self._partial.get(key, self._path_of(key)).read_bytes()
        except FileNotFoundError as error:
            raise MissingBlob(key) from error

    def finish(self) -> None:
        """Wait for the disk, then give everything its name."""
        with ThreadPoolExecutor(_FLUSHES) as pool:
            list(pool.map(_flush, self._partial.values()))
        for key, partial in list(self._partial.items()):
            partial.replace(self._path_of(key))
            del self._partial[key]

    def discard(self) -> None:
        """Remove what has no name yet."""
        for partial in self._partial.values():
            partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
