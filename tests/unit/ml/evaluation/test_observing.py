"""The file of observations: whole, of these weights, and read as it was written."""

import json
from pathlib import Path

import numpy as np
import pytest

from ml.errors import InvalidModel
from ml.evaluation.observing import observed_path, read_observed, write_observed
from ml.model_files import BUNDLED, find_model_files
from ml.serving.observation import FEATURES, STATISTICS

SHIPPED = json.loads(observed_path(BUNDLED).read_text(encoding="utf-8"))


def test_the_shipped_file_is_of_the_shipped_weights() -> None:
    sample = read_observed(observed_path(BUNDLED), sha256=find_model_files(BUNDLED).sha256)
    assert sample is not None
    assert len(sample) == len(SHIPPED["observations"])
    assert sample.figures.shape == (len(sample), len(STATISTICS))
    assert np.isfinite(sample.figures).all()
    groups = [one["group"] for one in SHIPPED["observations"]]
    assert max(groups.count(one) for one in set(groups)) <= 4


def test_what_is_written_is_read_and_features_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "net.observed.json"
    row = SHIPPED["observations"][0]
    without = row | {"figures": [*row["figures"][:-FEATURES], *[None] * FEATURES]}
    write_observed(SHIPPED | {"observations": [row, without]}, path)
    sample = read_observed(path, sha256=SHIPPED["weights_sha256"])
    assert sample is not None
    assert sample.figures[0] == pytest.approx(row["figures"])
    assert np.isnan(sample.figures[1, -FEATURES:]).all()
    assert sample.labels == (row["label"],) * 2


def test_other_weights_have_none_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.observed.json"
    assert read_observed(path, sha256="0") is None
    write_observed(SHIPPED, path)
    assert read_observed(path, sha256="0" * 64) is None
    for damaged in (path.read_text()[:-20], "[]", json.dumps(SHIPPED | {"format": 9})):
        path.write_text(damaged)
        with pytest.raises(InvalidModel, match=r"net\.observed\.json"):
            read_observed(path, sha256=SHIPPED["weights_sha256"])
