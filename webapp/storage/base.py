"""What every store of blobs does: content-addressed, written once, read many times.

Until the commit of the row that refers to it, a stored blob looks unused. A writer therefore holds
a shared lock until that commit (:func:`release_kept` in the web process), and the removal of blobs
holds the exclusive lock (:mod:`webapp.storage.guards`).
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from enum import StrEnum
from typing import BinaryIO, Protocol

from flask import Flask, g, has_app_context
from sqlalchemy import event
from sqlalchemy.orm import Session

from webapp.storage.guards import Guard, Release

_KEY = re.compile(r"[0-9a-f]{64}")
FOLDERS = tuple(f"{number:02x}" for number in range(256))
"""The first two letters of keys."""


class MissingBlob(Exception):
    """There is no blob under this key."""


class DamagedBlob(MissingBlob):
    """What is stored under this key is not what was stored."""


class NoRoom(OSError):
    """The disk is full, or has less free space than required. Transient."""


class StorageAway(OSError):
    """The store does not answer, or refuses. Transient: it may come back."""


class Problem(StrEnum):
    """Why nothing can be stored; the words of ``/readyz``."""

    FULL = "storage_full"
    AWAY = "storage_unavailable"
    REFUSED = "storage_refused"
    MISSING = "storage_missing"


class Keeper(Protocol):
    """Where content can be stored: the blob store or a batch."""

    def put(self, content: bytes) -> str:
        """Store ``content`` and return its key."""

    def get(self, key: str) -> bytes:
        """Return the content; raises :class:`MissingBlob`."""

    def size(self, key: str) -> int:
        """Bytes of the content; raises :class:`MissingBlob`."""


class BlobStore(ABC):
    """Write once, read many. The same content has the same key and is stored once.

    Every method that touches the store may raise :class:`StorageAway`, and those that write
    :class:`NoRoom`.
    """

    def __init__(self, guard: Guard) -> None:
        """Keep writers and removals apart with ``guard``."""
        self._guard = guard

    def put(self, content: bytes) -> str:
        """Store ``content`` and return its key. Safe against crashes and concurrent writers."""
        with self.batch() as batch:
            return batch.put(content)

    @abstractmethod
    def batch(self) -> AbstractContextManager[Keeper]:
        """Store many blobs: all exist once the block has ended, and none is named if it fails."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return the content.

        Raises:
            MissingBlob: nothing is stored under ``key``.
            DamagedBlob: it is not the content that has this key.
        """

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """The content of each key, in order; None where it is missing or damaged."""
        for key in keys:
            yield self._found(key)

    @abstractmethod
    def size(self, key: str) -> int:
        """Bytes of the content; raises :class:`MissingBlob`."""

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """The content as an open file that can seek; raises :class:`MissingBlob`.

        Only the parts that are asked for are read, so the content is not compared with its key.
        """

    @abstractmethod
    def remove(self, keys: Iterable[str]) -> int:
        """Remove blobs that no row refers to; return how many. Call it in :meth:`alone`."""

    @abstractmethod
    def older_than(self, moment: datetime, folder: str) -> list[str]:
        """Keys stored before ``moment`` that begin with ``folder``, one of ``FOLDERS``."""

    @abstractmethod
    def remove_partial(self, moment: datetime) -> int:
        """Remove what processes left unfinished before ``moment``; return how many."""

    @abstractmethod
    def problem(self) -> Problem | None:
        """Why nothing can be stored now, or None."""

    @abstractmethod
    def link(self, key: str) -> str:
        """A path, relative to the store, under which a reverse proxy can fetch the content.

        Raises:
            MissingBlob: nothing is stored under ``key``.
        """

    def has_room(self) -> bool:
        """Whether content can be stored now, as far as can be told without asking a server."""
        return True

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Block the removal of blobs inside the block, in which rows will refer to some of them."""
        release = self._guard.hold()
        try:
            yield
        finally:
            release()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Take the exclusive lock for the block; yields False if somebody is storing content."""
        release = self._guard.hold_alone()
        try:
            yield release is not None
        finally:
            if release is not None:
                release()

    @contextmanager
    def _until_named(self) -> Iterator[None]:
        """Like :meth:`in_use`; in an app context until its next commit or end."""
        if not has_app_context():
            with self.in_use():
                yield
            return
        _kept().append(self._guard.hold())
        yield

    def _found(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except MissingBlob:
            return None


def is_key(key: str) -> bool:
    """Whether ``key`` is a SHA-256 in hexadecimal."""
    return _KEY.fullmatch(key) is not None


def key_of(content: bytes) -> str:
    """The key of ``content``."""
    return hashlib.sha256(content).hexdigest()


def checked(key: str, content: bytes) -> bytes:
    """``content`` itself; raises :class:`DamagedBlob` if its key is another."""
    if key_of(content) != key:
        raise DamagedBlob(key)
    return content


def init_app(app: Flask) -> None:
    """Release the locks of a request or task when it ends."""
    app.teardown_appcontext(lambda _error: release_kept())


def release_kept() -> None:
    """Release the locks: from now on blobs may be removed again."""
    for release in g.pop("blob_locks", []):
        release()


def _kept() -> list[Release]:
    found: list[Release] = g.setdefault("blob_locks", [])
    return found


@event.listens_for(Session, "after_commit")
def _after_commit(_session: Session) -> None:
    if has_app_context():
        release_kept()
