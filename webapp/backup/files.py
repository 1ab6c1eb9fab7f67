"""Files of a backup: every blob that its rows name, checked against its name on the way."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection, select

from webapp.corrections.removal import NAMES
from webapp.storage import BlobStore, DamagedBlob, MissingBlob

_CHUNK = 2**20


def named_blobs(connection: Connection) -> set[str]:
    """The keys of all blobs that rows name, of every organisation."""
    found: set[str] = set()
    for column in NAMES:
        some = connection.execution_options(yield_per=10_000).scalars(
            select(column).where(column.is_not(None)).distinct()
        )
        found.update(key for key in some if key is not None)
    return found


def copy_out(blobs: BlobStore, key: str, folder: Path) -> int:
    """Copy a blob into the folder of a backup; return its bytes.

    Raises:
        MissingBlob: the store does not have it.
        DamagedBlob: its content is another one.
    """
    path = path_in(folder, key)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    with blobs.open(key) as source, partial.open("xb") as target:
        size = _copy_checked(source, target, key)
    partial.replace(path)
    return size


def copy_in(folder: Path, keys: Iterable[str], blobs: BlobStore) -> Iterator[str]:
    """Store blobs of a backup; yields each key once its batch is kept.

    Raises:
        MissingBlob: the backup does not have one.
        DamagedBlob: a file of the backup is damaged.
    """
    for some in _in_groups(sorted(keys)):
        with blobs.batch() as batch:
            for key in some:
                try:
                    content = path_in(folder, key).read_bytes()
                except FileNotFoundError as error:
                    raise MissingBlob(key) from error
                if batch.put(content) != key:
                    raise DamagedBlob(key)
        yield from some


def path_in(folder: Path, key: str) -> Path:
    """Where a blob lies in a backup."""
    return folder / key[:2] / key[2:]


def flush_all() -> None:
    """Wait until everything that was written is on the disk."""
    os.sync()


def make_folder(path: Path) -> None:
    """Make a folder that only its owner reads."""
    path.mkdir(mode=0o700, parents=True)


def remove_folder(path: Path) -> None:
    """Remove what an unfinished backup left."""
    shutil.rmtree(path, ignore_errors=True)


def _copy_checked(source: BinaryIO, target: BinaryIO, key: str) -> int:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
        size += len(chunk)
    if digest.hexdigest() != key:
        raise DamagedBlob(key)
    return size


def _in_groups(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), 100):
        yield keys[start : start + 100]
