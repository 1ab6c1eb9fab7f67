"""Files and folders that are there in one piece or not at all."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_piece(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix for a file; on success it becomes ``path``."""
    partial = path.with_name(f"partial-{path.name}")
    yield partial
    partial.replace(path)


@contextmanager
def folder_in_one_piece(folder: Path) -> Iterator[Path]:
    """Yield a new, empty folder; on success it is renamed to ``folder``, on failure removed.

    What a killed process left half filled is removed at the next attempt.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.replace(folder)


def stage(folder: Path, make: Callable[[Path], object]) -> None:
    """Let ``make`` fill the folder, unless it is filled; what was half filled is made anew."""
    if not folder.exists():
        with folder_in_one_piece(folder) as partial:
            make(partial)
