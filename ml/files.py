"""Files and folders that are there in one piece or not at all."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_piece(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; on success it is renamed to ``path``."""
    partial = path.with_name(f"partial-{path.name}")
    yield partial
    partial.replace(path)


def stage(folder: Path, make: Callable[[Path], object]) -> None:
    """Let ``make`` fill the folder, unless it is filled; what was half filled is made anew."""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    make(partial)
    partial.replace(folder)
