"""The card's tables tell the figures, and the gallery shows confident mistakes once a patient."""

import json
from pathlib import Path

import numpy as np
import pytest

from ml.dataset import Entry, read_manifest
from ml.errors import InvalidModel
from ml.evaluation.evaluation import Observed
from ml.imaging import read_bytes, read_path
from ml.labels import LABELS, Label
from ml.registry import SERVING, enter_figures, write_card
from ml.reporting.measured_sections import THINNED, VOLUMES, measured_sections, ood_figures
from ml.reporting.model_card import failure_gallery, write_tables
from ml.serving.predictor import Result

ENTRIES = read_manifest(SERVING.parents[1] / "samples" / "manifest.csv")


def said(entry: Entry, label: Label, chance: float = 0.9) -> Observed:
    probabilities = {one.value: (1 - chance) / 3 for one in LABELS} | {label.value: chance}
    heat = np.zeros(read_path(entry.path)[0].pixels.shape[:2], np.float32)
    return Observed(entry, Result(label, probabilities, (label,), 0.5, heat))


def test_page_holds_figures_intervals_gallery_and_its_command(tmp_path: Path) -> None:
    card = json.loads(SERVING.read_text(encoding="utf-8"))
    page = tmp_path / "model.md"
    write_tables(card, page, gallery="images/failures.png", command="python -m ml card …")
    text = page.read_text(encoding="utf-8")
    low, high = card["metrics"]["intervals_95"]["accuracy"]
    assert f"| accuracy | {card['metrics']['accuracy']:.3f} | {low:.3f} to {high:.3f} |" in text
    assert "(images/failures.png)" in text
    assert "python -m ml card …" in text
    assert card["limits"][0] in text
    assert "not for diagnosis" in text


def test_page_tells_of_study_answers_where_they_were_measured(tmp_path: Path) -> None:
    card = json.loads(SERVING.read_text(encoding="utf-8"))
    page = tmp_path / "model.md"
    card["metrics"] |= {
        "studies": {
            "n": 9, "right": 7, "covered": 8, "mean_set_size": 1.25, "certain": 6,
            "certain_and_right": 5, "contradicted": 1, "tumor_found": {"n": 4, "of": 5},
        },
        "mixed": {"n": 20, "certain": 3, "covered": 16},
    }  # fmt: skip
    write_tables(card, page, gallery=None, command="python -m ml card …")
    text = page.read_text(encoding="utf-8")
    assert "| certain of one class, and right | 5 of 6 |" in text
    assert "| mixed up: certain of one class | 3 of 20 |" in text
    assert "| a tumour, called a tumour of any kind | 4 of 5 |" in text
    assert "no tumour, called none" not in text  # a card from before it was counted
    del card["metrics"]["studies"]
    write_tables(card, page, gallery=None, command="python -m ml card …")
    assert "## Studies" not in page.read_text(encoding="utf-8")


def test_page_says_what_a_calibration_part_can_tell(tmp_path: Path) -> None:
    card = json.loads(SERVING.read_text(encoding="utf-8"))
    page = tmp_path / "model.md"
    card["metrics"]["part"] = "calibration"
    write_tables(card, page, gallery=None, command="python -m ml card …")
    text = page.read_text(encoding="utf-8")
    assert "Figures on the calibration part" in text
    assert "No weight learnt from them; offsets and doubt were fitted on them" in text


def test_page_tells_cross_validations_of_other_networks(tmp_path: Path) -> None:
    card = json.loads(SERVING.read_text(encoding="utf-8"))
    figures = card["metrics"] | {
        "architecture": "vgg16-gap",
        "epochs": 4,
        "start": "ImageNet",
        "accuracy_by_fold": {"fold-1": 0.91, "fold-2": 0.87},
        "command": "python -m ml crossval …",
    }
    page = tmp_path / "model.md"
    card["cross_validations"] = {"against-source": figures}
    write_tables(card, page, gallery=None, command="python -m ml card …")
    text = page.read_text(encoding="utf-8")
    assert "accuracy of the folds 0.910, 0.870" in text
    assert "the source tells the wrong class" in text
    assert "python -m ml crossval …" in text
    del card["cross_validations"]
    write_tables(card, page, gallery=None, command="python -m ml card …")
    assert "Cross-validation" not in page.read_text(encoding="utf-8")


def test_page_tells_what_was_measured_beside_the_metrics(tmp_path: Path) -> None:
    path, page = tmp_path / "card.json", tmp_path / "model.md"
    card = json.loads(SERVING.read_text(encoding="utf-8"))
    sections = (
        "Volumes of other hospitals", "Uneven stacks", "Is it a brain MRI at all?",
        "Heatmaps compared",
    )  # fmt: skip
    for name in ("volumes", "thinned", "familiarity", "explanations"):
        card.pop(name, None)
    write_tables(card, page, gallery=None, command="python -m ml card …")
    assert not any(section in page.read_text(encoding="utf-8") for section in sections)
    write_card(card, path)
    shares = {name: {"n": 3, "of": 40} for name in VOLUMES}
    enter_figures(path, "volumes", {"model": "earlier"}, command="python -m ml earlier")
    enter_figures(path, "volumes", shares, command="python -m ml volumes …")
    few = {name: {"n": 1, "of": 8} for name in THINNED}
    none = {name: {"n": 0, "of": 0} for name in THINNED}
    ways = {
        "half left out": {"alone": few, "by_number": few, "by_distance": few},
        "nothing left": {"alone": none, "by_number": none, "by_distance": none},
    }
    enter_figures(path, "thinned", {"ways": ways}, command="python -m ml volumes … --thinned 9")
    ood = {"n": 9, "flagged": 8, "by_group": {"held out": {"n": 5, "flagged": 4}}}
    brain = {"n": 90, "flagged": 1, "by_group": {}}
    figures = {"ood": ood, "brain": brain}
    enter_figures(path, "out_of_distribution", figures, command="python -m ml ood …")
    methods = {
        "methods": {"LayerCAM": {"pointing_game": 0.25, "energy_in_box": 0.125}},
        "sanity": {"LayerCAM": {"head drawn anew": 0.5}},
        "n": 7,
    }
    enter_figures(path, "explanations", methods, command="python -m ml heatmaps …")
    write_tables(json.loads(path.read_text()), page, gallery=None, command="python -m ml card …")
    text = page.read_text(encoding="utf-8")
    assert all(section in text for section in sections)
    for line in (
        "| slices without a tumour, called tumour | 3 of 40 |",
        "| no brain MRI, held out | 4 of 5 |",
        "| brain MRI, all | 1 of 90 |",
        "| LayerCAM | 0.250 | 0.125 | 0.50 |",
        "python -m ml volumes …",
        "| half left out: called a glioma | 12.5 % | 12.5 % | 12.5 % |",
        "python -m ml volumes … --thinned 9",
        "python -m ml ood …",
        "python -m ml heatmaps …",
    ):
        assert line in text
    assert "earlier" not in text
    assert "nothing left" not in text
    with pytest.raises(InvalidModel, match="cannot be read"):
        enter_figures(tmp_path / "none.json", "volumes", shares, command="")


def test_pages_read_the_names_of_earlier_cards() -> None:
    pictures = {"n": 9, "flagged": 8, "by_group": {}}
    brain = {"n": 90, "flagged": 1, "by_group": {}}
    earlier = {"familiarity": {"command": "ml odd", "odd": pictures, "brain": brain}}
    now = {"out_of_distribution": {"command": "ml odd", "ood": pictures, "brain": brain}}
    assert ood_figures(earlier) == ood_figures(now) == now["out_of_distribution"]
    assert measured_sections(earlier) == measured_sections(now)
    assert ood_figures({}) == {}
    assert measured_sections({}) == []


def test_gallery_shows_one_mistake_a_group() -> None:
    wrong = [
        said(entry, Label.PITUITARY if entry.label is Label.GLIOMA else Label.GLIOMA)
        for entry in ENTRIES
    ]
    many = failure_gallery([*wrong, *wrong])
    few = failure_gallery(wrong[:1] * 3)
    assert many is not None
    assert few is not None
    (large,), (small,) = read_bytes(many), read_bytes(few)
    assert large.pixels.shape[0] == 3 * small.pixels.shape[0]


def test_no_mistakes_make_no_gallery() -> None:
    assert failure_gallery([said(entry, entry.label) for entry in ENTRIES]) is None
