"""What is observed of a slice: each statistic moves with what it is named after."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from ml.preprocess import PIPELINES
from ml.serving.observation import (
    FEATURES,
    IMAGE_STATISTICS,
    STATISTICS,
    image_statistics,
    observe,
    pack,
    unpack,
)
from tests.factories import phantom

Picture = npt.NDArray[np.uint8]


def statistics(picture: npt.NDArray[np.generic]) -> dict[str, float]:
    prepared = PIPELINES["head-crop"](picture, 64)
    found = image_statistics(picture, prepared)
    assert found.dtype == np.float32
    return dict(zip(IMAGE_STATISTICS, map(float, found), strict=True))


@pytest.fixture
def head() -> Picture:
    return (phantom(3)[1] // 16).astype(np.uint8)


def test_depth_of_the_pixels_does_not_matter(head: Picture) -> None:
    deep = statistics(head.astype(np.uint16) * 257)
    assert deep == pytest.approx(statistics(head), abs=0.02)


def test_blurring_inverting_and_shrinking_show(head: Picture) -> None:
    plain = statistics(head)
    assert statistics(cv2.GaussianBlur(head, (0, 0), 3))["sharpness"] < plain["sharpness"] - 0.5
    assert statistics(head.max() - head)["centre"] < 0 < plain["centre"]
    half = cv2.resize(head, None, fx=0.5, fy=0.5)
    small = np.pad(half, ((24, 24), (32, 32)))
    assert statistics(small)["head"] < plain["head"] / 2
    assert statistics(half)["size"] == pytest.approx(plain["size"] - 1)


def test_a_flat_or_coloured_picture_has_finite_figures(head: Picture) -> None:
    colour = np.stack([head] * 3, axis=2)
    assert statistics(colour) == pytest.approx(statistics(head), abs=0.02)
    prepared = PIPELINES["head-crop"](head, 64)
    flat = image_statistics(np.full((40, 2), 7, np.uint8), prepared)
    assert np.isfinite(flat).all()


def test_an_observation_is_kept_as_it_was() -> None:
    image = np.arange(len(IMAGE_STATISTICS), dtype=np.float32)
    observed = observe(
        image,
        np.array([0.5], np.float32),
        ood_score=0.25,
        set_size=2,
        probabilities={"glioma": 0.75, "no_tumor": 0.25},
    )
    kept = unpack(pack(observed))
    assert len(kept) == len(STATISTICS)
    assert kept[STATISTICS.index("set_size")] == 2
    assert kept[STATISTICS.index("max_probability")] == 0.75
    assert np.isnan(kept[-FEATURES + 1 :]).all()  # those that the network lacks
