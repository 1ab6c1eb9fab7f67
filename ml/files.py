"""Files that are there in one piece or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_piece(path: Path) -> Iterator[Path]:
    """A path with the same ending to write to; what stands there in the end becomes ``path``."""
    partial = path.with_name(f"partial-{path.name}")
    yield partial
    partial.replace(path)
