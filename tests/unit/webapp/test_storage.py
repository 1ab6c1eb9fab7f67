"""Blobs are written once, found by their content, and never half."""

import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from webapp.storage import FolderStore, MissingBlob, NoRoom


def test_content_is_found_by_its_hash(tmp_path: Path) -> None:
    key = FolderStore(tmp_path).put(b"slice")
    assert key == sha256(b"slice").hexdigest()
    assert FolderStore(tmp_path).get(key) == b"slice"


def test_writing_the_same_at_once_keeps_one_file_and_no_leftovers(tmp_path: Path) -> None:
    blobs = FolderStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: blobs.put(b"same" * 1000), range(32)))
    assert len(keys) == 1
    assert len(files_in(tmp_path)) == 1


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_batch_is_there_when_its_block_has_ended(tmp_path: Path) -> None:
    blobs = FolderStore(tmp_path)
    with blobs.batch() as batch:
        keys = [batch.put(content) for content in (b"first", b"second", b"first")]
        with pytest.raises(MissingBlob):
            blobs.get(keys[0])
    assert [blobs.get(key) for key in keys] == [b"first", b"second", b"first"]
    assert len(files_in(tmp_path)) == 2


def test_nothing_is_left_of_a_batch_that_fails(tmp_path: Path) -> None:
    blobs = FolderStore(tmp_path)
    kept = blobs.put(b"kept before")

    def broken_off() -> None:
        with blobs.batch() as batch:
            batch.put(b"kept before")
            batch.put(b"new")
            raise OSError("the upload broke off")

    with pytest.raises(OSError, match="the upload broke off"):
        broken_off()
    assert blobs.get(kept) == b"kept before"
    assert len(files_in(tmp_path)) == 1


@pytest.mark.parametrize("key", ["0" * 64, "../../etc/passwd", "A" * 64, "", "0" * 63])
def test_what_was_never_kept_is_missing(tmp_path: Path, key: str) -> None:
    with pytest.raises(MissingBlob):
        FolderStore(tmp_path).get(key)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The kernel refuses to write further, as it does with a full disk or a quota."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)

    def keep() -> None:
        with store.batch() as batch:
            batch.put(b"small")
            batch.put(b"large" * 1000)

    with files_up_to(1000), pytest.raises(NoRoom):
        keep()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    store.put(b"large" * 1000)


def test_nothing_is_kept_where_less_is_free_than_has_to_stay_so(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "blobs", 2**60)
    assert not store.has_room()
    with pytest.raises(NoRoom):
        store.put(b"content")
    assert not (tmp_path / "blobs").exists()
