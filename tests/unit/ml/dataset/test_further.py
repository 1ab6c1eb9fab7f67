"""Nothing is trained on that copies what is held out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.dataset import Entry
from ml.dataset.further import without_held_out
from ml.imaging import read_path
from ml.imaging.pictures import Pixels, encode_png
from ml.labels import Label


def smooth(seed: int) -> Pixels:
    """A made picture that resembles no other."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8))
    return np.kron(coarse, np.ones((8, 8))).astype(np.uint8)


def entry(path: Path, pixels: Pixels, group: str) -> Entry:
    path.write_bytes(encode_png(pixels))
    return Entry(path, Label.NO_TUMOR, group)


def test_copies_of_what_is_held_out_are_left_out_by_group_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = [entry(tmp_path / f"h{n}.png", smooth(n), f"held-{n}") for n in range(4)]
    first, second, third = (read_path(one.path)[0].pixels for one in held[:3])
    exact = entry(tmp_path / "exact.png", first, "a")
    sibling = entry(tmp_path / "sibling.png", smooth(50), "a")
    mirrored = entry(tmp_path / "mirrored.png", np.ascontiguousarray(second[:, ::-1]), "b")
    near = entry(tmp_path / "near.png", (third // 2 * 2 + 1).astype(np.uint8), "c")
    named = entry(tmp_path / "named.png", smooth(51), "held-3")
    new = entry(tmp_path / "new.png", smooth(52), "d")
    found = without_held_out([exact, sibling, mirrored, near, named, new, new], held)
    assert found.entries == [new, new]
    assert found.left_out == {
        "group with copies (exact)": 2,
        "group with copies (mirrored)": 1,
        "group with copies (near)": 1,
        "group of the same name": 1,
    }
    assert "5 of 7 further slices are left out" in caplog.text


def test_held_out_file_itself_is_left_out(tmp_path: Path) -> None:
    held = [entry(tmp_path / f"h{n}.png", smooth(n), f"held-{n}") for n in range(2)]
    found = without_held_out([replace(held[0], group="other")], held)
    assert found.entries == []
    assert sum(found.left_out.values()) == 1


def test_without_further_slices_nothing_is_read() -> None:
    assert without_held_out([], [Entry(Path("missing.png"), Label.GLIOMA, "g")]).entries == []
