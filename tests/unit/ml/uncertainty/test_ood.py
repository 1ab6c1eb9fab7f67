"""Pictures that are no slice of a head break a rule; real slices, however shown, break none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from config import REPOSITORY
from ml.dataset import read_manifest
from ml.errors import InvalidModel
from ml.imaging import read_path
from ml.imaging.montage import several_slices
from ml.imaging.pictures import Pixels
from ml.preprocess import to_grey
from ml.uncertainty.ood import colour_or_bright_frame, evidence_against_head
from ml.uncertainty.ood.picture_rule import BUNDLED, Rule, bundled_rule
from ml.uncertainty.ood.picture_statistics import statistics

ENTRIES = read_manifest(REPOSITORY / "ml" / "samples" / "manifest.csv")
SAMPLES = [read_path(entry.path)[0].pixels for entry in ENTRIES]


def grey_sample(number: int = 0) -> Pixels:
    return to_grey(SAMPLES[number]).astype(np.uint8)


def in_an_oval(grey: Pixels) -> Pixels:
    rows, columns = np.ogrid[-1 : 1 : grey.shape[0] * 1j, -1 : 1 : grey.shape[1] * 1j]
    return np.where(rows**2 + columns**2 <= 0.8, grey, 0).astype(np.uint8)


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_real_slices_break_no_rule(number: int) -> None:
    assert colour_or_bright_frame(SAMPLES[number]) < 1
    assert evidence_against_head(SAMPLES[number]) < 0


def test_sixteen_bits_and_turns_and_sizes_change_nothing_that_matters() -> None:
    for number in (0, 3, 6, 9):
        grey = grey_sample(number)
        for same in (
            grey.astype(np.uint16) * 257,
            np.ascontiguousarray(grey[:, ::-1]),
            np.ascontiguousarray(np.rot90(grey)),
            cv2.resize(grey, (160, 160), interpolation=cv2.INTER_AREA),
        ):
            assert evidence_against_head(same) < 0.3


def test_photograph_and_noise_in_a_black_oval_are_no_head() -> None:
    photograph = to_grey(load_sample_image("china.jpg")).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    for odd in (photograph[:400, 100:500], noise):
        assert colour_or_bright_frame(in_an_oval(odd)) < 1
        assert evidence_against_head(in_an_oval(odd)) > 0


def test_picture_in_which_nothing_stands_out_is_no_head() -> None:
    dot = np.zeros((128, 128), np.uint8)
    dot[40, 70] = 255
    assert statistics(dot) is None
    assert evidence_against_head(dot) > 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (3, 3), (32, 700)])
def test_every_shape_of_picture_gets_an_answer(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    assert np.isfinite(evidence_against_head(pixels))
    assert np.isfinite(colour_or_bright_frame(pixels))


def test_real_colour_is_noticed_and_grey_stored_as_colour_is_not() -> None:
    grey = in_an_oval(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    assert colour_or_bright_frame(grey) < 1
    assert colour_or_bright_frame(np.dstack([grey] * 3)) < 1
    assert colour_or_bright_frame(np.dstack([grey, grey.T, 255 - grey])) > 1


def test_tint_of_a_photographed_film_is_no_colour() -> None:
    grey = grey_sample().astype(np.float64)
    bluish = np.dstack([grey * 0.7, grey * 0.85, grey]).astype(np.uint8)
    assert colour_or_bright_frame(bluish) < 1


def test_coloured_annotation_on_a_slice_is_no_colour() -> None:
    annotated = np.dstack([grey_sample()] * 3)
    cv2.arrowedLine(annotated, (20, 20), (100, 100), (255, 0, 0), 4)
    assert colour_or_bright_frame(annotated) < 1


def test_picture_without_dark_surroundings_is_no_mri() -> None:
    bright = np.full((64, 64), 200, np.uint8) - np.eye(64, dtype=np.uint8) * 200
    assert colour_or_bright_frame(bright) > 1


def test_rule_survives_being_written_and_read(tmp_path: Path) -> None:
    rule = bundled_rule()
    rule.save(tmp_path / "rule.npz")
    numbers = statistics(SAMPLES[0])
    assert numbers is not None
    again = Rule.load(tmp_path / "rule.npz")
    assert again.evidence(numbers) == pytest.approx(rule.evidence(numbers), abs=1e-3)


def test_far_from_everything_known_a_picture_is_no_head() -> None:
    assert bundled_rule().intercept > 0


@pytest.mark.parametrize("content", [b"", b"nonsense", BUNDLED.read_bytes()[:200]])
def test_damaged_rule_is_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rule.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidModel):
        Rule.load(path)


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (2, 2), (3, 2), (3, 3), (4, 5)])
@pytest.mark.parametrize(("gap", "level"), [(0, 0), (4, 0), (4, 255)])
def test_slices_side_by_side_are_several(rows: int, columns: int, gap: int, level: int) -> None:
    side = 512 // max(rows, columns)
    tiles = []
    for number in range(rows * columns):
        small = cv2.resize(grey_sample(number % len(SAMPLES)), (side - 16, side - 16))
        tiles.append(np.pad(np.pad(small, 8), ((0, gap), (0, gap)), constant_values=level))
    lines = [np.hstack(tiles[row * columns :][:columns]) for row in range(rows)]
    assert several_slices(np.vstack(lines)) > 1


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_one_slice_is_not_several(number: int) -> None:
    assert several_slices(SAMPLES[number]) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (5, 5), (40, 900, 3)])
def test_slices_are_counted_in_every_shape_of_picture(shape: tuple[int, ...]) -> None:
    pixels: Pixels = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    assert several_slices(pixels) >= 0
