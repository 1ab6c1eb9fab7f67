"""The bundled model loads only unharmed, answers in batches, repeats itself and explains."""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from ml.architectures import Output
from ml.dataset import read_manifest
from ml.errors import InvalidModel, UnreadableImage
from ml.imaging import read_bytes, read_path
from ml.labels import LABELS, Label, decide
from ml.preprocess import FloatImage
from ml.registry import SERVING, load_model
from ml.serving.engines import TorchEngine
from ml.serving.explain import overlay, overlay_png
from ml.serving.predictor import Predictor, Result

SAMPLES = SERVING.parents[1] / "samples"
ENTRIES = read_manifest(SAMPLES / "manifest.csv")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(device="cpu")


@pytest.fixture(scope="module")
def results(predictor: Predictor) -> list[Result]:
    found = predictor.predict([read_path(entry.path)[0].pixels for entry in ENTRIES])
    return [one for one in found if isinstance(one, Result)]


def test_most_samples_of_unseen_patients_are_right(results: list[Result]) -> None:
    right = [one.label is entry.label for one, entry in zip(results, ENTRIES, strict=True)]
    assert sum(right) >= 10


def test_probabilities_are_complete(predictor: Predictor, results: list[Result]) -> None:
    for one in results:
        assert list(one.probabilities) == [label.value for label in LABELS]
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert one.probabilities[one.prediction_set[0].value] == max(one.probabilities.values())
        assert one.label in one.prediction_set
        chances, least = list(one.probabilities.values()), predictor.card["doubt"]["no_tumor_from"]
        assert one.label is decide(chances, no_tumor_from=least)


def test_real_slices_are_familiar(results: list[Result]) -> None:
    assert all(one.in_distribution for one in results)


def test_heatmap_has_the_slice_s_size_and_shows_tumours_only(results: list[Result]) -> None:
    for one, entry in zip(results, ENTRIES, strict=True):
        assert one.heat.shape == read_path(entry.path)[0].pixels.shape[:2]
        assert one.heat.min() >= 0
        assert one.heat.max() <= 1
        if entry.label is Label.NO_TUMOR and one.label is Label.NO_TUMOR:
            assert one.heat.max() < 0.5


def test_overlay_is_a_transparent_picture(results: list[Result]) -> None:
    png = results[0].overlay_png()
    (decoded,) = read_bytes(png)
    assert decoded.pixels.shape == (*results[0].heat.shape, 3)
    with Image.open(io.BytesIO(png)) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), overlay(results[0].heat))


def test_overlay_s_file_is_small_and_says_nothing_of_what_is_not_seen() -> None:
    faint = np.linspace(0, 0.1, 256 * 256, dtype=np.float32).reshape(256, 256)
    assert len(overlay_png(faint)) < 2000
    assert not overlay(faint)[..., 3].any()


def test_same_slice_gets_the_same_answer_alone_and_in_a_batch(
    predictor: Predictor, results: list[Result]
) -> None:
    (alone,) = predictor.predict([read_path(ENTRIES[0].path)[0].pixels])
    assert isinstance(alone, Result)
    assert alone.probabilities == pytest.approx(results[0].probabilities, abs=1e-3)


def test_two_runs_agree_to_the_last_bit(predictor: Predictor) -> None:
    pixels = [read_path(entry.path)[0].pixels for entry in ENTRIES[:4]]
    first, second = predictor.predict(pixels), predictor.predict(pixels)
    for one, other in zip(first, second, strict=True):
        assert isinstance(one, Result)
        assert isinstance(other, Result)
        assert one.probabilities == other.probabilities
        np.testing.assert_array_equal(one.heat, other.heat)


def test_precisions_agree(results: list[Result]) -> None:
    model = load_model()
    engine = TorchEngine(model.network, device=torch.device("cpu"), dtype=torch.float32)
    exact = Predictor(model, engine)
    found = exact.predict([read_path(entry.path)[0].pixels for entry in ENTRIES])
    for one, other in zip(results, found, strict=True):
        assert isinstance(other, Result)
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.05)


def test_answers_of_a_volume_are_of_one_kind(predictor: Predictor, results: list[Result]) -> None:
    opinions = predictor.in_volume(results)
    assert len(opinions) == len(results)
    for one in opinions:
        assert list(one.probabilities) == [label.value for label in LABELS]
        assert one.label in one.prediction_set
        assert one.label is decide(list(one.probabilities.values()))


@dataclass(frozen=True)
class Sure:
    """A slice that is called a glioma as a whole."""

    tumor_by_localisation: float | None
    head_share: float = 0.5
    ood_score: float = 0.5

    @property
    def probabilities(self) -> dict[str, float]:
        return {"glioma": 0.999, "meningioma": 0.0005, "no_tumor": 0.0005, "pituitary": 0.0}


def test_tumour_in_a_volume_that_the_places_do_not_bear_out_is_doubted(
    predictor: Predictor,
) -> None:
    places = [0.8, 0.9, 0.8, 0.1, 0.1, 0.6, 0.1]
    opinions = predictor.in_volume([Sure(one) for one in places])
    borne_out, doubted = opinions[:3], opinions[4:]
    assert [one.prediction_set for one in borne_out] == [(Label.GLIOMA,)] * 3
    assert [one.prediction_set for one in doubted] == [(Label.GLIOMA, Label.NO_TUMOR)] * 3
    assert doubted[0].probabilities == borne_out[0].probabilities
    without_places = predictor.in_volume([Sure(None)] * 3)
    assert without_places == borne_out


def test_volume_in_which_the_places_see_nothing_has_no_tumour(predictor: Predictor) -> None:
    for one in predictor.in_volume([Sure(0.1), Sure(0.6), Sure(0.1)]):
        assert one.prediction_set == (Label.NO_TUMOR, Label.GLIOMA)


def test_neighbours_of_an_uneven_stack_count_by_their_distance(predictor: Predictor) -> None:
    stack = [Sure(0.1), Sure(0.1), Sure(0.9), Sure(0.55), Sure(0.1), Sure(0.1)]
    by_number = predictor.in_volume(stack)
    assert predictor.in_volume(stack, [3.3 * n for n in range(6)]) == by_number
    assert predictor.in_volume(stack, [*range(5), None]) == by_number
    assert by_number[3].prediction_set == (Label.GLIOMA,)
    gap = predictor.in_volume(stack, [0.0, 1.0, 2.0, 12.0, 13.0, 14.0])
    assert gap[2].prediction_set == (Label.GLIOMA,)
    assert gap[3].prediction_set == (Label.GLIOMA, Label.NO_TUMOR)


def test_slice_of_a_volume_that_shows_no_brain_raises_no_alarm(predictor: Predictor) -> None:
    cap = Sure(0.9, head_share=0.04)
    first, *inside, last = predictor.in_volume([cap, Sure(0.9), Sure(0.9), Sure(0.9), cap])
    for one in (first, last):
        assert not one.in_distribution
        assert one.label is Label.NO_TUMOR
    for one in inside:
        assert one.in_distribution
        assert one.prediction_set == (Label.GLIOMA,)


def test_blank_slice_among_others_is_named(predictor: Predictor) -> None:
    good = read_path(ENTRIES[0].path)[0].pixels
    first, blank, last = predictor.predict([good, np.zeros((64, 64), np.uint8), good])
    assert isinstance(blank, UnreadableImage)
    assert blank.code == "blank"
    assert isinstance(first, Result)
    assert isinstance(last, Result)


@pytest.mark.parametrize(("side", "familiar"), [(160, True), (70, False)])
def test_head_too_small_to_be_cropped_to_is_unfamiliar(
    predictor: Predictor, side: int, familiar: bool
) -> None:
    pixels = read_path(ENTRIES[0].path)[0].pixels
    canvas = np.zeros((224, 224), np.uint8)
    canvas[:side, :side] = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    (found,) = predictor.predict([canvas])
    assert isinstance(found, Result)
    assert found.in_distribution is familiar


def test_coloured_picture_is_no_brain_mri(predictor: Predictor) -> None:
    rows, columns = np.mgrid[:256, :256].astype(np.uint8)
    (found,) = predictor.predict([np.dstack([rows, columns, 255 - rows])])
    assert isinstance(found, Result)
    assert not found.in_distribution


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_grey_photograph_is_no_brain_mri(predictor: Predictor, name: str) -> None:
    photograph = load_sample_image(name).mean(axis=2).astype(np.uint8)
    (found,) = predictor.predict([photograph])
    assert isinstance(found, Result)
    assert not found.in_distribution


def test_page_of_text_is_no_brain_mri(predictor: Predictor) -> None:
    page = np.full((400, 300), 255, np.uint8)
    for line in range(30, 380, 18):
        cv2.putText(page, "Findings: none of note", (20, line), 0, 0.5, 0)
    (found,) = predictor.predict([page])
    assert isinstance(found, Result)
    assert not found.in_distribution


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_brain_mri(predictor: Predictor, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 255, (256, 256), dtype=np.uint8)
    (found,) = predictor.predict([noise])
    assert isinstance(found, Result)
    assert not found.in_distribution


def copied(folder: Path) -> Path:
    for path in SERVING.parent.glob(f"{SERVING.stem}*"):
        shutil.copy(path, folder)
    return folder / SERVING.name


def test_damaged_weights_are_not_loaded(tmp_path: Path) -> None:
    card = copied(tmp_path)
    weights = max(tmp_path.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InvalidModel, match="hash"):
        load_model(card)


def test_damaged_quantised_network_is_not_loaded(tmp_path: Path) -> None:
    card = copied(tmp_path)
    (network,) = tmp_path.glob("*.xml")
    network.write_text(network.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(InvalidModel, match="hash"):
        load_model(card)
    network.unlink()
    with pytest.raises(InvalidModel, match="cannot be read"):
        load_model(card)


def test_missing_or_broken_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be read"):
        load_model(tmp_path / "nothing.json")
    (tmp_path / "broken.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidModel, match="cannot be read"):
        load_model(tmp_path / "broken.json")


def test_card_tells_what_a_reader_needs() -> None:
    card = json.loads(SERVING.read_text(encoding="utf-8"))
    metrics = card["metrics"]
    assert metrics["accuracy"] >= 0.90
    assert metrics["intervals_95"]["accuracy"][0] < metrics["accuracy"]
    matrix = np.array(metrics["confusion"]["matrix"])
    assert np.trace(matrix) / matrix.sum() == pytest.approx(metrics["accuracy"])
    assert card["split"]["by"].startswith("group")
    assert all(size < 32_000_000 for size in card["weights"]["bytes"])
    assert "not a certified medical device" in card["intended_use"].lower()


class _Leaning(TorchEngine):
    """An engine whose answers lean on what else is in the batch."""

    def run(self, images: FloatImage) -> Output:
        found = super().run(images)
        return found._replace(logits=found.logits + 1e-6 * len(images))


def test_model_whose_answers_depend_on_their_batch_is_found_out() -> None:
    model = load_model()
    engine = _Leaning(model.network, device=torch.device("cpu"), dtype=torch.float32)
    leaning = Predictor(model, engine)
    leaning.try_batches()
    assert leaning.batches_are_alike is False


def test_integers_answer_alike_in_every_batch(predictor: Predictor) -> None:
    if "int8" not in predictor.engine:
        pytest.skip("this processor has no 8-bit integers")
    predictor.try_batches()
    assert predictor.batches_are_alike
    slices = [read_path(entry.path)[0].pixels for entry in ENTRIES[:8]]
    alone = [predictor.predict([one])[0] for one in slices]
    for one, together in zip(alone, predictor.predict(slices), strict=True):
        assert isinstance(one, Result)
        assert isinstance(together, Result)
        assert one.plain() == together.plain()
        assert np.array_equal(one.heat, together.heat)
