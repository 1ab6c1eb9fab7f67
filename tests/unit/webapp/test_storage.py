"""Blobs are written once, found by their content, and never half."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from webapp.storage import BlobStore, MissingBlob


def test_content_is_found_by_its_hash(tmp_path: Path) -> None:
    key = BlobStore(tmp_path).put(b"slice")
    assert key == sha256(b"slice").hexdigest()
    assert BlobStore(tmp_path).get(key) == b"slice"


def test_writing_the_same_at_once_keeps_one_file_and_no_leftovers(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: blobs.put(b"same" * 1000), range(32)))
    assert len(keys) == 1
    assert len(files_in(tmp_path)) == 1


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_batch_is_there_when_its_block_has_ended(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    with blobs.batch() as batch:
        keys = [batch.put(content) for content in (b"first", b"second", b"first")]
        with pytest.raises(MissingBlob):
            blobs.get(keys[0])
    assert [blobs.get(key) for key in keys] == [b"first", b"second", b"first"]
    assert len(files_in(tmp_path)) == 2


def test_nothing_is_left_of_a_batch_that_fails(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
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
        BlobStore(tmp_path).get(key)
