"""Content-addressed blobs in a folder: slices and heatmaps, named by their SHA-256.

Until the commit of the row that refers to it, a stored blob looks unused. A writer therefore holds
a shared lock on the folder until that commit (:func:`release_kept` in the web process), and the
removal of blobs holds the exclusive lock.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from flask import Flask, g, has_app_context
from prometheus_client import Counter
from sqlalchemy import event
from sqlalchemy.orm import Session

_KEY = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{2}")
_PARTIAL = ".partial-"
_FLUSHES = 8  # in parallel: the file system combines flushes that wait together
_WAIT = 0.5  # seconds that a removal waits for writers


_BYTES = Counter("sulcus_storage_io_bytes", "Bytes of blobs", ["direction"])
_FAILURES = Counter("sulcus_storage_failures", "Reads and writes that failed", ["reason"])
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class MissingBlob(Exception):
    """There is no blob under this key."""


class NoRoom(OSError):
    """The disk is full, or has less free space than required. Transient."""


class Keeper(Protocol):
    """Where content can be stored: the blob store or a batch."""

    def put(self, content: bytes) -> str:
        """Store ``content`` and return its key."""

    def get(self, key: str) -> bytes:
        """Return the content; raises :class:`MissingBlob`."""

    def size(self, key: str) -> int:
        """Bytes of the content; raises :class:`MissingBlob`."""


class BlobStore:
    """Write once, read many. The same content has the same key and is stored once."""

    def __init__(self, folder: Path, least_free: int = 0) -> None:
        """Store blobs in ``folder`` while more than ``least_free`` bytes of its disk are free."""
        self._folder = folder
        self._least_free = least_free

    def has_room(self) -> bool:
        """Whether content can be stored now."""
        return free_bytes(self._folder) > self._least_free

    def put(self, content: bytes) -> str:
        """Store ``content`` and return its key. Safe against crashes and concurrent writers."""
        with self.batch() as batch:
            return batch.put(content)

    @contextmanager
    def batch(self) -> Iterator["Batch"]:
        """Store many blobs: all exist once the block has ended, or none if it fails.

        Raises:
            NoRoom: the disk is full, or nearly so.
        """
        if not self.has_room():
            _FAILURES.labels("no_room").inc()
            raise NoRoom(errno.ENOSPC, "less is free than SULCUS_LEAST_FREE_MB")
        with _full_disk_told(), self._until_named():
            batch = Batch(self._folder, self._path)
            try:
                yield batch
                batch.finish()
            finally:
                batch.discard()

    def get(self, key: str) -> bytes:
        """Return the content.

        Raises:
            MissingBlob: nothing is stored under ``key``.
        """
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError as error:
            _FAILURES.labels("missing").inc()
            raise MissingBlob(key) from error
        _BYTES.labels("read").inc(len(content))
        return content

    def size(self, key: str) -> int:
        """Bytes of the content; raises :class:`MissingBlob`."""
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError as error:
            raise MissingBlob(key) from error

    def open(self, key: str) -> BinaryIO:
        """The content as an open file; raises :class:`MissingBlob`."""
        try:
            return self._path(key).open("rb")
        except FileNotFoundError as error:
            raise MissingBlob(key) from error

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Block the removal of blobs inside the block, in which rows will refer to some of them."""
        descriptor = self._locked()
        try:
            yield
        finally:
            _unlock(descriptor)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Take the exclusive lock for the block; yields False if somebody is storing content."""
        descriptor = self._locked_alone()
        try:
            yield descriptor is not None
        finally:
            _unlock(descriptor)

    def remove(self, keys: Iterable[str]) -> int:
        """Remove blobs that no row refers to; return how many existed. Call it in :meth:`alone`."""
        removed = 0
        for key in keys:
            try:
                self._path(key).unlink()
            except FileNotFoundError:
                continue
            removed += 1
        return removed

    def folders(self) -> list[str]:
        """The first two letters of all stored keys."""
        if not self._folder.is_dir():
            return []
        return sorted(one.name for one in self._folder.iterdir() if _PREFIX.fullmatch(one.name))

    def older_than(self, moment: datetime, folder: str) -> list[str]:
        """Keys in one of :meth:`folders` that were stored before ``moment``."""
        return [
            folder + path.name
            for path in (self._folder / folder).iterdir()
            if _KEY.fullmatch(folder + path.name) and _is_older(path, moment)
        ]

    def remove_partial(self, moment: datetime, folder: str) -> int:
        """Remove files left before ``moment`` by killed processes; return how many."""
        left = [
            path for path in (self._folder / folder).glob(f"{_PARTIAL}*") if _is_older(path, moment)
        ]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    @contextmanager
    def _until_named(self) -> Iterator[None]:
        """Like :meth:`in_use`; in an app context until its next commit or end."""
        if not has_app_context():
            with self.in_use():
                yield
            return
        g.setdefault("blob_locks", []).append(self._locked())
        yield

    def _locked(self) -> int | None:
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError:  # a network file system without folder locks: `alone` fails as well
            os.close(descriptor)
            return None
        return descriptor

    def _locked_alone(self) -> int | None:
        descriptor = self._open()
        deadline = time.monotonic() + _WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return None
                time.sleep(0.02)
            else:
                return descriptor

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise MissingBlob(key)
        return self._folder / key[:2] / key[2:]


class Batch:
    """Blobs that become visible together, after all of them have reached the disk."""

    def __init__(self, folder: Path, path_of: Callable[[str], Path]) -> None:
        self._folder = folder
        self._path_of = path_of
        self._partial: dict[str, Path] = {}
        self._named_in: set[Path] = set()

    def put(self, content: bytes) -> str:
        """Write ``content`` and return its key."""
        key = hashlib.sha256(content).hexdigest()
        path = self._path_of(key)
        # If the blob exists, a concurrent writer may not have flushed its name yet.
        self._named_in.add(path.parent)
        if key in self._partial or path.exists():
            return key
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=_PARTIAL)
        self._partial[key] = Path(partial)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        _BYTES.labels("written").inc(len(content))
        return key

    def get(self, key: str) -> bytes:
        """Return the content, also of a blob that is not visible yet.

        Raises:
            MissingBlob: nothing is stored under ``key``.
        """
        try:
            return self._partial.get(key, self._path_of(key)).read_bytes()
        except FileNotFoundError as error:
            raise MissingBlob(key) from error

    def size(self, key: str) -> int:
        """Bytes of the content; raises :class:`MissingBlob`."""
        try:
            return self._partial.get(key, self._path_of(key)).stat().st_size
        except FileNotFoundError as error:
            raise MissingBlob(key) from error

    def finish(self) -> None:
        """Flush the files, rename them to their keys, and flush the folders."""
        with ThreadPoolExecutor(_FLUSHES) as pool:
            list(pool.map(_flush, self._partial.values()))
            for key, partial in list(self._partial.items()):
                partial.replace(self._path_of(key))
                del self._partial[key]
            list(pool.map(_flush_folder, self._named_in))
        if self._named_in:
            _flush_folder(self._folder)

    def discard(self) -> None:
        """Remove the files that were not renamed."""
        for partial in self._partial.values():
            partial.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        _FAILURES.labels("no_room" if full else "other").inc()
        if not full:
            raise
        raise NoRoom(error.errno, "the disk is full") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(path: Path) -> None:
    """Flush a folder, so that new names in it survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_older(path: Path, moment: datetime) -> bool:
    try:
        return path.stat().st_mtime < moment.timestamp()
    except FileNotFoundError:
        return False


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def init_app(app: Flask) -> None:
    """Release the locks of a request or task when it ends."""
    for reason in ("no_room", "missing", "other"):
        _FAILURES.labels(reason)  # from 0 on: Prometheus cannot see a first one rise otherwise
    app.teardown_appcontext(lambda _error: release_kept())


def release_kept() -> None:
    """Release the locks: from now on blobs may be removed again."""
    for descriptor in g.pop("blob_locks", []):
        _unlock(descriptor)


@event.listens_for(Session, "after_commit")
def _after_commit(_session: Session) -> None:
    if has_app_context():
        release_kept()
