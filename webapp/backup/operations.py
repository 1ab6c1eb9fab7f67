"""Write a backup while the portal runs, and restore it into an empty installation.

A backup is a folder: ``manifest.json``, ``rows/TABLE.jsonl.gz`` and ``blobs/``. All rows are read
in one transaction with one view of the database, so they fit together whatever is written
meanwhile. Blobs are never changed, and while the backup holds the store none is removed: every
blob that those rows name can be copied afterwards.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from alembic.migration import MigrationContext
from flask_babel import gettext as _
from sqlalchemy import Connection, Table, exists, select, text

from webapp.backup import files, keys
from webapp.backup.rows import link_rows, read_rows, write_rows
from webapp.database import db, now
from webapp.errors import Conflict
from webapp.extensions import current_blobs, current_settings
from webapp.operating.models import WorkerProcess
from webapp.storage import DamagedBlob, MissingBlob
from webapp.studies.listing import StudyListing, StudyTally

MANIFEST = "manifest.json"
_FORMAT = 1
# What the processes of an installation say of themselves is not what it knows, and triggers write
# what lists are asked for.
_NOT_KEPT = frozenset(one.__tablename__ for one in (WorkerProcess, StudyListing, StudyTally))

Shown = Callable[[Iterable[str], int], Iterable[str]]
"""Shows progress: what is gone through, and how much of it there is."""


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself; it is written last, and a backup without it is unfinished.

    Attributes:
        revision: of the schema; the restoring code has to have the same.
        rows: of each table.
        digests: SHA-256 of each file of rows.
        missing: blobs that rows name and the store did not have, or had damaged.
        fingerprints: of the keys (:mod:`webapp.backup.keys`).
    """

    format: int
    made_at: str
    revision: str
    rows: Mapping[str, int]
    digests: Mapping[str, str]
    blobs: int
    bytes: int
    missing: tuple[str, ...]
    fingerprints: Mapping[str, str]


def write_backup(folder: Path, *, keys_file: Path | None = None, shown: Shown) -> Manifest:
    """Write a backup of the installation into a new folder.

    Args:
        folder: it must not exist, or be empty.
        keys_file: where the keys are written to; outside of ``folder``.
        shown: shows the progress of the files.

    Raises:
        Conflict: the folder is in use, or the keys would lie in it.
    """
    settings = current_settings()
    if keys_file is not None and keys_file.absolute().is_relative_to(folder.absolute()):
        raise Conflict(_("Keep the keys apart from the backup: name a file outside its folder."))
    with suppress(FileNotFoundError, OSError):
        folder.rmdir()  # an empty one
    if folder.exists():
        raise Conflict(_("%(path)s is not empty.", path=str(folder)))
    if keys_file is not None:
        keys.write_keys(settings, keys_file)
    files.make_folder(folder)
    with current_blobs().in_use():
        rows, digests, revision, named = _write_database(folder)
        size, missing = _write_blobs(folder / "blobs", named, shown)
    manifest = Manifest(
        format=_FORMAT,
        made_at=now().isoformat(timespec="seconds"),
        revision=revision,
        rows=rows,
        digests=digests,
        blobs=len(named) - len(missing),
        bytes=size,
        missing=tuple(missing),
        fingerprints=keys.fingerprints(settings),
    )
    files.flush_all()
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
    files.flush_all()
    partial.replace(folder / MANIFEST)
    files.flush_all()
    return manifest


def _write_database(folder: Path) -> tuple[dict[str, int], dict[str, str], str, set[str]]:
    files.make_folder(folder / "rows")
    counts: dict[str, int] = {}
    digests: dict[str, str] = {}
    with _one_view() as connection:
        revision = _revision(connection)
        for table in _tables():
            path = _path_of(folder, table)
            counts[table.name] = write_rows(connection, table, path)
            digests[table.name] = _digest(path)
        named = files.named_blobs(connection)
    return counts, digests, revision, named


def _write_blobs(folder: Path, named: set[str], shown: Shown) -> tuple[int, list[str]]:
    files.make_folder(folder)
    size, missing = 0, []
    for key in shown(sorted(named), len(named)):
        try:
            size += files.copy_out(current_blobs(), key, folder)
        except MissingBlob:  # or damaged
            missing.append(key)
    return size, missing


def restore_backup(folder: Path, *, keys_file: Path | None = None, shown: Shown) -> Manifest:
    """Restore a backup into this installation, which has the same schema and no rows yet.

    Files come first, and all rows in one transaction: an interrupted restore leaves no rows and
    can be started again.

    Args:
        keys_file: as :func:`write_backup` wrote it. Without it the keys have to be set already.

    Raises:
        Conflict: the installation is not empty, has another schema or other keys, or the backup
            is damaged or unfinished.
    """
    manifest = _manifest(folder)
    settings = current_settings()
    given = keys.read_keys(keys_file) if keys_file else {}
    with db.engine.connect() as connection:
        _refuse_unless_fitting(connection, manifest)
        _refuse_unless_empty(connection)
    for name, mark in manifest.fingerprints.items():
        if keys.fingerprint(name, keys.key_that_will_hold(settings, given, name)) != mark:
            raise Conflict(
                _(
                    "%(variable)s is not the key that the backup was made with.",
                    variable=keys.variable_of(name),
                )
            )
    for table in _tables():
        if _digest(_path_of(folder, table)) != manifest.digests.get(table.name):
            raise Conflict(_("The rows of %(table)s are damaged.", table=table.name))
    with current_blobs().in_use():
        _restore_blobs(folder / "blobs", manifest, shown)
        keys.keep_keys(settings, given)
        _restore_rows(folder, manifest)
    return manifest


def _restore_blobs(folder: Path, manifest: Manifest, shown: Shown) -> None:
    there = [
        one.parent.name + one.name
        for one in folder.glob("??/*")
        if not one.name.startswith(".partial-")
    ]
    if len(there) != manifest.blobs:
        raise Conflict(_("Files of the backup are missing."))
    try:
        for _key in shown(files.copy_in(folder, there, current_blobs()), len(there)):
            pass
    except DamagedBlob as error:
        raise Conflict(_("The file %(key)s of the backup is damaged.", key=str(error))) from error


def _restore_rows(folder: Path, manifest: Manifest) -> None:
    with _alone() as connection:
        _refuse_unless_empty(connection)
        tables = _tables()
        for table in tables:
            count = read_rows(connection, table, _path_of(folder, table))
            if count != manifest.rows[table.name]:
                raise Conflict(_("The rows of %(table)s are damaged.", table=table.name))
        for table in tables:
            link_rows(connection, table, _path_of(folder, table))


def _manifest(folder: Path) -> Manifest:
    try:
        plain = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**plain)
    except (OSError, ValueError, TypeError) as error:
        raise Conflict(_("%(path)s holds no finished backup.", path=str(folder))) from error
    if manifest.format != _FORMAT:
        raise Conflict(_("The backup has a format that this version does not read."))
    return manifest


def _refuse_unless_fitting(connection: Connection, manifest: Manifest) -> None:
    revision = _revision(connection)
    if revision != manifest.revision or set(manifest.rows) != {one.name for one in _tables()}:
        raise Conflict(
            _(
                "The backup has schema %(theirs)s and this installation has %(ours)s: restore "
                "with the version that made it, then upgrade.",
                theirs=manifest.revision,
                ours=revision or "-",
            )
        )


def _refuse_unless_empty(connection: Connection) -> None:
    for table in _tables():
        if connection.scalar(select(exists().select_from(table))):
            raise Conflict(
                _("This installation is not empty: %(table)s has rows.", table=table.name)
            )


def _tables() -> list[Table]:
    """In an order in which rows can be inserted."""
    return [table for table in db.metadata.sorted_tables if table.name not in _NOT_KEPT]


def _revision(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


@contextmanager
def _one_view() -> Iterator[Connection]:
    """A transaction that sees the database as it was at its first statement."""
    with db.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        else:
            # Python's module starts none for a SELECT; in WAL the writers go on meanwhile.
            connection.exec_driver_sql("BEGIN")
        yield connection
        connection.rollback()


@contextmanager
def _alone() -> Iterator[Connection]:
    """A transaction beside which nobody else begins to fill the database."""
    with db.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE organisation IN EXCLUSIVE MODE"))
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        connection.commit()


def _path_of(folder: Path, table: Table) -> Path:
    return folder / "rows" / f"{table.name}.jsonl.gz"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
