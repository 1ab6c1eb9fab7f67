"""Drawn OOD pictures are many, the same on every run, split by source, and nearly all refused."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ood_pictures.collection import drawn_pictures, write_pictures
from benchmarks.ood_pictures.drawings import drawings
from benchmarks.ood_pictures.pictures import Drawn
from ml.__main__ import main
from ml.evaluation.ood.collection import held_out_sources, read_collection


@pytest.fixture(scope="module")
def pictures() -> list[Drawn]:
    return drawn_pictures()


@pytest.fixture(scope="module")
def collection(pictures: list[Drawn], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(pictures, tmp_path_factory.mktemp("ood"))


def test_there_are_more_than_two_hundred_of_many_kinds(pictures: list[Drawn]) -> None:
    assert len(pictures) >= 200
    assert len({one.kind for one in pictures}) >= 25
    assert len({one.source for one in pictures}) >= 80
    assert all(one.pixels.dtype == np.uint8 for one in pictures)


def test_files_hold_the_pictures_as_they_were_drawn(
    pictures: list[Drawn], collection: Path
) -> None:
    kept = read_collection(collection)
    assert [(one.kind, one.source) for one in kept] == [(one.kind, one.source) for one in pictures]
    for one, drawn in zip(kept, pictures, strict=True):
        assert np.array_equal(one.pixels(), drawn.pixels)


def test_half_of_the_sources_is_held_out_whole(collection: Path) -> None:
    kept = read_collection(collection)
    sources = {one.source for one in kept}
    held_out = held_out_sources(kept)
    assert held_out < sources
    assert len(held_out) == pytest.approx(len(sources) / 2, abs=1)


def test_drawings_come_out_the_same_each_time() -> None:
    def checksums() -> list[int]:
        return [zlib.crc32(one.pixels.tobytes()) for one in drawings()]

    assert checksums() == checksums()


@pytest.mark.slow
@pytest.mark.data
def test_ood_pictures_are_refused_and_brains_of_unseen_sources_are_not(
    data_root: Path, collection: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ood.json"
    volumes = [str(data_root / "nifti-glioma"), str(data_root / "dicom-t1-healthy")]
    manifest = str(data_root / "brain-mri" / "manifest.csv")
    options = ["--manifest", manifest, "--every", "20", "--volumes", *volumes]
    assert main(["ood", "--pictures", str(collection), *options, "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["ood"]["flagged"] >= 0.95 * figures["ood"]["n"]
    held_out = figures["ood"]["by_group"]["held out"]
    assert held_out["flagged"] >= 0.95 * held_out["n"]
    assert figures["brain"]["flagged"] <= 0.02 * figures["brain"]["n"]
