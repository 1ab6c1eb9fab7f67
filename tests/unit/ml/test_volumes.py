"""From answers about slices to the study's: which slices a reader is shown first."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from ml.labels import LABELS, Label
from ml.volumes import (
    SliceAnswer,
    answer_study,
    borne_out,
    emptiness,
    with_neighbours,
    with_no_tumor,
)


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
    called = label if tumor >= 0.5 else Label.NO_TUMOR
    return SliceAnswer(series, in_volume, called, probabilities, (called,), familiar, places)


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


def rows(tumors: list[float]) -> npt.NDArray[np.float64]:
    """Gliomas of these probabilities, (N, 4)."""
    return np.array([[one, 0.0, 1 - one, 0.0] for one in tumors])


def test_tumour_is_borne_out_by_the_places_of_the_neighbourhood() -> None:
    said_by_wholes = rows([0.9, 0.8, 0.7, 0.1])
    found, certain = borne_out(said_by_wholes, [0.1, 0.9, 0.9, 0.2])
    assert certain == [False, True, True, False]
    assert found.tolist() == said_by_wholes.tolist()
    found, certain = borne_out(said_by_wholes, [None] * 4)
    assert certain == [True] * 4
    assert found.tolist() == said_by_wholes.tolist()


def test_tumour_that_no_place_of_the_volume_bears_out_is_no_likelier_than_its_places() -> None:
    found, certain = borne_out(rows([0.9, 0.9, 0.1]), [0.4, 0.4, 0.4])
    assert certain == [False] * 3
    assert found[:, 0].tolist() == pytest.approx([0.4, 0.4, 0.1])
    assert found.sum(1).tolist() == pytest.approx([1] * 3)


def test_slice_with_little_of_the_head_shows_no_brain_however_much_air_is_around_it() -> None:
    shares = [0.02, 0.12, 0.3, 0.5, 0.6, 0.6, 0.5, 0.3, 0.12, 0.0]
    empty = [one > 1 for one in emptiness(shares)]
    assert empty == [True, True, *[False] * 6, True, True]
    smaller = [one / 4 for one in shares]
    assert emptiness(smaller) == pytest.approx(emptiness(shares))
    assert max(emptiness(shares)) <= 50
    assert emptiness([0.0, 0.0]) == [0.0, 0.0]


def test_slices_without_brain_are_no_neighbours_and_hardly_ever_show_a_tumour() -> None:
    ends = rows([1.0, 0.1, 0.1, 1.0])
    brain = np.array([False, True, True, False])
    found = with_neighbours(ends, tumor_share=0.5, brain=brain)
    inside = with_neighbours(ends[1:3], tumor_share=0.5)
    assert found[1:3].tolist() == inside.tolist()
    assert found[[0, 3], 0].max() < 0.5
    assert found.sum(1).tolist() == pytest.approx([1] * 4)


def test_slices_without_brain_are_no_key_slices() -> None:
    cap = replace(said(1.0, places=1.0), head_share=0.05)
    inside = [replace(said(0.1, places=one), head_share=0.5) for one in (0.1, 0.2, 0.1)]
    answer = answer_study([cap, *inside, cap])
    assert answer.key == (2,)
    assert answer.prediction_set == (Label.NO_TUMOR,)


def test_thin_slices_are_answered_as_thick_ones() -> None:
    thick = [0.05, 0.1, 0.3, 0.9, 0.95, 0.6, 0.1, 0.05] + [0.05] * 24
    thin = np.repeat(thick, 10).tolist()
    middles = np.array(in_context(thin))[5::10]
    assert middles == pytest.approx(in_context(thick), abs=0.1)
    lonely = [0.02] * 160
    lonely[80:83] = [0.999] * 3  # 3 mm of a head
    assert max(in_context(lonely)) < 0.5


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


def test_alarm_that_its_neighbours_do_not_bear_out_does_not_rule_out_no_tumour() -> None:
    lonely = [said(one) for one in (0.0, 0.9, 0.0, 0.0)]
    alone, doubted = (Label.GLIOMA,), (Label.GLIOMA, Label.NO_TUMOR)
    assert answer_study(lonely).prediction_set == doubted
    assert answer_study([replace(one, in_volume=False) for one in lonely]).prediction_set == alone
    assert answer_study([said(one) for one in (0.0, 0.9, 0.6, 0.0)]).prediction_set == alone
    by_places = [said(0.99, places=0.4)] * 4
    assert answer_study(by_places).prediction_set == doubted


def test_study_cannot_rule_out_what_other_slices_are_certain_of() -> None:
    slices = [
        said(0.9, label=Label.PITUITARY),
        said(0.99, label=Label.MENINGIOMA),
        said(0.95, label=Label.PITUITARY),
        said(0.0),
        said(0.9, label=Label.MENINGIOMA),
    ]
    pictures = [replace(one, in_volume=False) for one in slices]
    found = answer_study(pictures)
    assert (found.key, found.contradicting) == ((1, 4), (2,))
    assert found.prediction_set == (Label.MENINGIOMA, Label.PITUITARY)
    series = [replace(one, in_volume=False, series=n) for n, one in enumerate(slices)]
    assert answer_study(series) == found


def test_slice_that_is_itself_in_doubt_or_unfamiliar_contradicts_nothing() -> None:
    first, other = (
        said(one, label=label, in_volume=False)
        for one, label in ((0.99, Label.GLIOMA), (0.9, Label.PITUITARY))
    )
    assert answer_study([first, other]).contradicting == (1,)
    harmless = [
        replace(other, prediction_set=(Label.PITUITARY, Label.GLIOMA)),
        replace(other, prediction_set=(Label.PITUITARY, Label.NO_TUMOR)),
        replace(other, in_distribution=False),
    ]
    for one in harmless:
        assert answer_study([first, one]).contradicting == ()
    # Whatever else they leave open, what they are confidently called cannot be ruled out.
    assert answer_study([first, harmless[0]]).prediction_set == (Label.GLIOMA, Label.PITUITARY)
    assert answer_study([first, harmless[2]]).prediction_set == (Label.GLIOMA,)


def test_all_that_a_contradicting_slice_leaves_open_is_open_for_the_study() -> None:
    first = said(0.99, in_volume=False)
    other = said(0.9, label=Label.PITUITARY, in_volume=False)
    other = replace(other, prediction_set=(Label.PITUITARY, Label.MENINGIOMA))
    assert set(answer_study([first, other]).prediction_set) == {
        Label.GLIOMA, Label.PITUITARY, Label.MENINGIOMA
    }  # fmt: skip


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
