"""Operating points come from the card; where it tells none, they are those that all had before."""

import json
import shutil
from pathlib import Path

import pytest

from ml.aggregation import emptiness
from ml.errors import InvalidModel
from ml.operating_points import USUAL, OperatingPoints
from ml.registry import SERVING, load_model, read_card, save_model, write_card


def test_the_serving_card_tells_the_usual_ones() -> None:
    assert read_card(SERVING)["operating_points"] == USUAL.entry()["operating_points"]
    assert OperatingPoints.of_card(read_card(SERVING)) == USUAL


def test_card_from_before_they_were_kept_has_the_usual_ones() -> None:
    assert OperatingPoints.of_card({}) == USUAL
    assert OperatingPoints.of_card({"operating_points": {"tumor_share": 0.2}}) == OperatingPoints(
        tumor_share=0.2
    )


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([], "no table"),
        ({"tumour_share": 0.2}, "tumour_share is not known"),
        ({"tumor_share": 0}, "tumor_share is 0"),
        ({"tumor_share": 1.5}, "must be between 0 and 1"),
        ({"brain_from": "0.3"}, "brain_from is '0.3'"),
        ({"brain_from": True}, "brain_from is True"),
        ({"neighbour_reach": float("nan")}, "neighbour_reach is nan"),
    ],
)
def test_wrong_ones_are_named(told: object, said: str) -> None:
    with pytest.raises(InvalidModel, match=said):
        OperatingPoints.of_card({"operating_points": told})


def test_model_answers_by_those_of_its_card_and_keeps_them(tmp_path: Path) -> None:
    shutil.copytree(SERVING.parent, tmp_path / "model")
    path = tmp_path / "model" / SERVING.name
    told = {"operating_points": {"brain_from": 0.5}}
    write_card(read_card(path) | told, path)
    model = load_model(path)
    assert model.operating_points == OperatingPoints(brain_from=0.5)
    saved = save_model(model.network, model.doubt, model.card, folder=tmp_path, stem="again")
    card = json.loads(saved.read_text(encoding="utf-8"))
    assert OperatingPoints.of_card(card) == model.operating_points
    write_card(read_card(path) | {"operating_points": {"brain_from": 2}}, path)
    with pytest.raises(InvalidModel, match="brain_from is 2"):
        load_model(path)


def test_more_slices_count_as_without_brain_where_the_point_is_higher() -> None:
    shares = [0.2, 0.4, 0.5, 0.5, 0.5]
    assert [one > 1 for one in emptiness(shares)] == [False] * 5
    assert [one > 1 for one in emptiness(shares, OperatingPoints(brain_from=0.5))] == [
        True, False, False, False, False,
    ]  # fmt: skip
