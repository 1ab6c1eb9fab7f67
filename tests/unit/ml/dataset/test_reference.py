"""The reference set is whole, is held out from the shipped model, and nothing learns from it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ml.dataset import Entry, read_exclusions, read_manifest, split_as_kept
from ml.dataset.further import without_held_out
from ml.dataset.parts import counted, images_hash
from ml.dataset.reference import BUNDLED, read_reference, seal_reference
from ml.errors import InvalidManifest
from ml.evaluation.ood.collection import read_collection
from ml.imaging import read_path
from ml.imaging.pictures import encode_png
from ml.labels import LABELS, Label
from ml.registry import SERVING, read_card

LARGEST = 10_000_000  # bytes of all files


def small_reference(folder: Path) -> Path:
    """A few slices of the set, sealed anew."""
    (folder / "images").mkdir(parents=True)
    whole = read_reference()
    for name in ("healthy", "pictures"):
        shutil.copytree(BUNDLED / name, folder / name)
        shutil.copy(BUNDLED / f"{name}.csv", folder)
    shutil.copy(BUNDLED / "outlines.json", folder)
    lines = (BUNDLED / "manifest.csv").read_text().splitlines()
    (folder / "manifest.csv").write_text("\n".join(lines[:5]) + "\n")
    for one in whole.slices[:4]:
        target = folder / one.path.relative_to(BUNDLED)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(one.path, target)
    seal_reference(folder)
    return folder


def test_bundled_set_is_whole_and_small_and_holds_every_class() -> None:
    reference = read_reference()
    assert {entry.label for entry in reference.slices} == set(LABELS)
    assert all(entry.label is Label.NO_TUMOR and entry.spacing for entry in reference.healthy)
    assert len(read_collection(reference.pictures)) > 30
    assert sum(entry.outline is not None for entry in reference.slices) > 600
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) < LARGEST


def test_bundled_set_is_as_large_as_the_part_that_the_shipped_model_was_validated_on() -> None:
    assert counted(read_reference().slices) == read_card(SERVING)["split"]["validation"]


@pytest.mark.data
def test_bundled_set_is_the_part_that_the_shipped_model_was_validated_on(data_root: Path) -> None:
    manifest = data_root / "brain-mri" / "manifest.csv"
    entries = read_manifest(manifest, excluded=read_exclusions())
    validation = split_as_kept(entries, read_card(SERVING)).validation
    assert images_hash(read_reference().slices) == images_hash(validation)


def test_set_that_lacks_a_file_or_holds_another_is_refused(tmp_path: Path) -> None:
    folder = small_reference(tmp_path / "reference")
    assert len(read_reference(folder).slices) == 4
    (folder / "images" / "further.jpg").write_bytes(b"x")
    with pytest.raises(InvalidManifest, match=r"further\.jpg, which is not listed"):
        read_reference(folder)
    (folder / "images" / "further.jpg").unlink()
    (folder / "pictures.csv").write_text("path,kind,source\n")
    with pytest.raises(InvalidManifest, match=r"pictures\.csv has another hash"):
        read_reference(folder)
    (folder / "pictures.csv").unlink()
    with pytest.raises(InvalidManifest, match=r"lacks pictures\.csv"):
        read_reference(folder)


def test_copies_of_its_slices_are_not_learnt_from(tmp_path: Path) -> None:
    folder = small_reference(tmp_path / "reference")
    known = read_reference(folder).slices[1]
    pixels = np.ascontiguousarray(read_path(known.path)[0].pixels[:, ::-1])
    (tmp_path / "mirrored.png").write_bytes(encode_png(pixels))
    coarse = np.random.default_rng(0).integers(0, 255, (8, 8))
    (tmp_path / "new.png").write_bytes(encode_png(np.kron(coarse, np.ones((8, 8))).astype("uint8")))
    copy = Entry(tmp_path / "mirrored.png", Label.GLIOMA, "one patient")
    new = Entry(tmp_path / "new.png", Label.GLIOMA, "another")
    found = without_held_out([copy, new], read_reference(folder).held_out)
    assert found.entries == [new]
    assert found.dropped == {copy.path: "group with copies (mirrored)"}
