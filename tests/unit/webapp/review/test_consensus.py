"""What several readers say about a slice becomes one label, or none."""

import uuid
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from tests.factories import Account, StudyIds, assess, make_study
from webapp.accounts.models import Organisation, Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotAllowed
from webapp.review.adjudicating import Ruling, adjudicate, dispute_of, open_disputes
from webapp.review.consensus import (
    Consensus,
    Decision,
    Rule,
    State,
    Vote,
    consensus_of,
    consensus_of_slices,
)
from webapp.review.models import Adjudication, Assessment, ReaderFlag, Verdict
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
ANNA, BEN, CARL = (uuid.UUID(int=n) for n in (1, 2, 3))


def vote(reader: uuid.UUID, label: str | None, *, blind: bool = True) -> Vote:
    return Vote(uuid.uuid5(reader, label or "unsure"), reader, label, blind)


class TestRule:
    def test_two_independent_readers_who_agree_make_a_label(self) -> None:
        found = consensus_of([vote(ANNA, "glioma"), vote(BEN, "glioma")])
        assert (found.state, found.label, found.rule) == (State.AGREED, "glioma", Rule.QUORUM)
        assert len(found.supporters) == 2

    def test_somebody_who_had_seen_the_other_opinion_makes_no_second_one(self) -> None:
        found = consensus_of([vote(ANNA, "glioma"), vote(BEN, "glioma", blind=False)])
        assert (found.state, found.label, found.rule) == (State.SINGLE, "glioma", None)

    def test_one_reader_is_enough_only_where_the_plan_says_so(self) -> None:
        assert consensus_of([vote(ANNA, "glioma")]).rule is None
        assert consensus_of([vote(ANNA, "glioma")], quorum=1).rule is Rule.SINGLE

    def test_a_third_reader_who_disagrees_breaks_a_quorum(self) -> None:
        votes = [vote(ANNA, "glioma"), vote(BEN, "glioma"), vote(CARL, "meningioma")]
        found = consensus_of(votes)
        assert (found.state, found.label) == (State.DISPUTED, None)

    def test_unsure_neither_agrees_nor_disagrees(self) -> None:
        votes = [vote(ANNA, "glioma"), vote(BEN, "glioma"), vote(CARL, None)]
        assert consensus_of(votes).state is State.AGREED
        assert consensus_of([vote(CARL, None)]).state is State.NONE

    @pytest.mark.parametrize("readers", [(ANNA,), (ANNA, BEN, CARL)])
    def test_something_else_never_becomes_one_of_the_classes(
        self, readers: tuple[uuid.UUID, ...]
    ) -> None:
        found = consensus_of([vote(one, "other") for one in readers])
        assert (found.state, found.label, found.rule) == (State.OTHER, "other", None)

    def test_something_else_and_a_class_are_a_dispute(self) -> None:
        found = consensus_of([vote(ANNA, "other"), vote(BEN, "glioma")])
        assert found.state is State.DISPUTED

    def test_a_flagged_reader_makes_no_quorum_and_still_disagrees(self) -> None:
        agreeing = [vote(ANNA, "glioma"), vote(BEN, "glioma")]
        assert consensus_of(agreeing, untrusted={BEN}).state is State.SINGLE
        apart = [*agreeing, vote(CARL, "meningioma")]
        assert consensus_of(apart, untrusted={CARL}).state is State.DISPUTED

    def test_an_adjudication_stands_until_somebody_says_something_new(self) -> None:
        votes = [vote(ANNA, "glioma"), vote(BEN, "meningioma")]
        about = frozenset(one.assessment_id for one in votes)
        decision = Decision(uuid.uuid4(), "glioma", about)
        found = consensus_of(votes, decision)
        assert (found.state, found.rule) == (State.ADJUDICATED, Rule.ADJUDICATED)
        confirming = [*votes, vote(CARL, "glioma")]
        assert consensus_of(confirming, decision).state is State.ADJUDICATED
        objecting = [*votes, vote(CARL, "pituitary")]
        assert consensus_of(objecting, decision).state is State.DISPUTED

    def test_an_adjudicated_finding_that_is_none_of_the_classes_gives_no_label(self) -> None:
        votes = [vote(ANNA, "glioma"), vote(BEN, "meningioma")]
        about = frozenset(one.assessment_id for one in votes)
        found = consensus_of(votes, Decision(uuid.uuid4(), "other", about))
        assert (found.state, found.label, found.rule) == (State.OTHER, "other", None)


def state_of(app: Flask, account: Account, ids: StudyIds) -> Consensus:
    with app.app_context(), acting_for(account.organisation_id):
        return consensus_of_slices([ids.image_id])[ids.image_id]


def blindness(app: Flask, account: Account) -> list[bool]:
    """Of all assessments, in the order in which they were given."""
    with app.app_context(), acting_for(account.organisation_id):
        return list(db.session.scalars(select(Assessment.blind).order_by(Assessment.created_at)))


def says(app: Flask, reader: Account, ids: StudyIds, label: str) -> None:
    """A reader names a diagnosis of a slice that the model calls a glioma."""
    if label == "glioma":
        assess(app, reader, ids)
    else:
        finding = {"finding": "stroke"} if label == "other" else {}
        assess(app, reader, ids, verdict=Verdict.DISAGREE, label=label, **finding)


def read_openly(app: Flask, account: Account) -> None:
    with app.app_context():
        db.session.get_one(Organisation, account.organisation_id).blind_reading = False
        db.session.commit()


class TestIndependence:
    def test_readers_who_read_blind_are_independent(self, app: Flask, make_user: MakeUser) -> None:
        uploader, other = make_user(), make_user()
        ids = make_study(app, uploader)
        says(app, uploader, ids, "glioma")
        says(app, other, ids, "glioma")
        assert blindness(app, uploader) == [True, True]
        assert state_of(app, uploader, ids).state is State.AGREED

    def test_where_all_is_shown_only_the_first_one_is(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        first, second = make_user(), make_user()
        read_openly(app, first)
        ids = make_study(app, first)
        says(app, first, ids, "glioma")
        says(app, second, ids, "glioma")
        assert blindness(app, first) == [True, False]
        assert state_of(app, first, ids).state is State.SINGLE

    def test_who_gives_way_after_seeing_the_other_is_not_independent(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        first, second = make_user(), make_user()
        ids = make_study(app, first)
        says(app, first, ids, "glioma")
        says(app, second, ids, "meningioma")
        says(app, second, ids, "glioma")
        assert blindness(app, first) == [True, True, False]
        assert state_of(app, first, ids).state is State.SINGLE

    def test_who_keeps_to_an_opinion_stays_independent(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        first, second = make_user(), make_user()
        ids = make_study(app, first)
        says(app, first, ids, "glioma")
        says(app, second, ids, "glioma")
        assess(app, first, ids, comment="seen again", region=[[0, 0], [1, 0], [0.5, 1]])
        assert blindness(app, first) == [True, True, True]

    def test_a_reviewer_who_could_look_at_the_dispute_is_not_independent(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        first, second, reviewer = make_user(), make_user(), make_user(Role.REVIEWER)
        ids = make_study(app, first)
        says(app, first, ids, "glioma")
        says(app, second, ids, "meningioma")
        says(app, reviewer, ids, "glioma")
        assert blindness(app, first) == [True, True, False]

    def test_an_opinion_of_the_whole_study_can_be_seen_as_well(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        first, second = make_user(), make_user()
        read_openly(app, first)
        ids = make_study(app, first)
        assess(app, first, ids, images=None)
        says(app, second, ids, "glioma")
        assert blindness(app, first) == [True, False]

    def test_a_flag_keeps_a_reader_out_of_the_quorum_until_it_is_lifted(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        first, second = make_user(), make_user()
        ids = make_study(app, first)
        says(app, first, ids, "glioma")
        says(app, second, ids, "glioma")
        with app.app_context(), acting_for(first.organisation_id):
            flag = ReaderFlag(reader_id=second.id, evidence={})
            db.session.add(flag)
            db.session.commit()
            assert consensus_of_slices()[ids.image_id].state is State.SINGLE
            flag.lifted_at = flag.created_at
            db.session.commit()
            assert consensus_of_slices()[ids.image_id].state is State.AGREED


@pytest.fixture
def dispute(app: Flask, make_user: MakeUser) -> tuple[Account, Account, StudyIds]:
    """Two readers who disagree about a slice."""
    first, second = make_user(name="Anna Alt"), make_user(name="Ben Berg")
    ids = make_study(app, first)
    assess(app, first, ids, comment="ring enhancement")
    says(app, second, ids, "meningioma")
    return first, second, ids


def settle(app: Flask, account: Account, image_id: uuid.UUID, label: str, **more: str) -> None:
    with app.app_context(), acting_for(account.organisation_id):
        actor = find_user_by_address(account.email)
        adjudicate(actor=actor, image_id=image_id, ruling=Ruling(label, **more))


class TestAdjudication:
    def test_settles_a_dispute_and_leaves_a_trace(
        self, app: Flask, make_user: MakeUser, dispute: tuple[Account, Account, StudyIds]
    ) -> None:
        reviewer, ids = make_user(Role.REVIEWER), dispute[2]
        settle(app, reviewer, ids.image_id, "meningioma", comment="dural tail")
        found = state_of(app, reviewer, ids)
        assert (found.state, found.label) == (State.ADJUDICATED, "meningioma")
        with app.app_context(), acting_for(reviewer.organisation_id):
            (row,) = db.session.scalars(select(Adjudication))
            assert (row.adjudicator_id, len(row.about)) == (reviewer.id, 2)
            (event,) = db.session.scalars(select(AuditEvent).filter_by(action="adjudicate"))
            assert (event.actor_id, event.subject_id) == (reviewer.id, row.id)
            assert event.details["label"] == "meningioma"

    def test_whoever_read_the_slice_cannot_decide_about_it(
        self, app: Flask, make_user: MakeUser, dispute: tuple[Account, Account, StudyIds]
    ) -> None:
        reviewer, ids = make_user(Role.REVIEWER), dispute[2]
        says(app, reviewer, ids, "pituitary")
        with pytest.raises(NotAllowed):
            settle(app, reviewer, ids.image_id, "pituitary")
        with app.app_context(), acting_for(reviewer.organisation_id):
            assert open_disputes(find_user_by_address(reviewer.email)) == []

    def test_a_clinician_cannot_decide(
        self, app: Flask, make_user: MakeUser, dispute: tuple[Account, Account, StudyIds]
    ) -> None:
        with pytest.raises(NotAllowed):
            settle(app, make_user(), dispute[2].image_id, "glioma")

    def test_a_flagged_reviewer_cannot_decide(
        self, app: Flask, make_user: MakeUser, dispute: tuple[Account, Account, StudyIds]
    ) -> None:
        reviewer, ids = make_user(Role.REVIEWER), dispute[2]
        with app.app_context(), acting_for(reviewer.organisation_id):
            db.session.add(ReaderFlag(reader_id=reviewer.id, evidence={}))
            db.session.commit()
        with pytest.raises(NotAllowed):
            settle(app, reviewer, ids.image_id, "glioma")

    def test_nothing_is_decided_where_nobody_disagrees(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        reader = make_user()
        ids = make_study(app, reader)
        says(app, reader, ids, "glioma")
        with pytest.raises(Conflict):
            settle(app, make_user(Role.REVIEWER), ids.image_id, "glioma")

    def test_who_decided_may_decide_anew_and_others_may_not(
        self, app: Flask, make_user: MakeUser, dispute: tuple[Account, Account, StudyIds]
    ) -> None:
        reviewer, ids = make_user(Role.REVIEWER), dispute[2]
        settle(app, reviewer, ids.image_id, "meningioma")
        settle(app, reviewer, ids.image_id, "glioma")
        assert state_of(app, reviewer, ids).label == "glioma"
        with app.app_context(), acting_for(reviewer.organisation_id):
            rows = db.session.scalars(select(Adjudication).order_by(Adjudication.created_at)).all()
            assert [one.superseded_at is None for one in rows] == [False, True]
        with pytest.raises(Conflict):
            settle(app, make_user(Role.ADMIN), ids.image_id, "meningioma")

    def test_a_decision_about_opinions_that_have_changed_is_refused(
        self, app: Flask, make_user: MakeUser, dispute: tuple[Account, Account, StudyIds]
    ) -> None:
        reviewer, (_first, second, ids) = make_user(Role.REVIEWER), dispute
        with app.app_context(), acting_for(reviewer.organisation_id):
            seen = dispute_of(find_user_by_address(reviewer.email), ids.image_id).version
        says(app, second, ids, "pituitary")
        with pytest.raises(Conflict):
            settle(app, reviewer, ids.image_id, "glioma", version=seen)

    def test_something_else_needs_words(
        self, app: Flask, make_user: MakeUser, dispute: tuple[Account, Account, StudyIds]
    ) -> None:
        reviewer, ids = make_user(Role.REVIEWER), dispute[2]
        with pytest.raises(InvalidInput):
            settle(app, reviewer, ids.image_id, "other")
        settle(app, reviewer, ids.image_id, "other", finding="stroke")
        assert state_of(app, reviewer, ids).state is State.OTHER

    def test_organisations_settle_their_own_disputes(
        self, app: Flask, make_user: MakeUser, dispute: tuple[Account, Account, StudyIds]
    ) -> None:
        stranger = make_user(Role.ADMIN, organisation="Hospital B")
        with app.app_context(), acting_for(stranger.organisation_id):
            assert open_disputes(find_user_by_address(stranger.email)) == []


class TestPages:
    def test_a_reviewer_sees_opinions_without_names_and_settles_the_dispute(
        self,
        app: Flask,
        make_user: MakeUser,
        sign_in: SignIn,
        dispute: tuple[Account, Account, StudyIds],
    ) -> None:
        browser, ids = sign_in(make_user(Role.REVIEWER)), dispute[2]
        listed = browser.get("/disputes").text
        assert f"/disputes/{ids.image_id}" in listed
        page = browser.get(f"/disputes/{ids.image_id}").text
        assert "ring enhancement" in page
        for text in (listed, page):
            assert "Anna Alt" not in text
            assert "Ben Berg" not in text
        answer = browser.post(f"/disputes/{ids.image_id}", data={"label": "glioma"})
        assert (answer.status_code, answer.location) == (302, "/disputes")
        assert "There is nothing for you to decide." in browser.get("/disputes").text
        assert state_of(app, dispute[0], ids).label == "glioma"

    def test_a_form_without_a_diagnosis_is_shown_again(
        self,
        make_user: MakeUser,
        sign_in: SignIn,
        dispute: tuple[Account, Account, StudyIds],
    ) -> None:
        browser, ids = sign_in(make_user(Role.REVIEWER)), dispute[2]
        answer = browser.post(f"/disputes/{ids.image_id}", data={"comment": "kept"})
        assert answer.status_code == 422
        assert "kept" in answer.text

    def test_after_one_dispute_comes_the_next(
        self,
        app: Flask,
        make_user: MakeUser,
        sign_in: SignIn,
        dispute: tuple[Account, Account, StudyIds],
    ) -> None:
        first, second, ids = dispute
        other = make_study(app, first)
        says(app, first, other, "pituitary")
        says(app, second, other, "no_tumor")
        browser = sign_in(make_user(Role.REVIEWER))
        answer = browser.post(f"/disputes/{ids.image_id}", data={"label": "glioma"})
        assert answer.location == f"/disputes/{other.image_id}"
