"""From answers about slices to the study's: which slices a reader is shown first."""

from dataclasses import replace

import numpy as np
import pytest

from ml.labels import LABELS, Label
from ml.volumes import SliceAnswer, answer_study, borne_out, with_neighbours, with_no_tumor


def said(
    tumor: float,
    *,
    label: Label = Label.GLIOMA,
    places: float | None = None,
    series: int = 0,
    in_volume: bool = True,
    familiar: bool = True,
) -> SliceAnswer:
    probabilities = {one.value: 0.0 for one in LABELS}
    probabilities[label.value] = tumor
    probabilities[Label.NO_TUMOR.value] = 1 - tumor
    return SliceAnswer(series, in_volume, probabilities, familiar, places)


def together(volume: list[SliceAnswer], *, tumor_share: float) -> list[dict[str, float]]:
    """Probabilities of a volume's slices in the light of their neighbours, by class name."""
    alone = np.array([[one.probabilities[label.value] for label in LABELS] for one in volume])
    names = [label.value for label in LABELS]
    rows = with_neighbours(alone, tumor_share=tumor_share)
    return [dict(zip(names, row.tolist(), strict=True)) for row in rows]


def in_context(tumors: list[float], *, tumor_share: float = 0.26) -> list[float]:
    """Probability of a tumour of each slice of a volume, in the light of its neighbours."""
    found = together([said(one) for one in tumors], tumor_share=tumor_share)
    return [1 - one[Label.NO_TUMOR.value] for one in found]


def test_slice_is_doubted_where_its_neighbours_say_otherwise() -> None:
    assert in_context([0.1, 0.9, 0.1])[1] == pytest.approx(0.5)
    assert in_context([0.9, 0.9, 0.9]) == pytest.approx([0.9] * 3)
    assert in_context([0.1, 0.1, 0.9])[0] == pytest.approx(0.1)


def test_clear_tumour_in_one_slice_alone_stays_possible() -> None:
    # Above what every prediction set holds.
    assert in_context([0.02, 1.0, 0.02], tumor_share=0.71)[1] > 0.35


def test_one_slice_in_four_shows_a_tumour_before_a_volume_is_looked_at() -> None:
    assert in_context([0.71] * 3, tumor_share=0.71) == pytest.approx([0.26] * 3)


def test_kind_of_tumour_is_what_the_neighbourhood_says() -> None:
    volume = [said(0.9), said(0.8, label=Label.PITUITARY), said(0.9)]
    found = together(volume, tumor_share=0.5)
    assert [max(one, key=lambda name: one[name]) for one in found] == ["glioma"] * 3
    assert [sum(one.values()) for one in found] == pytest.approx([1] * 3)


def test_volume_without_any_sign_of_a_tumour_has_an_answer() -> None:
    assert all(0 < one < 0.01 for one in in_context([0.0] * 4))


def test_lonely_alarm_in_a_volume_gives_way_to_a_tumour_that_reaches_through_slices() -> None:
    tumors = [0.0, 1.0, 0.0, 0.0, 0.7, 0.8, 0.7, 0.0]
    assert answer_study([said(one) for one in tumors]).key == (5, 4, 6)


def test_single_pictures_speak_for_themselves() -> None:
    tumors = [0.0, 1.0, 0.0, 0.7, 0.8, 0.7]
    assert answer_study([said(one, in_volume=False) for one in tumors]).key == (1, 4, 3)


def test_tumour_is_borne_out_by_the_places_of_the_neighbourhood() -> None:
    assert borne_out([0.1, 0.9, 0.9, 0.2]) == [False, True, True, False]
    assert borne_out([0.0, 0.9, 0.0]) == [False] * 3
    assert borne_out([None, None]) == [True, True]


def test_no_tumour_is_added_to_a_set_by_its_likelihood_and_once() -> None:
    chances = {"glioma": 0.2, "meningioma": 0.5, "no_tumor": 0.3, "pituitary": 0.0}
    added = ("meningioma", "no_tumor", "glioma")
    assert with_no_tumor(["meningioma", "glioma"], chances) == added
    assert with_no_tumor(added, chances) == added


def test_places_decide_in_volumes_where_the_network_judges_them() -> None:
    slices = [said(0.99, places=0.1)] * 3 + [said(0.9, places=0.8)] * 3
    assert answer_study(slices).key == (5, 4, 3)
    pictures = [replace(one, in_volume=False) for one in slices]
    assert answer_study(pictures).key == (0, 1, 2)


def test_key_slices_show_what_the_study_is_said_to_have() -> None:
    slices = [
        said(0.9),
        said(0.9, label=Label.PITUITARY),
        said(0.8),
        said(0.8, label=Label.MENINGIOMA),
    ]
    pictures = [replace(one, in_volume=False) for one in slices]
    assert answer_study(pictures).key == (0, 2)


def test_key_slices_of_a_volume_show_one_finding_and_those_of_another_series_may_join() -> None:
    tumors = [0.9, 0.9, 0.0, 0.0, 0.0, 0.9, 1.0]
    volume = [said(one) for one in tumors]
    assert answer_study(volume).key == (6, 5)
    pictures = [replace(one, in_volume=False) for one in volume]
    assert answer_study(pictures).key == (6, 0, 1)
    again = [replace(one, series=1) for one in volume]
    assert answer_study(volume + again).key == (6, 13, 7)


def test_alarm_that_its_neighbours_do_not_bear_out_is_not_suspicious() -> None:
    lonely = [said(one) for one in (0.0, 0.9, 0.0, 0.0)]
    assert not answer_study(lonely).suspicious
    assert answer_study([replace(one, in_volume=False) for one in lonely]).suspicious
    assert answer_study([said(one) for one in (0.0, 0.9, 0.6, 0.0)]).suspicious
    by_places = [said(0.99, places=0.4)] * 4
    assert not answer_study(by_places).suspicious


def test_strength_at_the_ends_is_not_diluted() -> None:
    assert answer_study([said(0.9), said(0.0), said(0.0), said(0.0)]).key == (0,)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_volumes_have_a_key_slice(count: int) -> None:
    assert answer_study([said(0.2)] * count).key == (0,)


def test_unfamiliar_slices_come_last_and_series_do_not_mix() -> None:
    slices = [
        said(0.9, series=0, familiar=False),
        said(0.2, series=1),
        said(0.2, series=2),
        said(0.6, series=2),
    ]
    found = answer_study(slices)
    assert found.key == (3,)
    assert found.in_distribution_share == pytest.approx(0.75)
