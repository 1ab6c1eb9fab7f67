"""The data card counts, hashes, and tells what files give away of their class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.dataset import Entry, read_corrections, read_manifest, read_outlines, with_outlines
from ml.dataset.card import describe, page
from ml.dataset.corrections import Correction
from ml.errors import InvalidManifest
from ml.imaging.pictures import encode_png
from ml.labels import Label


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    """Three grey gliomas of one patient, a coloured healthy slice and a larger one."""
    made = []
    shapes = [(40, 40), (40, 40), (40, 40), (40, 40, 3), (50, 60, 3)]
    for number, shape in enumerate(shapes):
        path = tmp_path / f"x-{number}.png"
        path.write_bytes(encode_png(np.full(shape, max(1, number), np.uint8)))
        label = Label.GLIOMA if number < 3 else Label.NO_TUMOR
        group = "p" if number < 3 else f"q{number}"
        made.append(Entry(path, label, group, source="s" if number < 4 else None))
    return made


def test_classes_groups_and_copies_are_counted(entries: list[Entry]) -> None:
    figures = describe(entries)
    assert (figures["slices"], figures["groups"]) == (5, 3)
    assert figures["classes"]["glioma"] == {
        "slices": 3, "groups": 1, "with_box": 0, "with_outline": 0, "mirrored": 0
    }  # fmt: skip
    assert figures["group_sizes"] == {"median": 1, "largest": 3, "single": 2}
    assert figures["identical_files"] == 1
    assert figures["names"] == {
        "x-#": {"glioma": 3, "meningioma": 0, "no_tumor": 2, "pituitary": 0}
    }


def test_fingerprints_tell_what_gives_the_class_away(entries: list[Entry]) -> None:
    figures = describe(entries)["fingerprints"]
    assert figures["mode"]["giveaway"] == 1
    assert figures["size"]["giveaway"] == pytest.approx(4 / 5)
    assert figures["format"]["giveaway"] == pytest.approx(3 / 5)
    assert figures["source"]["slices_by_value_and_class"]["s"]["glioma"] == 3


def test_the_hash_is_of_contents_labels_and_groups_alone(
    entries: list[Entry], tmp_path: Path
) -> None:
    usual = describe(entries)["content_sha256"]
    assert describe(entries[::-1])["content_sha256"] == usual
    moved = tmp_path / "moved.png"
    entries[0].path.rename(moved)
    renamed = [replace(entries[0], path=moved), *entries[1:]]
    assert describe(renamed)["content_sha256"] == usual
    for change in ({"label": Label.PITUITARY}, {"group": "r"}):
        changed = [replace(renamed[0], **change), *entries[1:]]
        assert describe(changed)["content_sha256"] != usual


def test_the_page_names_what_is_wrong_and_what_was_left_out(entries: list[Entry]) -> None:
    wrong = Correction("x-1", None, Label.MENINGIOMA, "read again")
    gone = Correction("y", None, None, "its copy is labelled otherwise")
    text = page(describe(entries, [wrong], [gone]), "example")
    assert "| x-1.png | glioma | meningioma | read again |" in text
    assert "| y | its copy is labelled otherwise |" in text
    assert "### mode: 100.0%" in text


def test_files_that_are_no_pictures_are_refused(entries: list[Entry]) -> None:
    entries[0].path.write_bytes(b"no image")
    with pytest.raises(InvalidManifest, match="no picture"):
        describe(entries)


@pytest.mark.data
def test_the_card_of_the_real_data_says_what_is_known_about_them(data_root: Path) -> None:
    entries = with_outlines(
        read_manifest(data_root / "brain-mri" / "manifest.csv"),
        read_outlines(data_root / "tumour_outlines.json"),
    )
    figures = describe(entries, read_corrections())
    assert figures["slices"] == 5477
    assert {name: one["slices"] for name, one in figures["classes"].items()} == {
        "glioma": 1232, "meningioma": 1263, "no_tumor": 1586, "pituitary": 1396
    }  # fmt: skip
    assert len(figures["known_to_be_wrong"]) == 4
    grey = figures["fingerprints"]["mode"]["slices_by_value_and_class"]["L"]
    assert grey["no_tumor"] < 0.02 * sum(grey.values())
