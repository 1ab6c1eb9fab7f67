"""ZIP archives, opened in memory and within limits."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ml.errors import UnreadableImage
from ml.imaging.limits import Limits

# Below this size the ratio says nothing: a black slice shrinks to a thousandth.
_SMALL = 64 * 2**20
_DIRECTORY_ENTRY = b"PK\x01\x02"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_JUNK = {"dicomdir", "thumbs.db", "desktop.ini"}


@dataclass
class _Budget:
    """What is left for an archive and all archives inside of it."""

    entries: int
    size: int


def is_archive(content: bytes) -> bool:
    """Whether it is a ZIP archive."""
    return content.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_junk(path: PurePosixPath) -> bool:
    """Whether it is hidden, or one of the files that systems and discs add."""
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)
    return hidden or path.name.lower() in _JUNK


def members(content: bytes, limits: Limits) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file in an archive and in archives inside of it.

    Directories, empty files, hidden files and what operating systems and discs add are passed
    over. Nothing is written to disk, so that names can be anything.

    Raises:
        UnreadableImage: ``archive_encrypted``, ``archive_too_large``, ``archive_too_deep``,
            ``unsupported`` (a way of compression), ``truncated``; also in the middle.
    """
    budget = _Budget(limits.max_entries, limits.max_archive_bytes)
    yield from _members(content, limits, budget, depth=1)


def _members(
    content: bytes, limits: Limits, budget: _Budget, depth: int
) -> Iterator[tuple[str, bytes]]:
    if depth > limits.max_depth:
        raise UnreadableImage("archive_too_deep", "Archives inside of archives go too deep.")
    with _opened(content, budget) as archive:
        entries = archive.infolist()
        _check(entries, len(content), limits, budget)
        for entry in entries:
            if entry.is_dir() or entry.file_size == 0 or is_junk(PurePosixPath(entry.filename)):
                continue
            inner = _read(archive, entry)
            if is_archive(inner):
                for name, member in _members(inner, limits, budget, depth + 1):
                    yield f"{entry.filename}/{name}", member
            else:
                yield entry.filename, inner


def _opened(content: bytes, budget: _Budget) -> zipfile.ZipFile:
    # zipfile makes an object of each entry before it can be asked how many there are.
    if content.count(_DIRECTORY_ENTRY) > budget.entries:
        raise _too_large()
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except Exception:  # a damaged archive can raise anything at all in there
        raise _damaged() from None


def _check(entries: list[zipfile.ZipInfo], size: int, limits: Limits, budget: _Budget) -> None:
    """Judge the directory of the archive; reading stops at the sizes that it announces."""
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise UnreadableImage("archive_encrypted", "The archive is protected by a password.")
    if any(entry.compress_type not in _METHODS for entry in entries):
        raise UnreadableImage("unsupported", "The archive is compressed in an uncommon way.")
    total = sum(entry.file_size for entry in entries)
    budget.entries -= len(entries)
    budget.size -= total
    if (
        min(budget.entries, budget.size) < 0
        or max((entry.file_size for entry in entries), default=0) > limits.max_bytes
        or (total > _SMALL and total > limits.max_expansion * size)
    ):
        raise _too_large()


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """One file; never more of it than the directory announces, whatever is in there."""
    try:
        with archive.open(entry) as file:
            content = file.read(entry.file_size)
    except Exception:  # a damaged archive can raise anything at all in there
        raise _damaged() from None
    if len(content) < entry.file_size:
        raise _damaged()
    return content


def _too_large() -> UnreadableImage:
    return UnreadableImage("archive_too_large", "The archive grows too large when opened.")


def _damaged() -> UnreadableImage:
    return UnreadableImage("truncated", "The archive is damaged or incomplete.")
