"""From answers about slices to the study's: which slices a reader is shown first."""

from dataclasses import replace
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.aggregation import (
    SliceAnswer,
    answer_study,
    borne_out,
    emptiness,
    uneven,
    with_neighbours,
    with_no_tumor,
)
from ml.labels import LABELS, Label, decide


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


def in_context(
    tumors: list[float], *, tumor_share: float = 0.26, places: list[float] | None = None
) -> list[float]:
    """Probability of a tumour of each slice of a volume, in the light of its neighbours."""
    found = with_neighbours(rows(tumors), tumor_share=tumor_share, places=places)
    return [1 - one for one in found[:, LABELS.index(Label.NO_TUMOR)].tolist()]


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


def test_even_steps_say_nothing_that_the_order_does_not_say() -> None:
    tumors = [0.1, 0.2, 0.9, 0.8, 0.1, 0.3, 0.05, 0.6]
    by_number = in_context(tumors)
    for step in (0.5, 5.0, -3.0):
        places = [20 + step * n for n in range(len(tumors))]
        assert uneven(places) is None
        assert in_context(tumors, places=places) == by_number
    jitter = [n + (0.04 if n % 2 else 0.0) for n in range(len(tumors))]
    assert in_context(tumors, places=jitter) == by_number


def test_unknown_places_leave_the_order() -> None:
    assert uneven(None) is None
    assert uneven([0.0, None, 7.0]) is None
    assert uneven([4.0, 4.0, 4.0, 9.0]) is None
    assert uneven([3.0]) is None


def test_near_slices_count_more_than_far_ones_where_steps_are_uneven() -> None:
    # Of the two neighbours of the slice in the middle one shows a tumour.
    tumors = [0.1] * 3 + [0.9, 0.5, 0.1] + [0.1] * 3
    even = in_context(tumors)[4]
    near = [*range(3), 6.0, 7.0, 12.0, 13.0, 14.0, 15.0]
    far = [*range(3), 6.0, 11.0, 12.0, 13.0, 14.0, 15.0]
    assert in_context(tumors, places=near)[4] > even > in_context(tumors, places=far)[4]


def test_slice_behind_a_gap_says_less_than_the_next_one_and_still_something() -> None:
    tumors = [0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9]
    gap = [0.0, 1.0, 2.0, 3.0, 13.0, 14.0, 15.0, 16.0]
    alone = in_context([0.1] * 4)[3]
    assert alone < in_context(tumors, places=gap)[3] < in_context(tumors)[3]


def test_slices_crowded_together_are_not_as_many_witnesses_as_they_are() -> None:
    crowd = [0.999] * 3
    tumors = [0.02] * 10 + crowd + [0.02] * 10
    even = max(in_context(tumors))
    # Ten slices for a centimetre each, three within two millimetres, and again ten.
    crowded = [*np.arange(0, 100, 10.0), 105.0, 106.0, 107.0, *np.arange(112, 212, 10.0)]
    assert max(in_context(tumors, places=crowded)) < even


def test_distances_count_in_steps_and_not_in_the_millimetres_of_the_file() -> None:
    tumors = [0.1, 0.2, 0.9, 0.8, 0.1, 0.3]
    places = [0.0, 1.0, 4.0, 5.0, 6.5, 7.5]
    expected = in_context(tumors, places=places)
    assert in_context(tumors, places=[7 * one - 90 for one in places]) == pytest.approx(expected)
    backwards = in_context(tumors[::-1], places=[-one for one in places[::-1]])
    assert backwards[::-1] == pytest.approx(expected)


def test_places_of_an_uneven_stack_bear_out_what_is_near_to_them() -> None:
    by_places = [0.1, 0.1, 0.9, 0.6, 0.1, 0.1]
    certain = borne_out(rows([0.8] * 6), by_places)[1]
    assert certain == [False, False, True, True, False, False]
    gap = [0.0, 1.0, 2.0, 11.0, 12.0, 13.0]
    assert borne_out(rows([0.8] * 6), by_places, places=gap)[1] == [
        False, False, True, False, False, False
    ]  # fmt: skip


def test_finding_of_an_uneven_stack_lies_where_slices_near_to_one_another_show_it() -> None:
    tumors = [0.0, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    volume = [said(one) for one in tumors]
    assert answer_study(volume).key == (1, 2)
    places = [0.0, 9.0, 19.0, 29.0, 39.0, 40.0, 49.0, 50.0, 51.0]
    placed = [replace(one, place=place) for one, place in zip(volume, places, strict=True)]
    found = answer_study(placed)
    assert set(found.key) == {1, 2}
    assert found.label is Label.GLIOMA
    assert answer_study([replace(one, place=None) for one in placed]) == answer_study(volume)


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


def unsure(tumor: float, label: Label, other: Label, share: float, **about: object) -> SliceAnswer:
    """A slice that is called ``label`` and leaves ``share`` of its tumour's chance to another."""
    probabilities = {one.value: 0.0 for one in LABELS}
    probabilities[label.value] = tumor * (1 - share)
    probabilities[other.value] = tumor * share
    probabilities[Label.NO_TUMOR.value] = 1 - tumor
    return replace(
        said(tumor, label=label), probabilities=probabilities, label=label.value,
        prediction_set=(label, other), **about,
    )  # fmt: skip


def test_study_has_what_its_finding_shows_and_not_what_its_loudest_slice_alone_does() -> None:
    loudest = unsure(0.95, Label.MENINGIOMA, Label.GLIOMA, 0.4, tumor_by_localisation=1.0)
    glioma = [
        unsure(0.9, Label.GLIOMA, Label.MENINGIOMA, 0.1, tumor_by_localisation=places)
        for places in (0.9, 0.9, 0.8)
    ]
    none = said(0.0, places=0.0)
    volume = [none, loudest, *glioma, none]
    found = answer_study(volume)
    assert found.label is Label.GLIOMA
    assert set(found.key) == {2, 3, 4}
    assert set(found.prediction_set) == {Label.GLIOMA, Label.MENINGIOMA}
    pictures = answer_study([replace(one, in_volume=False) for one in volume])
    assert (pictures.label, pictures.key) == (Label.GLIOMA, (2, 3, 4))


def test_class_that_a_confident_slice_of_the_finding_shows_is_in_the_set() -> None:
    glioma = [replace(said(0.99, places=0.9), prediction_set=(Label.GLIOMA,)) for _ in range(3)]
    other = unsure(0.9, Label.PITUITARY, Label.GLIOMA, 0.3, tumor_by_localisation=0.9)
    assert Label.PITUITARY in answer_study([*glioma, other]).prediction_set
    # Not where it is likelier that it shows something else.
    guess = unsure(0.9, Label.PITUITARY, Label.GLIOMA, 0.48, tumor_by_localisation=0.9)
    assert answer_study([*glioma, guess]).prediction_set == (Label.GLIOMA,)
    # One that lies apart from the finding and does not rule it out names nothing; several do.
    apart = [*glioma, *[said(0.0, places=0.0)] * 4]
    assert answer_study([*apart, other]).prediction_set == (Label.GLIOMA,)
    assert Label.PITUITARY in answer_study([*apart, other, other]).prediction_set
    unfamiliar = replace(other, in_distribution=False)
    assert answer_study([*apart, unfamiliar, unfamiliar]).prediction_set == (Label.GLIOMA,)


def test_slice_that_is_called_no_tumour_does_not_stand_for_a_finding_beside_it() -> None:
    # By its places it speaks most for a tumour; as a whole it is called none.
    quiet = said(0.4, places=0.95)
    volume = [said(0.9, places=0.8), quiet, said(0.9, places=0.8), said(0.0, places=0.0)]
    found = answer_study(volume)
    assert found.label is Label.GLIOMA
    assert found.key == (0, 2)
    nothing = answer_study([replace(quiet, tumor_by_localisation=0.95)] * 3)
    assert nothing.label is Label.NO_TUMOR
    assert nothing.prediction_set == (Label.NO_TUMOR,)


def test_study_without_a_finding_keeps_open_what_several_slices_are_called() -> None:
    volume = [said(0.9, places=0.2), said(0.9, places=0.2), said(0.1, places=0.3)]
    found = answer_study([replace(one, prediction_set=(one.label,)) for one in volume])
    assert {Label.NO_TUMOR, Label.GLIOMA} <= set(found.prediction_set)


def answered(chances: list[float], places: float, familiar: bool) -> SliceAnswer:
    shares = [one / sum(chances) for one in chances]
    possible = tuple(one for one, share in zip(LABELS, shares, strict=True) if share > 0.3)
    label = decide(shares)
    return SliceAnswer(
        series=0,
        in_volume=True,
        label=label,
        probabilities=dict(zip(LABELS, shares, strict=True)),
        prediction_set=tuple({label, *possible}),
        in_distribution=familiar,
        tumor_by_localisation=places,
    )


_SLICES = st.builds(
    answered,
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    st.floats(0, 1),
    st.booleans(),
)


@given(st.lists(_SLICES, min_size=1, max_size=12), st.booleans(), st.randoms())
def test_headline_holds_its_class_and_every_class_that_confident_slices_name(
    slices: list[SliceAnswer], in_volume: bool, random: Random
) -> None:
    steps = [random.choice((1.0, 1.0, 2.0, 7.5)) for _ in slices]
    study = [
        replace(one, in_volume=in_volume, place=sum(steps[: number + 1]))
        for number, one in enumerate(slices)
    ]
    found = answer_study(study)
    assert found.label in found.prediction_set
    assert {study[i].label for i in found.key} == {found.label}
    assert not {*found.key} & {*found.contradicting}
    named = [
        one.label
        for one in study
        if one.in_distribution
        and one.label is not Label.NO_TUMOR
        and one.probabilities[one.label] >= 0.5
    ]
    fewest = 2 if in_volume else 1
    assert {one for one in named if named.count(one) >= fewest} <= {*found.prediction_set}


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
