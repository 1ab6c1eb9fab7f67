"""Locks that keep the removal of blobs away from whoever is about to name some.

On one machine a folder is locked. Where several machines share a database, they meet there: each
process that stores something holds one shared advisory lock of PostgreSQL for all its threads.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, create_engine, func, select
from sqlalchemy.exc import DBAPIError

Release = Callable[[], None]
_WAIT = 0.5  # seconds that a removal waits for writers
_LOCK = 0x53_55_4C_43_55_53_42_4C  # "SULCUSBL"


class Guard(Protocol):
    """A lock that many share, or one has alone."""

    def hold(self) -> Release:
        """Take a share; call what is returned to give it back."""

    def hold_alone(self) -> Release | None:
        """Take the whole lock, or return None if somebody keeps a share for longer."""


class FolderGuard:
    """A lock on a folder, which is made if need be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hold(self) -> Release:
        """Take a share; on a file system without locks :meth:`hold_alone` fails as well."""
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError:
            os.close(descriptor)
            return _nothing
        return lambda: os.close(descriptor)

    def hold_alone(self) -> Release | None:
        """Take the whole lock, or return None."""
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
                return lambda: os.close(descriptor)

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)


class PostgresGuard:
    """A lock in the database, taken in a transaction of its own, so that poolers may stand between.

    One connection a process, and only while something is being stored. The database releases the
    lock of a process that dies.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._mutex = threading.Lock()
        self._shares = 0
        self._shared: Connection | None = None
        self._engine: tuple[int, Engine] | None = None

    def hold(self) -> Release:
        """Take a share; raises DBAPIError if the database does not answer."""
        with self._mutex:
            if self._shares == 0:
                connection = self._connected()
                connection.execute(select(func.pg_advisory_xact_lock_shared(_LOCK)))
                self._shared = connection
            self._shares += 1
        return self._give_back

    def hold_alone(self) -> Release | None:
        """Take the whole lock, or return None."""
        connection = self._connected()
        deadline = time.monotonic() + _WAIT
        while not connection.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
            if time.monotonic() >= deadline:
                _end(connection)
                return None
            time.sleep(0.02)
        return partial(_end, connection)

    def _give_back(self) -> None:
        with self._mutex:
            self._shares -= 1
            if self._shares == 0 and self._shared is not None:
                connection, self._shared = self._shared, None
                _end(connection)

    def _connected(self) -> Connection:
        """A connection of this process; one of the parent's must not be used by its children."""
        if self._engine is None or self._engine[0] != os.getpid():
            engine = create_engine(
                self._url, pool_size=1, max_overflow=1, pool_pre_ping=True, hide_parameters=True
            )
            self._engine = (os.getpid(), engine)
        return self._engine[1].connect()


def _end(connection: Connection) -> None:
    """Release the lock; a database that was restarted has done so already."""
    try:
        connection.rollback()
    except DBAPIError:
        connection.invalidate()
    connection.close()


def _nothing() -> None:
    """Give nothing back."""
