"""Atomic writing of files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_piece(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; on success it is renamed to ``path``."""
    partial = path.with_name(f"partial-{path.name}")
    yield partial
    partial.replace(path)
