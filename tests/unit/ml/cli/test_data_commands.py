"""``python -m ml dataset`` goes from folders to folds and a card, and fails in one line."""

import csv
import json
from pathlib import Path

import pytest

from config import REPOSITORY
from ml.__main__ import main
from ml.imaging import read_path
from ml.imaging.pictures import encode_png

SAMPLES = REPOSITORY / "ml" / "samples"


def ml(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """The bundled samples in folders by class, one of them also under a wrong class."""
    for path in SAMPLES.glob("*.jpg"):
        target = tmp_path / "set" / path.stem.split("-")[0] / f"{path.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode_png(read_path(path)[0].pixels))
    wrong = tmp_path / "set" / "pituitary" / "wrong.png"
    wrong.write_bytes((tmp_path / "set" / "glioma" / "glioma-1.png").read_bytes())
    return tmp_path / "set"


def test_folders_become_a_manifest_and_contradictions_are_listed(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, left_out = tmp_path / "made" / "manifest.csv", tmp_path / "left-out.csv"
    assert ml("dataset", "folders", "--root", folders, "--out", out, "--left-out", left_out) == 0
    assert len(rows(out)) == 11
    assert {row["stem"] for row in rows(left_out)} == {"glioma-1", "wrong"}
    told = capsys.readouterr().out
    assert "left out, contradicted by a copy: 2" in told
    assert "11 slices, 11 groups" in told


def test_corrected_folders_are_merged_split_and_described(folders: Path, tmp_path: Path) -> None:
    corrections = tmp_path / "corrections.csv"
    corrections.write_text("stem,sha256,label,reason\nwrong,,glioma,copied to the wrong folder\n")
    one, merged = tmp_path / "one.csv", tmp_path / "merged.csv"
    arguments = ("--corrections", corrections)
    assert ml("dataset", "folders", "--root", folders, "--out", one, *arguments) == 0
    assert ml("dataset", "merge", one, SAMPLES / "manifest.csv", "--out", merged) == 0
    assert len(rows(merged)) == 13 + 12
    assert len({row["group"] for row in rows(merged)}) == 12

    folds = tmp_path / "folds.csv"
    assert ml("dataset", "folds", "--manifest", merged, "--folds", 2, "--out", folds) == 1
    assert ml("dataset", "folds", "--manifest", merged, "--folds", 3, "--out", folds) == 0
    assert {row["fold"] for row in rows(folds)} == {"0", "1", "2"}
    assert all(row["fold"] not in row["calibrates"] for row in rows(folds))

    card, figures = tmp_path / "card.md", tmp_path / "card.json"
    assert ml("dataset", "card", "--manifest", merged, "--out", card, "--json", figures) == 0
    assert json.loads(figures.read_text())["slices"] == 25
    assert card.read_text().startswith("# Data card")


def test_outlines_are_merged_and_the_same_name_twice_is_refused(
    folders: Path, tmp_path: Path
) -> None:
    one, other, out = (tmp_path / f"{name}.json" for name in ("one", "other", "out"))
    one.write_text('{"1": [[0, 0], [1, 0], [0, 1]]}')
    other.write_text('{"2": [[0, 0], [1, 0], [0, 1]]}')
    merge = ("dataset", "merge", SAMPLES / "manifest.csv", "--out", tmp_path / "m.csv")
    assert ml(*merge, "--outlines", one, other, "--outlines-out", out) == 0
    assert set(json.loads(out.read_text())) == {"1", "2"}
    assert ml(*merge, "--outlines", one, one, "--outlines-out", out) == 1


def test_readers_answers_become_a_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    pixels = read_path(SAMPLES / "glioma-1.jpg")[0].pixels
    (tmp_path / "images" / "1.png").write_bytes(encode_png(pixels))
    (tmp_path / "manifest.csv").write_text(
        "path,label,group,image_id,study_id,reader\n"
        "images/1.png,glioma,aa,1,s,r1\nimages/1.png,glioma,aa,1,s,r2\n"
        "images/2.png,glioma,aa,2,s,r1\nimages/2.png,pituitary,aa,2,s,r2\n"
    )
    out = tmp_path / "out" / "manifest.csv"
    assert ml("dataset", "feedback", "--export", tmp_path, "--out", out) == 0
    assert [row["path"] for row in rows(out)] == ["../images/1.png"]
    assert "2.png: glioma, pituitary" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("folders", "--root", "nothing", "--out", "x.csv"),
        ("merge", "nothing.csv", "--out", "x.csv"),
        ("feedback", "--export", "nothing", "--out", "x.csv"),
        ("folds", "--manifest", "nothing.csv", "--out", "x.csv"),
        ("card", "--manifest", "nothing.csv", "--out", "x.md"),
        ("volumes", "nothing.nii", "--label", "no_tumor", "--group", "p", "--out", "{}/v"),
    ],
)
def test_failure_is_one_line(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ml("dataset", *(text.format(tmp_path) for text in arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith("ml dataset: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("dataset",),
        ("dataset", "volumes", "x", "--label", "cyst", "--group", "p", "--out", "o"),
        ("dataset", "volumes", "x", "--label", "glioma", "--group", "p", "--out", "o",
         "--every", "0"),
        ("baseline",),
    ],
)  # fmt: skip
def test_bad_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        ml(*arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize("name", ["baseline", "control"])
def test_baseline_answers_to_its_earlier_name(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        ml(name)
    assert "required: --manifest" in capsys.readouterr().err
