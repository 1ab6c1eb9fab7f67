"""Statistics of brightness and texture are what their names say, whatever a file's size."""

import cv2
import numpy as np
import pytest

from config import REPOSITORY
from ml.experiments.baseline_statistics import STATISTICS, file_statistics, statistics
from ml.imaging import read_path
from ml.preprocess import to_grey

SAMPLE = REPOSITORY / "ml" / "samples" / "glioma-1.jpg"


def named(row: np.ndarray) -> dict[str, float]:
    return dict(zip(STATISTICS, map(float, row), strict=True))


def test_statistics_of_two_halves_are_those_computed_by_hand() -> None:
    image = np.zeros((224, 224), np.float32)
    image[:, 112:] = 1
    found = named(statistics(image))
    assert found["mean"] == pytest.approx(0.5)
    assert found["deviation"] == pytest.approx(0.5)
    assert found["skewness"] == pytest.approx(0, abs=1e-5)
    assert found["kurtosis"] == pytest.approx(1)
    assert found["entropy"] == pytest.approx(1)
    assert found["background_share"] == pytest.approx(0.5)
    assert found["percentile_95"] == 1
    assert found["symmetry"] == pytest.approx(-1)


def test_a_mirrored_head_has_the_same_symmetry() -> None:
    grey = to_grey(read_path(SAMPLE)[0].pixels) / 255
    one, other = statistics(grey), statistics(np.ascontiguousarray(grey[:, ::-1]))
    assert named(one)["symmetry"] == pytest.approx(named(other)["symmetry"], abs=1e-4)


def test_a_file_s_size_and_depth_change_little() -> None:
    pixels = read_path(SAMPLE)[0].pixels
    deep = pixels.astype(np.uint16) * 257
    small = np.asarray(cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_AREA), np.uint8)
    for other in (deep, small):
        np.testing.assert_allclose(file_statistics(other), file_statistics(pixels), atol=0.02)


def test_a_blank_picture_has_finite_statistics() -> None:
    assert np.isfinite(file_statistics(np.zeros((64, 64), np.uint8))).all()
