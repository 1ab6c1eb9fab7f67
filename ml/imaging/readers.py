"""The registry of file readers, chosen by content and never by file name.

A format joins by adding a :class:`Reader` to ``_READERS``: how to recognise its first bytes, and
how to turn the whole content into slices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml.errors import UnreadableImage
from ml.imaging import pictures
from ml.imaging.limits import Limits
from ml.imaging.slices import Slice


@dataclass(frozen=True)
class Reader:
    """How one format is recognised and decoded."""

    format: str
    recognises: Callable[[bytes], bool]
    decode: Callable[[bytes, Limits], list[Slice]]


_READERS: tuple[Reader, ...] = (
    Reader("PNG", lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), pictures.decode_png),
    Reader("JPEG", lambda head: head.startswith(b"\xff\xd8\xff"), pictures.decode_jpeg),
)
ACCEPTED_FORMATS: tuple[str, ...] = tuple(reader.format for reader in _READERS)


def sniff(content: bytes) -> Reader:
    """Return the reader for ``content``.

    Raises:
        UnreadableImage: ``empty`` or ``unsupported``.
    """
    if not content:
        raise UnreadableImage("empty", "The file is empty.")
    head = content[:512]
    for reader in _READERS:
        if reader.recognises(head):
            return reader
    raise UnreadableImage(
        "unsupported", f"This is not an image that can be read; accepted are {accepted()}."
    )


def accepted() -> str:
    """The accepted formats as words for a message."""
    return ", ".join(ACCEPTED_FORMATS)


def read_bytes(content: bytes, limits: Limits | None = None) -> list[Slice]:
    """Decode the content of one file into its slices, in order.

    Raises:
        UnreadableImage: with the reason, for everything that is not a complete, acceptable image.
    """
    return sniff(content).decode(content, limits or Limits())


def read_path(path: Path, limits: Limits | None = None) -> list[Slice]:
    """Decode one file; see :func:`read_bytes`.

    Raises:
        UnreadableImage: also for a file that is missing or over the size limit (``too_large``).
    """
    limits = limits or Limits()
    try:
        if path.stat().st_size > limits.max_bytes:
            raise UnreadableImage(
                "too_large", f"The file is larger than {limits.max_bytes // 2**20} MB."
            )
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImage("missing", f"The file cannot be opened: {error.strerror}.") from error
    return read_bytes(content, limits)
