"""Coefficients of agreement, against the examples that their authors published."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from flask import Flask
from sklearn.metrics import cohen_kappa_score

from tests.factories import Account, assess, make_study
from webapp.review.agreement import (
    Reading,
    agreement,
    agreement_by_class,
    agreement_by_month,
    cohen_kappa,
    fleiss_kappa,
    kappa_by_pair,
    krippendorff_alpha,
    mean_of_pairs,
)
from webapp.review.models import Verdict
from webapp.review.readings import Scope, Which, readings
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
ANNA, BEN, CARL = (uuid.UUID(int=n) for n in (1, 2, 3))

# J. L. Fleiss (1971), Table 1: 30 patients, each diagnosed by six psychiatrists as depression,
# personality disorder, schizophrenia, neurosis or other.
PSYCHIATRISTS = [
    "00060", "03003", "01401", "00006", "03030", "20400", "00402", "20310", "20040", "00006",
    "10050", "11040", "03300", "10050", "02031", "00501", "30012", "51000", "02040", "10203",
    "00006", "01050", "02013", "20040", "10041", "05010", "40002", "02040", "10500", "00006",
]  # fmt: skip

# K. Krippendorff (2011), example C: four observers, twelve units, five values, some missing.
OBSERVERS = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


def counts_of(rows: Sequence[str], values: str) -> list[list[int]]:
    """How often each value was given to each unit; a row holds what one observer said."""
    return [[column.count(value) for value in values] for column in zip(*rows, strict=True)]


def test_cohens_kappa_is_that_of_his_example() -> None:
    # J. Cohen (1960): N = 200, p_o = .70, p_c = .41, kappa = .492.
    assert cohen_kappa([[88, 10, 2], [14, 40, 6], [18, 10, 12]]) == pytest.approx(0.492, abs=5e-4)


def test_fleiss_kappa_is_that_of_his_example() -> None:
    counts = [[int(digit) for digit in row] for row in PSYCHIATRISTS]
    assert np.sum(counts, axis=0).tolist() == [26, 26, 30, 55, 43]
    assert fleiss_kappa(counts) == pytest.approx(0.430, abs=5e-4)


def test_krippendorffs_alpha_is_that_of_his_example() -> None:
    assert krippendorff_alpha(counts_of(OBSERVERS, "12345")) == pytest.approx(0.743, abs=5e-4)


def test_alpha_of_readings_leaves_out_what_one_reader_alone_has_read() -> None:
    found = agreement(
        [
            Reading(uuid.UUID(int=unit), uuid.UUID(int=unit), uuid.UUID(int=reader), value)
            for reader, row in enumerate(OBSERVERS)
            for unit, value in enumerate(row)
            if value != "."
        ]
    )
    assert found.alpha.value == pytest.approx(0.743, abs=5e-4)
    assert found.alpha.units == 11
    assert found.alpha.interval is not None
    low, high = found.alpha.interval
    assert low < 0.743 < high <= 1


def said(*words: str, patient: int | None = None, month: str = "2026-07") -> list[Reading]:
    """What Anna, Ben and Carl say about units of their own patients, or all of one."""
    return [
        Reading(
            uuid.UUID(int=100 + number),
            uuid.UUID(int=500 + (number if patient is None else patient)),
            reader,
            label,
            month,
        )
        for number, word in enumerate(words)
        for reader, label in zip((ANNA, BEN, CARL), word.split(), strict=False)
    ]


def test_every_two_readers_have_their_kappa() -> None:
    spoken = [
        "glioma glioma glioma", "glioma glioma pituitary", "pituitary pituitary glioma",
        "pituitary glioma pituitary", "glioma glioma",
    ]  # fmt: skip
    found = kappa_by_pair(said(*spoken))
    first, second = zip(*(word.split()[:2] for word in spoken), strict=True)
    assert found[ANNA, BEN].value == pytest.approx(cohen_kappa_score(first, second))
    assert (found[ANNA, BEN].units, found[BEN, CARL].units) == (5, 4)
    mean = mean_of_pairs(found, CARL)
    assert mean == pytest.approx(
        ((found[ANNA, CARL].value or 0) + (found[BEN, CARL].value or 0)) / 2
    )


def test_perfect_agreement_is_one() -> None:
    found = agreement(said("glioma glioma", "pituitary pituitary"))
    assert (found.alpha.value, found.fleiss.value) == (1, 1)


def test_where_there_is_nothing_to_compare_there_is_no_figure() -> None:
    for nothing in ([], said("glioma"), said("glioma glioma")):
        found = agreement(nothing)
        assert (found.alpha.value, found.fleiss.value) == (None, None)


def test_one_patient_gives_no_interval() -> None:
    found = agreement(said("glioma glioma", "pituitary glioma", patient=1))
    assert found.alpha.value is not None
    assert found.alpha.interval is None


def test_slices_of_one_patient_make_the_interval_wider_than_slices_of_many() -> None:
    words = ["glioma glioma", "pituitary pituitary", "glioma pituitary", "glioma glioma"] * 10
    apart = agreement(said(*words)).alpha.interval
    together = [
        Reading(one.unit, uuid.UUID(int=one.unit.int // 4), one.reader_id, one.label)
        for one in said(*(word for word in sorted(words)))
    ]
    clustered = agreement(together).alpha.interval
    assert apart is not None
    assert clustered is not None
    assert clustered[1] - clustered[0] > apart[1] - apart[0]


def test_classes_and_months_stand_apart() -> None:
    spoken = said("glioma glioma", "pituitary meningioma", "meningioma pituitary", "glioma glioma")
    by_class = agreement_by_class(spoken)
    assert by_class["glioma"].alpha.value == 1
    assert (by_class["pituitary"].alpha.value or 0) < 0.1
    earlier = said("glioma pituitary", "pituitary glioma", month="2026-06")
    moved = [replace(one, unit=uuid.UUID(int=one.unit.int + 50)) for one in earlier]
    by_month = agreement_by_month([*moved, *spoken])
    assert list(by_month) == ["2026-06", "2026-07"]
    assert (by_month["2026-06"].alpha.value or 0) < 0 < (by_month["2026-07"].alpha.value or 0)


def test_first_blind_readings_and_current_ones_are_told_apart(
    app: Flask, make_user: MakeUser
) -> None:
    anna, ben = make_user(), make_user()
    ids = make_study(app, anna)
    assess(app, anna, ids)
    assess(app, ben, ids, verdict=Verdict.DISAGREE, label="pituitary")
    assess(app, ben, ids)
    assess(app, ben, ids, images=None)
    with app.app_context(), acting_for(anna.organisation_id):
        current = [one.label for one in readings(Which.CURRENT, Scope.SLICES)]
        blind = [one.label for one in readings(Which.BLIND, Scope.SLICES)]
        assert (current, blind) == (["glioma", "glioma"], ["glioma", "pituitary"])
        assert len(readings(Which.CURRENT, Scope.STUDIES)) == 1
