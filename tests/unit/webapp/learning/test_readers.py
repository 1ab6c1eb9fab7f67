"""What data stewards see of readers, and flags of those who correct in masses."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from tests.factories import Account, StudyIds, assess, make_study
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.errors import Conflict, NotAllowed
from webapp.learning.readers import readers_page
from webapp.review.mass_corrections import (
    FEWEST_SLICES,
    FEWEST_STUDIES,
    Correction,
    densest,
    flag_mass_corrections,
    lift_flag,
)
from webapp.review.models import ReaderFlag, Verdict
from webapp.studies.models import Study
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def corrections(number: int, *, studies: int, seconds: float) -> list[Correction]:
    """Of one reader to one label, one after the other."""
    return [
        Correction(uuid.UUID(int=1), uuid.UUID(int=n % studies), "pituitary", NOON + n * step)
        for step in [timedelta(seconds=seconds)]
        for n in range(number)
    ]


class TestMasses:
    def test_many_slices_of_several_studies_within_minutes_are_one(self) -> None:
        found = densest(corrections(30, studies=6, seconds=5))
        assert found is not None
        assert (found.label, found.slices, found.studies) == ("pituitary", 30, 6)

    @pytest.mark.parametrize(
        "some",
        [
            corrections(FEWEST_SLICES - 1, studies=6, seconds=5),
            corrections(200, studies=FEWEST_STUDIES - 1, seconds=0),  # a few volumes at once
            corrections(60, studies=30, seconds=60),  # as fast as a person reads
            [],
        ],
    )
    def test_fewer_of_fewer_studies_or_more_slowly_are_none(self, some: list[Correction]) -> None:
        assert densest(some) is None

    def test_the_densest_window_is_told(self) -> None:
        slow = corrections(10, studies=10, seconds=300)
        quick = [
            Correction(one.reader_id, one.study_id, one.label, one.at + timedelta(days=1))
            for one in corrections(25, studies=5, seconds=1)
        ]
        found = densest([*slow, *quick])
        assert found is not None
        assert found.slices == 25


@pytest.fixture
def hasty(app: Flask, make_user: MakeUser) -> Account:
    """A reader who calls everything the same."""
    reader = make_user(name="Hasty Hans")
    for _n in range(5):
        ids = make_study(app, reader, further=["glioma"] * 4)
        with app.app_context(), acting_for(reader.organisation_id):
            images = [one.id for one in db.session.get_one(Study, ids.study_id).images]
        said = {"verdict": Verdict.DISAGREE, "label": "pituitary"}
        assess(app, reader, ids, images=images, **said)
    return reader


def flagged(app: Flask, reader: Account) -> list[uuid.UUID]:
    with app.app_context(), acting_for(reader.organisation_id):
        return [one.id for one in flag_mass_corrections()]


def lift(app: Flask, steward: Account, flag_id: uuid.UUID) -> None:
    with app.app_context(), acting_for(steward.organisation_id):
        lift_flag(actor=find_user_by_address(steward.email), flag_id=flag_id)


class TestFlags:
    def test_who_corrects_in_masses_is_flagged_once(self, app: Flask, hasty: Account) -> None:
        assert len(flagged(app, hasty)) == 1
        assert flagged(app, hasty) == []
        with app.app_context(), acting_for(hasty.organisation_id):
            (flag,) = db.session.scalars(select(ReaderFlag))
            assert flag.evidence == {
                "label": "pituitary", "slices": 25, "studies": 5, "minutes": 10
            }  # fmt: skip
            (event,) = db.session.scalars(select(AuditEvent).filter_by(action="flag_reader"))
            assert event.actor_id is None

    def test_a_reader_whom_another_one_confirms_is_not(
        self, app: Flask, make_user: MakeUser, hasty: Account
    ) -> None:
        second = make_user()
        with app.app_context(), acting_for(hasty.organisation_id):
            studies = {
                one.id: [image.id for image in one.images]
                for one in db.session.scalars(select(Study))
            }
        for study_id, images in studies.items():
            ids = StudyIds(study_id, images[0], study_id)
            said = {"verdict": Verdict.DISAGREE, "label": "pituitary"}
            assess(app, second, ids, images=images, **said)
        assert flagged(app, hasty) == []

    def test_a_lifted_flag_does_not_come_back_for_the_same_assessments(
        self, app: Flask, make_user: MakeUser, hasty: Account
    ) -> None:
        steward = make_user(Role.STEWARD)
        (flag_id,) = flagged(app, hasty)
        lift(app, steward, flag_id)
        assert flagged(app, hasty) == []
        with app.app_context(), acting_for(hasty.organisation_id):
            (event,) = db.session.scalars(select(AuditEvent).filter_by(action="lift_reader_flag"))
            assert event.actor_id == steward.id
        with pytest.raises(Conflict):
            lift(app, steward, flag_id)

    def test_nobody_lifts_their_own_and_a_reviewer_lifts_none(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        steward = make_user(Role.STEWARD)
        with app.app_context(), acting_for(steward.organisation_id):
            flag = ReaderFlag(reader_id=steward.id, evidence={})
            db.session.add(flag)
            db.session.commit()
            flag_id = flag.id
        for account in (steward, make_user(Role.REVIEWER)):
            with pytest.raises(NotAllowed):
                lift(app, account, flag_id)


class TestPage:
    def test_shows_each_reader_and_how_far_they_agree(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        anna, ben = make_user(name="Anna Alt"), make_user(name="Ben Berg")
        for label in ("glioma", "glioma", "pituitary"):
            ids = make_study(app, anna, label=label)
            assess(app, anna, ids)
            assess(app, ben, ids)
        apart = make_study(app, anna)
        assess(app, anna, apart)
        assess(app, ben, apart, verdict=Verdict.DISAGREE, label="other", finding="stroke")
        with app.app_context(), acting_for(anna.organisation_id):
            page = readers_page()
            (pair,) = page.pairs
            assert pair.kappa.units == 4
            by_name = {row.reader.name: row for row in page.rows}
            assert (by_name["Anna Alt"].against_model, by_name["Ben Berg"].against_model) == (
                0, 0.25
            )  # fmt: skip
            assert by_name["Anna Alt"].reliability is not None
        shown = sign_in(make_user(Role.STEWARD)).get("/learning/readers").text
        for words in ("Anna Alt", "Ben Berg", "Something else", "Slices, current assessments"):
            assert words in shown

    def test_is_there_before_anybody_has_assessed_anything(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        answer = sign_in(make_user(Role.STEWARD)).get("/learning/readers")
        assert answer.status_code == 200
        assert "Nobody has assessed anything yet." in answer.text

    def test_a_steward_looks_for_masses_and_lifts_a_flag(
        self, make_user: MakeUser, sign_in: SignIn, hasty: Account
    ) -> None:
        browser = sign_in(make_user(Role.STEWARD))
        browser.post("/learning/readers/flags")
        page = browser.get("/learning/readers").text
        assert "not counted towards a quorum" in page
        address = page.split('action="/learning/readers/flags/')[1].split('"')[0]
        assert browser.post(f"/learning/readers/flags/{address}").status_code == 302
        assert "not counted towards a quorum" not in browser.get("/learning/readers").text
