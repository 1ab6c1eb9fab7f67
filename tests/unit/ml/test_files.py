"""Folders are there whole or not at all, whatever an earlier attempt left."""

from pathlib import Path

import pytest

from ml.files import folder_in_one_piece


def test_a_folder_appears_once_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "made"
    with folder_in_one_piece(folder) as partial:
        (partial / "file").touch()
        assert not folder.exists()
    assert [one.name for one in folder.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    killed = folder_in_one_piece(folder)
    (killed.__enter__() / "half").touch()
    with folder_in_one_piece(folder) as partial:
        assert not list(partial.iterdir())
    assert [one.name for one in tmp_path.iterdir()] == ["made"]
    assert not list(folder.iterdir())


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a reason"), folder_in_one_piece(tmp_path / "made"):
        raise ValueError("a reason")
    assert not list(tmp_path.iterdir())
