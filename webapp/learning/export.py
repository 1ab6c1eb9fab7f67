"""A snapshot as the folder that models learn from, put together from blobs."""

import errno
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ml.dataset.out_of_scope import LIST
from ml.dataset.snapshot import CARD, IMAGES, MANIFEST, read_snapshot
from ml.files import folder_in_one_piece
from webapp.extensions import current_blobs
from webapp.learning.models import Snapshot
from webapp.learning.queries import slices_of
from webapp.storage import MissingBlob

_IN_MEMORY = 16 * 2**20


def write_folder(snapshot: Snapshot, folder: Path) -> None:
    """Write the snapshot to ``folder``, which must not be there yet, and check it.

    Raises:
        FileExistsError: the folder is there.
        MissingBlob: a blob is gone.
        InvalidManifest: a blob is not what was written.
    """
    if folder.exists():
        raise FileExistsError(errno.EEXIST, "it is there already", str(folder))
    with folder_in_one_piece(folder) as partial:
        (partial / IMAGES).mkdir()
        for name, content in _files(snapshot):
            (partial / name).write_bytes(content)
        read_snapshot(partial)


def archive(snapshot: Snapshot) -> IO[bytes]:
    """The folder as a ZIP in a temporary file; the caller closes it. Raises :class:`MissingBlob`.

    Its images are PNG, which do not get smaller.
    """
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - handed on open
    try:
        with zipfile.ZipFile(file, "w") as packed:
            for name, content in _files(snapshot):
                packed.writestr(name, content)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _files(snapshot: Snapshot) -> Iterator[tuple[str, bytes]]:
    blobs = current_blobs()
    yield CARD, blobs.get(snapshot.card_key)
    yield MANIFEST, blobs.get(snapshot.manifest_key)
    if snapshot.out_of_scope_key is not None:
        yield LIST, blobs.get(snapshot.out_of_scope_key)
    keys = [one.blob_key for one in slices_of(snapshot)]
    for key, content in zip(keys, blobs.get_many(keys), strict=True):
        if content is None:
            raise MissingBlob(key)
        yield f"{IMAGES}/{key}.png", content
