"""OOD detection is measured, and its rule fitted, on any collection of pictures."""

import json
from pathlib import Path

import numpy as np
import pytest

from ml.__main__ import main
from ml.dataset import read_manifest
from ml.dataset.pixels import pixels_of
from ml.errors import InvalidManifest
from ml.evaluation.bench import CHECK_SLICES
from ml.evaluation.ood.collection import OODPicture, read_collection, write_collection
from ml.evaluation.ood.fitting import fit_rule
from ml.evaluation.ood.variation import varied
from ml.imaging.pictures import Pixels, encode_png
from ml.uncertainty.ood.picture_rule import Rule
from ml.uncertainty.ood.picture_statistics import statistics


def noise(count: int) -> list[Pixels]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (96, 96), np.uint8) for _ in range(count)]


def collection(folder: Path) -> Path:
    """Noise of four sources."""
    pictures = []
    for number, pixels in enumerate(noise(4)):
        path = folder / f"{number}.png"
        path.write_bytes(encode_png(pixels))
        pictures.append(OODPicture(path, "noise", f"drawn {number}"))
    write_collection(folder / "pictures.csv", pictures)
    return folder / "pictures.csv"


def test_variations_keep_to_grey_bytes_and_show_something() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.ogrid[-1:1:120j, -1:1:100j]
    head = (np.where(rows**2 + columns**2 < 0.7, 0.6 + 0.4 * rows, 0) * 255).astype(np.uint8)
    for _ in range(30):
        picture = varied(head, random, is_brain=True)
        assert picture.dtype == np.uint8
        assert picture.ndim == 2
        assert np.ptp(picture) > 0


def test_rule_fitted_anew_tells_its_own_pictures_apart(tmp_path: Path) -> None:
    brains = [pixels_of(entry) for entry in read_manifest(CHECK_SLICES)]
    rule = fit_rule(brains, noise(12))
    rule.save(tmp_path / "rule.npz")
    kept = Rule.load(tmp_path / "rule.npz")
    for pictures, is_ood in ((brains, False), (noise(12), True)):
        for pixels in pictures:
            numbers = statistics(pixels)
            assert numbers is not None
            assert (kept.evidence(numbers) > 0) is is_ood


def test_command_counts_pictures_by_kind_and_half_and_brains_by_source(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    options = ["--every", "2", "--json", str(out)]
    assert main(["ood", "--pictures", str(collection(tmp_path)), *options]) == 0
    figures = json.loads(out.read_text())
    assert figures["ood"]["by_group"] == {
        "noise": {"n": 4, "flagged": 4},
        "tuned on": {"n": 2, "flagged": 2},
        "held out": {"n": 2, "flagged": 2},
    }
    assert figures["brain"]["n"] == 6
    assert set(figures["brain"]["by_group"]) == {"figshare", "other sources"}


def test_command_says_no_to_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = str(collection(tmp_path))
    for wrong in (["--pictures", pictures, "--every", "0"], []):
        with pytest.raises(SystemExit) as stopped:
            main(["ood", *wrong])
        assert stopped.value.code == 2
    assert main(["ood", "--pictures", pictures, "--manifest", "nowhere.csv"]) == 1
    assert "nowhere.csv" in capsys.readouterr().err
    assert main(["ood", "--pictures", str(tmp_path / "nowhere.csv")]) == 1
    assert "nowhere.csv" in capsys.readouterr().err


def test_collection_names_the_picture_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "pictures.csv").write_text("path,kind,source\ngone.png,noise,drawn\n")
    with pytest.raises(InvalidManifest, match=r"line 2: there is no file .*gone\.png"):
        read_collection(tmp_path / "pictures.csv")
