"""``python -m ml`` keeps its contract: output, exit codes, one line of error."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ml.imaging import read_path
from ml.labels import LABELS
from tests.dicoms import axial_series, head
from tests.warm_start import run_module

REPOSITORY = Path(__file__).parents[4]
SAMPLES = REPOSITORY / "ml" / "samples"


def ml(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_module("ml", *map(str, arguments))


def test_predict_writes_one_object_a_line_and_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "fake.png").write_text("no image")
    done = ml("predict", "--json", tmp_path / "fake.png", SAMPLES / "glioma-1.jpg")
    assert done.returncode == 1
    bad, good = map(json.loads, done.stdout.splitlines())
    assert set(bad) == {"path", "error"}
    assert set(good) == {
        "path", "slice", "label", "probabilities", "prediction_set",
        "in_distribution", "ood_score", "quality", "model",
    }  # fmt: skip
    assert set(good["probabilities"]) == {label.value for label in LABELS}
    assert "Traceback" not in done.stderr


def test_predict_takes_a_folder_with_its_series_in_the_order_of_the_head(tmp_path: Path) -> None:
    contents = axial_series(4)
    folder = tmp_path / "study" / "deeper"
    folder.mkdir(parents=True)
    for name, at in zip("dbac", range(4), strict=True):
        (folder / f"{name}.dcm").write_bytes(contents[at])
    (folder / "report.txt").write_text("nothing to see")
    (folder / "DICOMDIR").write_bytes(b"passed over")
    done = ml("predict", "--json", tmp_path / "study")
    assert done.returncode == 1
    bad, *good = map(json.loads, done.stdout.splitlines())
    assert (Path(bad["path"]).name, set(bad)) == ("report.txt", {"path", "error"})
    assert [Path(line["path"]).name for line in good] == ["d.dcm", "b.dcm", "a.dcm", "c.dcm"]


def test_predict_takes_archives_and_volumes_with_numbered_slices(tmp_path: Path) -> None:
    voxels = np.stack([head(number, 3, 64) for number in range(3)], axis=2)
    volume = nib.Nifti1Image(voxels, np.diag([1, 1, 5, 1])).to_bytes()
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as archive:
        archive.writestr("volumes/T1.nii", volume)
    done = ml("predict", "--json", tmp_path / "disc.zip")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["slice"] for line in lines] == [0, 1, 2]
    assert {line["path"] for line in lines} == {f"{tmp_path}/disc.zip/volumes/T1.nii"}
    for line in lines:
        assert sum(line["probabilities"].values()) == pytest.approx(1)
        assert line["label"] == line["prediction_set"][0]
        assert line["probabilities"] != line["probabilities_alone"]


def test_predict_takes_neighbours_into_account_where_slices_are_missing(tmp_path: Path) -> None:
    for number, content in enumerate(axial_series(6)):
        if number != 2:
            (tmp_path / f"{number}.dcm").write_bytes(content)
    done = ml("predict", "--json", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 5
    assert all("probabilities_alone" in line for line in lines)


def test_predict_says_so_where_there_is_nothing(tmp_path: Path) -> None:
    done = ml("predict", "--json", tmp_path)
    assert done.returncode == 1
    assert set(json.loads(done.stdout)) == {"path", "error"}


def test_evaluate_gives_every_figure_of_the_contract(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = ml("evaluate", "--manifest", SAMPLES / "manifest.csv", "--json", out)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert {
        "n", "accuracy", "balanced_accuracy", "per_class", "confusion", "ece", "nll", "coverage",
        "mean_set_size", "auroc_tumor", "pointing_game",
    } <= set(figures)  # fmt: skip
    assert figures["n"] == 12
    assert figures["pointing_game"]["n"] == 9
    assert set(figures["per_class"]["glioma"]) >= {"recall", "precision", "f1"}


def test_explain_writes_a_picture_of_the_slice_s_size(tmp_path: Path) -> None:
    out = tmp_path / "heat.png"
    assert ml("explain", SAMPLES / "glioma-1.jpg", "--out", out).returncode == 0
    assert read_path(out)[0].pixels.shape == (512, 512, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--manifest", "nothing.csv"),
        ("explain", "nothing.png", "--out", "x.png"),
        ("predict", "x.png", "--model", "nothing.json"),
        ("predict", "nothing.png"),
    ],
)
def test_failure_is_exit_code_1_without_a_traceback(arguments: tuple[str, ...]) -> None:
    done = ml(*arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 1


@pytest.mark.parametrize(
    "arguments", [(), ("predict",), ("train", "--stages", "7:1"), ("nonsense",)]
)
def test_bad_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert ml(*arguments).returncode == 2


@pytest.mark.parametrize(
    "command",
    ["predict", "evaluate", "explain", "train", "crossval", "compare", "audit", "bench"],
)
def test_every_command_explains_itself(command: str) -> None:
    done = ml(command, "--help")
    assert done.returncode == 0
    assert "usage" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["nonsense"]])
def test_help_and_bad_usage_answer_before_any_large_library_is_imported(
    arguments: list[str],
) -> None:
    script = (
        "import sys\n"
        "from ml.__main__ import main\n"
        "try:\n"
        f"    main({arguments})\n"
        "except SystemExit:\n"
        "    large = {'cv2', 'numpy', 'scipy', 'sklearn', 'torch'}\n"
        "    print('imported', *large & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "imported"
