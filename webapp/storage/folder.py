"""Blobs in a folder, each under its key; a file appears under its name once it is on the disk."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from webapp.storage.base import (
    FOLDERS,
    BlobStore,
    MissingBlob,
    NoRoom,
    Problem,
    checked,
    is_key,
    key_of,
)
from webapp.storage.counted import BYTES, FAILURES
from webapp.storage.guards import FolderGuard

_PARTIAL = ".partial-"
_FLUSHES = 8  # in parallel: the file system combines flushes that wait together
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FolderStore(BlobStore):
    """A folder of this machine, or one that several machines share."""

    def __init__(self, folder: Path, least_free: int = 0) -> None:
        """Store blobs in ``folder`` while more than ``least_free`` bytes of its disk are free."""
        super().__init__(FolderGuard(folder))
        self._folder = folder
        self._least_free = least_free

    def has_room(self) -> bool:
        """Whether content can be stored now."""
        return free_bytes(self._folder) > self._least_free

    def problem(self) -> Problem | None:
        """Why nothing can be stored now, or None."""
        return None if self.has_room() else Problem.FULL

    @contextmanager
    def batch(self) -> Iterator["Batch"]:
        """Store many blobs: all exist once the block has ended, or none if it fails.

        Raises:
            NoRoom: the disk is full, or nearly so.
        """
        if not self.has_room():
            FAILURES.labels("no_room").inc()
            raise NoRoom(errno.ENOSPC, "less is free than SULCUS_LEAST_FREE_MB")
        with _full_disk_told(), self._until_named():
            batch = Batch(self._folder, self._path)
            try:
                yield batch
                batch.finish()
            finally:
                batch.discard()

    def get(self, key: str) -> bytes:
        """Return the content; raises :class:`MissingBlob`."""
        try:
            content = checked(key, self._path(key).read_bytes())
        except FileNotFoundError as error:
            FAILURES.labels("missing").inc()
            raise MissingBlob(key) from error
        BYTES.labels("read").inc(len(content))
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

    def older_than(self, moment: datetime, folder: str) -> list[str]:
        """Keys that begin with ``folder`` and were stored before ``moment``."""
        return [
            folder + path.name
            for path in self._files(folder)
            if is_key(folder + path.name) and _is_older(path, moment)
        ]

    def remove_partial(self, moment: datetime) -> int:
        """Remove files left before ``moment`` by killed processes; return how many."""
        removed = 0
        for folder in FOLDERS:
            for path in self._files(folder):
                if path.name.startswith(_PARTIAL) and _is_older(path, moment):
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def link(self, key: str) -> str:
        """The path of the file below the folder; raises :class:`MissingBlob`."""
        self.size(key)
        return f"{key[:2]}/{key[2:]}"

    def _files(self, folder: str) -> list[Path]:
        try:
            return list((self._folder / folder).iterdir())
        except FileNotFoundError:
            return []

    def _path(self, key: str) -> Path:
        if not is_key(key):
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
        key = key_of(content)
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
        BYTES.labels("written").inc(len(content))
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
        if not self._named_in:
            return
        _flush_at_once(_flush, self._partial.values())
        for key, partial in list(self._partial.items()):
            partial.replace(self._path_of(key))
            del self._partial[key]
        _flush_at_once(_flush_folder, [*self._named_in, self._folder])

    def discard(self) -> None:
        """Remove the files that were not renamed."""
        for partial in self._partial.values():
            partial.unlink(missing_ok=True)


class Disk(NamedTuple):
    """Bytes of a whole disk."""

    total: int
    used: int
    free: int


def disk_of(folder: Path) -> Disk:
    """The disk of a folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return Disk(*shutil.disk_usage(folder))


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    return disk_of(folder).free


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        FAILURES.labels("no_room" if full else "other").inc()
        if not full:
            raise
        raise NoRoom(error.errno, "the disk is full") from error


def _flush_at_once(flush: Callable[[Path], None], paths: Collection[Path]) -> None:
    """Flush several paths; threads are not worth their start for one or two."""
    if len(paths) <= 2:
        for path in paths:
            flush(path)
        return
    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(flush, paths))


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
