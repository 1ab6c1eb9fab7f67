"""OOD pictures are many, the same on every run, split by source, and nearly all refused."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from ml.__main__ import main
from ml.evaluation.ood_pictures.collection import held_out_sources, ood_pictures
from ml.evaluation.ood_pictures.drawings import drawings
from ml.evaluation.ood_pictures.fitting import fit_rule
from ml.evaluation.ood_pictures.pictures import OODPicture
from ml.evaluation.ood_pictures.variation import varied


@pytest.fixture(scope="module")
def pictures() -> list[OODPicture]:
    return ood_pictures()


def test_there_are_more_than_two_hundred_of_many_kinds(pictures: list[OODPicture]) -> None:
    assert len(pictures) >= 200
    assert len({one.kind for one in pictures}) >= 25
    assert len({one.source for one in pictures}) >= 80
    assert all(one.pixels.dtype == np.uint8 for one in pictures)


def test_half_of_the_sources_is_held_out_whole(pictures: list[OODPicture]) -> None:
    sources = {one.source for one in pictures}
    held_out = held_out_sources(pictures)
    assert held_out < sources
    assert len(held_out) == pytest.approx(len(sources) / 2, abs=1)


def test_drawings_come_out_the_same_each_time() -> None:
    def checksums() -> list[int]:
        return [zlib.crc32(one.pixels.tobytes()) for one in drawings()]

    assert checksums() == checksums()


def test_variations_keep_to_grey_bytes_and_show_something() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.ogrid[-1:1:120j, -1:1:100j]
    head = (np.where(rows**2 + columns**2 < 0.7, 0.6 + 0.4 * rows, 0) * 255).astype(np.uint8)
    for _ in range(30):
        picture = varied(head, random, is_brain=True)
        assert picture.dtype == np.uint8
        assert picture.ndim == 2
        assert np.ptp(picture) > 0


def test_rule_fitted_anew_tells_its_own_pictures_apart() -> None:
    ovals = [one.pixels for one in drawings() if one.kind == "fruit"]
    squares = [one.pixels for one in drawings() if one.kind == "noise"]
    rule = fit_rule(ovals, squares)
    assert rule.vectors.shape[1] == len(rule.low)


def test_command_says_no_to_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["ood", "--every", "0"])
    assert stopped.value.code == 2
    assert main(["ood", "--manifest", "nowhere.csv"]) == 1
    assert "nowhere.csv" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.data
def test_ood_pictures_are_refused_and_brains_of_unseen_sources_are_not(
    data_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "odd.json"
    volumes = [str(data_root / "nifti-glioma"), str(data_root / "dicom-t1-healthy")]
    manifest = str(data_root / "brain-mri" / "manifest.csv")
    options = ["--manifest", manifest, "--every", "20", "--volumes", *volumes]
    assert main(["ood", *options, "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["odd"]["flagged"] >= 0.95 * figures["odd"]["n"]
    held_out = figures["odd"]["by_group"]["held out"]
    assert held_out["flagged"] >= 0.95 * held_out["n"]
    assert figures["brain"]["flagged"] <= 0.02 * figures["brain"]["n"]
