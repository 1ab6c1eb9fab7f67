"""Removal of blobs that no row refers to: after a deletion, and by a daily sweep."""

import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from itertools import islice

from sqlalchemy import select

from webapp import audit
from webapp.accounts.models import Organisation
from webapp.database import db, now
from webapp.extensions import current_blobs
from webapp.learning.models import Snapshot, SnapshotSlice
from webapp.models_admin.models import CandidateFile
from webapp.storage.base import FOLDERS
from webapp.studies.models import Image, Instance, Prediction
from webapp.tenancy import unscoped

# Every column that names a blob; a blob stays as long as one of them does, of any organisation.
NAMES = (
    Image.blob_key,
    Image.source_key,
    Instance.blob_key,
    Prediction.heatmap_key,
    CandidateFile.blob_key,
    # A snapshot is complete for as long as it is there, also without the studies it was made of.
    SnapshotSlice.blob_key,
    Snapshot.manifest_key,
    Snapshot.card_key,
    Snapshot.out_of_scope_key,
)
# What is being taken in has no row yet; no upload and no analysis takes as long as this.
YOUNGEST = timedelta(days=1)
_AT_ONCE = 500  # parameters of one statement

_log = logging.getLogger(__name__)


def remove_unnamed(keys: Collection[str]) -> int:
    """Remove those of ``keys`` that no row refers to; call it after the commit.

    If content is being stored at the same time, nothing is removed, since it may be the same:
    the sweep removes it later.

    Returns:
        The number of blobs removed.
    """
    blobs = current_blobs()
    removed = 0
    for some in _chunks(keys):
        with blobs.alone() as alone:
            if not alone:
                _log.info("blobs are left to the sweep: content is being kept")
                return removed
            removed += blobs.remove(set(some) - _named(some))
    return removed


def sweep_blobs(*, youngest: timedelta = YOUNGEST) -> int:
    """Remove leftovers of crashes: blobs without a row, and unfinished files.

    Args:
        youngest: files written within this time stay.
    """
    blobs = current_blobs()
    moment = now() - youngest
    removed = remove_unfinished(youngest=youngest)
    for folder in FOLDERS:
        removed += remove_unnamed(blobs.older_than(moment, folder))
    if removed:
        _record_sweep(removed)
    return removed


def remove_unfinished(*, youngest: timedelta = YOUNGEST) -> int:
    """Remove files that killed processes left unfinished; return how many.

    Args:
        youngest: files written within this time stay.
    """
    return current_blobs().remove_partial(now() - youngest)


def _record_sweep(removed: int) -> None:
    """Tell the count in the trail of every organisation: whose the files were nobody knows."""
    with unscoped():
        for organisation_id in db.session.scalars(select(Organisation.id)):
            audit.record("sweep_blobs", organisation_id=organisation_id, removed=removed)
        db.session.commit()


def _named(keys: Collection[str]) -> set[str]:
    with unscoped():
        return {
            key
            for column in NAMES
            for key in db.session.scalars(select(column).where(column.in_(keys)).distinct())
            if key is not None
        }


def _chunks(keys: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(keys)
    while some := list(islice(iterator, _AT_ONCE)):
        yield some
