"""The baseline tells classes by brightness alone, and nothing where sources do not."""

from pathlib import Path

import numpy as np
import pytest

from ml.dataset import Entry, folds_against_source, folds_by_group
from ml.errors import UnreadableImage
from ml.experiments.baseline import baseline_figures, baseline_probabilities, read_features, table
from ml.experiments.baseline_statistics import STATISTICS
from ml.imaging.pictures import encode_png
from ml.labels import INDEX, LABELS, Label
from tests.dicoms import head

GROUPS = 96
BRIGHTNESS = {Label.GLIOMA: 1.0, Label.MENINGIOMA: 0.8, Label.NO_TUMOR: 0.4, Label.PITUITARY: 0.6}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Heads that differ in brightness by class; one source has tumours of its own, as dark as
    its heads without."""
    folder = tmp_path_factory.mktemp("collection")
    random = np.random.default_rng(3)
    entries = []
    for number in range(GROUPS):
        label = LABELS[number % 4]
        stray = label is Label.MENINGIOMA and number % 8 == 1
        brightness = BRIGHTNESS[Label.NO_TUMOR if stray else label]
        pixels = head(number % 5 + 1, 7, 96) / 8 * brightness + random.normal(0, 2, (96, 96))
        path = folder / f"{number}.png"
        path.write_bytes(encode_png(np.clip(pixels, 0, 255).astype(np.uint8)))
        source = "b" if stray or label is Label.NO_TUMOR else "a"
        entries.append(Entry(path, label, f"p{number}", source=source))
    return entries


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps the statistics of the collection, so that they are computed once for all tests."""
    return tmp_path_factory.mktemp("cache") / "baseline.npz"


def test_brightness_tells_the_classes_of_files(collection: list[Entry], cache: Path) -> None:
    folds = folds_by_group(collection, folds=2, seed=1)
    chances = baseline_probabilities(collection, folds, kind="raw", size=64, cache=cache)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    wanted = np.array([INDEX[entry.label.value] for entry in collection])
    assert (chances.argmax(axis=1) == wanted).mean() > 0.6


def test_entries_that_no_fold_measures_have_no_answer(collection: list[Entry], cache: Path) -> None:
    folds = folds_against_source(folds_by_group(collection, folds=2, seed=1))
    chances = baseline_probabilities(collection, folds, kind="raw", size=64, cache=cache)
    unanswered = np.isnan(chances[:, 0])
    assert [entry.source == "a" for entry in collection] == unanswered.tolist()


def test_against_the_source_only_mixed_sources_are_measured_and_their_tumours_not_learnt(
    collection: list[Entry],
) -> None:
    folds = folds_by_group(collection, folds=3, seed=1)
    for split in folds_against_source(folds):
        assert {entry.source for entry in split.validation} == {"b"}
        learnt = {entry.label for entry in split.training if entry.source == "b"}
        assert learnt == {Label.NO_TUMOR}
    assert not folds_against_source(
        folds_by_group([e for e in collection if e.source == "a"], folds=3, seed=1)
    )


def test_figures_stand_for_each_kind_and_place(collection: list[Entry], cache: Path) -> None:
    figures = baseline_figures(
        collection, folds=2, seed=1, elsewhere=collection[:8], size=64, cache=cache
    )
    assert set(figures["kinds"]) == {"raw", "prepared", "augmented"}
    for parts in figures["kinds"].values():
        assert parts["folds"]["n"] == GROUPS
        assert parts["against_source"]["n"] == 36
        assert parts["elsewhere"]["n"] == 8
        assert "accuracy" in parts["folds"]["intervals_95"]
    assert "against source" in table(figures)
    # The dark tumours of source b look like its heads without a tumour.
    assert figures["kinds"]["raw"]["against_source"]["auroc_tumor"] < 0.8


def test_where_no_source_is_mixed_nothing_is_measured_against_it(
    collection: list[Entry], tmp_path: Path
) -> None:
    tumors = [entry for entry in collection if entry.source == "a"]
    cache = tmp_path / "baseline.npz"
    figures = baseline_figures(tumors, folds=2, seed=1, kinds=("raw",), size=64, cache=cache)
    assert figures["kinds"]["raw"]["against_source"] is None
    assert figures["kinds"]["raw"]["folds"]["auroc_tumor"] is None
    assert len(table(figures).splitlines()) == 3


def test_statistics_are_kept_and_made_anew_for_other_files(
    collection: list[Entry], tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "baseline.npz"
    first = read_features(collection[:6], size=64, cache=cache)
    assert first["augmented"].shape[1:] == (6, len(STATISTICS))
    written = cache.stat().st_mtime_ns
    again = read_features(collection[:6], size=64, cache=cache)
    assert cache.stat().st_mtime_ns == written
    np.testing.assert_array_equal(again["augmented"], first["augmented"])
    assert read_features(collection[:5], size=64, cache=cache)["raw"].shape[1] == 5
    cache.write_bytes(b"PK\x03\x04 damaged")
    assert read_features(collection[:5], size=64, cache=cache)["raw"].shape[1] == 5


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        read_features([Entry(path, Label.GLIOMA, "p")], size=64)
