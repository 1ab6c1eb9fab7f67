"""Reading before the model's answer is shown: nothing of it leaks, and both answers are kept."""

import re
import uuid
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from tests.factories import (
    Account,
    SeriesStudyIds,
    StudyIds,
    assess,
    make_series_study,
    make_study,
)
from tests.unit.webapp.reading.test_queue import answer
from webapp.accounts.models import Organisation, Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.errors import Conflict
from webapp.learning.learnable import learnable_slices
from webapp.learning.readers import readers_page
from webapp.reading.room import is_chosen
from webapp.review.models import Assessment, BlindReading, Verdict
from webapp.review.operations import Opinion, Subject, record_assessments
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
TOLD = (
    "glioma", "meningioma", "pituitary", "tumour", "heatmap", "%", "not ruled out", "unlike",
    "data-slice-label", "quality", "Other readers",
)  # fmt: skip


@pytest.fixture
def reader(app: Flask, make_user: MakeUser) -> Account:
    """Of an organisation in which everything is read blind."""
    account = make_user()
    with app.app_context(), acting_for(account.organisation_id):
        db.session.get_one(Organisation, account.organisation_id).blind_share = 100
        db.session.commit()
    return account


@pytest.fixture
def ids(app: Flask, reader: Account, make_user: MakeUser) -> StudyIds:
    """Read by somebody else already, so that there would be much to tell."""
    found = answer(
        app, reader, make_study(app, make_user()),
        prediction_set=["glioma", "meningioma"], in_distribution=False, quality=["blurred"],
    )  # fmt: skip
    assess(app, make_user(name="Other Olga"), found, comment="surely")
    return found


def address(ids: StudyIds) -> str:
    return f"/studies/{ids.study_id}?image=0&reading={ids.image_id}"


def say(browser: FlaskClient, ids: StudyIds, label: str, **values: str) -> TestResponse:
    sent = {
        "label": label, "image_id": str(ids.image_id), "analysis_id": str(ids.analysis_id),
        "reading": str(ids.image_id),
    }  # fmt: skip
    return browser.post(f"/studies/{ids.study_id}/assessments", data=sent | values)


def rows(app: Flask, account: Account) -> list[Assessment]:
    with app.app_context(), acting_for(account.organisation_id):
        mine = select(Assessment).where(Assessment.reader_id == account.id)
        return list(db.session.scalars(mine.order_by(Assessment.created_at)))


def without_choices(page: str) -> str:
    """The page but for the form's choices, the same on every such page."""
    page = re.sub(r'<fieldset class="choices".*?</fieldset>', "", page, flags=re.S)
    page = re.sub(r'<ol class="reading-classes".*?</ol>', "", page, flags=re.S)
    page = re.sub(r'data-words="[^"]*"', "", page)
    page = re.sub(r"<datalist.*?</datalist>", "", page, flags=re.S)
    # The viewer's controls, which are hidden and name nothing of this study.
    page = re.sub(
        r"<fieldset data-heat-controls disabled hidden>.*?</fieldset>", "", page, flags=re.S
    )
    page = re.sub(r'<p class="hint key-hint".*?</p>', "", page, flags=re.S)
    return page.replace("100%", "")


def test_page_and_addresses_tell_nothing_of_the_model_or_of_others(
    app: Flask, reader: Account, ids: StudyIds, sign_in: SignIn
) -> None:
    browser = sign_in(reader)
    listed = browser.get("/reading").text
    assert "said after you have named a diagnosis" in listed
    assert "Several classes" not in listed
    for _again in range(2):  # reloading changes nothing
        page = browser.get(address(ids)).text
        assert "Please name a diagnosis first" in page
        rest = without_choices(page).casefold()
        assert not [word for word in TOLD if word.casefold() in rest]
        assert "olga" not in rest
        assert "surely" not in rest
    stack = browser.get(f"/studies/{ids.study_id}/stack").get_json()
    (told,) = stack["series"][0]["slices"]
    assert (told["label"], told["tumor"], told["strange"], told["heat"], told["is_key"]) == (
        None, None, False, False, False
    )  # fmt: skip
    for refused in (
        f"/images/{ids.image_id}/heatmap",
        f"/studies/{ids.study_id}/result",
        f"/studies/{ids.study_id}/images",
    ):
        assert browser.get(refused).status_code == 403, refused
    panel = browser.get(f"/studies/{ids.study_id}/assessment?image=0").text
    assert not [word for word in TOLD if word.casefold() in without_choices(panel).casefold()]


def test_every_link_of_a_study_read_blind_stays_in_the_reading_room(
    app: Flask, reader: Account, make_user: MakeUser, sign_in: SignIn
) -> None:
    series: SeriesStudyIds = make_series_study(app, make_user(), slices=6)
    browser = sign_in(reader)
    first = browser.get("/reading/next", follow_redirects=True)
    assert "Please name a diagnosis first" in first.text
    links = re.findall(rf'href="(/studies/{series.study_id}[^"]*)"', first.text)
    assert links
    assert [one for one in links if "reading=" not in one] == []


@pytest.mark.parametrize("changes", [False, True])
def test_both_answers_are_kept(
    app: Flask, reader: Account, ids: StudyIds, sign_in: SignIn, changes: bool
) -> None:
    browser = sign_in(reader)
    browser.get(address(ids))
    saved = say(browser, ids, "meningioma", comment="edge")
    assert saved.location.startswith(f"/studies/{ids.study_id}?image=0&reading=")
    shown = browser.get(saved.location).text
    assert "you said: Meningioma" in shown
    assert "Glioma" in shown
    assert "Keep my answer" in shown
    if changes:
        sent = {
            "verdict": "agree", "image_id": str(ids.image_id), "reading": str(ids.image_id),
            "analysis_id": str(ids.analysis_id),
        }  # fmt: skip
        onward = browser.post(f"/studies/{ids.study_id}/assessments", data=sent)
    else:
        keep = f"/images/{ids.image_id}/assessment/keep"
        onward = browser.post(keep, data={"reading": str(ids.image_id)})
        assert browser.post(keep).status_code == 302  # a second click
    assert onward.location == f"/reading/next?after={ids.image_id}"
    first, final = rows(app, reader)
    assert (first.label, first.verdict, first.model_shown) == ("meningioma", "disagree", False)
    assert first.blind  # whatever the organisation shows elsewhere, nobody's opinion was there
    assert first.superseded_at is not None
    assert final.superseded_at is None
    assert final.model_shown
    assert final.label == ("glioma" if changes else "meningioma")
    if not changes:
        assert (final.comment, final.blind) == ("edge", True)
    with app.app_context(), acting_for(reader.organisation_id):
        (row,) = db.session.scalars(select(BlindReading))
        assert (row.first_label, row.model_label, row.final_label) == (
            "meningioma", "glioma", final.label
        )  # fmt: skip
        assert (row.first_id, row.final_id) == (first.id, final.id)
        actions = set(db.session.scalars(select(AuditEvent.action)))
        assert {"begin_blind_reading", "record_assessment"} <= actions
        recorded = select(AuditEvent.details).where(
            AuditEvent.action == "record_assessment", AuditEvent.actor_id == reader.id
        )
        told = [one.get("model_shown") for one in db.session.scalars(recorded)]
        assert sorted(told, key=str) == [False, None]


def test_naming_what_the_model_says_is_agreement_and_unsure_stays_unsure(
    app: Flask, reader: Account, make_user: MakeUser, sign_in: SignIn
) -> None:
    browser = sign_in(reader)
    for label, verdict in (("glioma", "agree"), ("unsure", "unsure"), ("other", "disagree")):
        ids = answer(app, reader, make_study(app, make_user()), prediction_set=[])
        browser.get(address(ids))
        say(browser, ids, label, finding="stroke" if label == "other" else "")
        assert rows(app, reader)[-1].verdict == verdict


def test_refused_form_comes_back_with_what_was_typed_and_without_the_answer(
    app: Flask, reader: Account, ids: StudyIds, sign_in: SignIn
) -> None:
    browser = sign_in(reader)
    browser.get(address(ids))
    for label in ("", "nonsense"):
        refused = say(browser, ids, label, comment="typed words")
        assert refused.status_code == 422
        page = refused.text
        assert "typed words" in page
        assert "data-slice-label" not in page
    assert rows(app, reader) == []


def test_whoever_opens_the_study_otherwise_sees_the_answer_and_reads_blind_no_more(
    app: Flask, reader: Account, ids: StudyIds, sign_in: SignIn
) -> None:
    browser = sign_in(reader)
    browser.get(address(ids))
    assert "data-slice-label" in browser.get(f"/studies/{ids.study_id}").text
    assert "data-slice-label" in browser.get(address(ids)).text
    assert "Unlike the images" in browser.get("/reading").text
    # The form of the other tab is refused: it asked for a diagnosis alone.
    assert say(browser, ids, "glioma").status_code == 422
    assert rows(app, reader) == []
    with app.app_context(), acting_for(reader.organisation_id):
        assert "leave_blind_reading" in set(db.session.scalars(select(AuditEvent.action)))


@pytest.mark.parametrize("way", ["page", "assessment", "report"])
def test_studies_whose_answer_was_shown_are_not_read_blind(
    app: Flask, reader: Account, ids: StudyIds, sign_in: SignIn, way: str
) -> None:
    browser = sign_in(reader)
    if way == "page":
        browser.get(f"/studies/{ids.study_id}/result")
    elif way == "report":
        browser.get(f"/studies/{ids.study_id}/report.pdf")
    else:
        assess(app, reader, ids, images=None)
    assert "data-slice-label" in browser.get(address(ids)).text


def test_chance_chooses_the_share_by_reader_and_slice() -> None:
    some = [(uuid.uuid4(), uuid.uuid4()) for _n in range(2000)]
    chosen = [is_chosen(*one, 30) for one in some]
    assert 0.26 < sum(chosen) / len(some) < 0.34
    assert chosen == [is_chosen(*one, 30) for one in some]
    assert not any(is_chosen(*one, 0) for one in some)
    assert all(is_chosen(*one, 100) for one in some)


def test_snapshots_say_whether_the_model_was_shown(
    app: Flask, reader: Account, ids: StudyIds, sign_in: SignIn
) -> None:
    browser = sign_in(reader)
    browser.get(address(ids))
    say(browser, ids, "glioma")
    browser.post(f"/images/{ids.image_id}/assessment/keep")
    with app.app_context(), acting_for(reader.organisation_id):
        (one,) = learnable_slices(quorum=2).slices
        assert one.provenance.model_shown  # the other reader had seen it
        (one,) = learnable_slices(quorum=1).slices
        others = select(Assessment).where(Assessment.reader_id != reader.id)
        db.session.delete(db.session.scalars(others).one())
        db.session.commit()
        (one,) = learnable_slices(quorum=1).slices
        assert (one.provenance.model_shown, one.provenance.blind) == (False, True)


def test_stewards_see_who_changed_to_right_and_to_wrong(
    app: Flask, reader: Account, make_user: MakeUser, sign_in: SignIn
) -> None:
    browser = sign_in(reader)
    for first, agreed in (("meningioma", "glioma"), ("meningioma", "meningioma")):
        ids = answer(app, reader, make_study(app, make_user()), prediction_set=[])
        browser.get(address(ids))
        say(browser, ids, first)
        sent = {
            "verdict": "agree", "image_id": str(ids.image_id), "analysis_id": str(ids.analysis_id)
        }  # fmt: skip
        browser.post(f"/studies/{ids.study_id}/assessments", data=sent)
        for _n in range(2):
            verdict = Verdict.AGREE if agreed == "glioma" else Verdict.DISAGREE
            label = None if agreed == "glioma" else agreed
            assess(app, make_user(), ids, verdict=verdict, label=label)
    with app.app_context(), acting_for(reader.organisation_id):
        (row,) = readers_page().blind
        assert (row.readings, row.kept, row.changed) == (2, 0, 2)
        assert (row.to_right, row.to_wrong) == (1, 1)
    page = sign_in(make_user(Role.STEWARD)).get("/learning/readers").text
    assert "Named before the model’s answer" in page


def test_a_program_may_say_that_its_reader_was_not_shown_the_answer(
    app: Flask, reader: Account, ids: StudyIds
) -> None:
    with app.app_context(), acting_for(reader.organisation_id):
        user = find_user_by_address(reader.email)
        subject = Subject(ids.study_id, (ids.image_id,), model_shown=False)
        (first,) = record_assessments(
            actor=user, subject=subject, opinion=Opinion(Verdict.DISAGREE, "glioma")
        )
        assert (first.verdict, first.model_shown) == (Verdict.AGREE, False)
        with pytest.raises(Conflict, match="shown"):
            record_assessments(
                actor=user, subject=subject, opinion=Opinion(Verdict.DISAGREE, "pituitary")
            )


def test_administrators_set_the_share(
    app: Flask, reader: Account, make_user: MakeUser, sign_in: SignIn
) -> None:
    browser = sign_in(make_user(Role.ADMIN))
    assert 'name="blind_share"' in browser.get("/admin/users").text
    assert browser.post("/admin/reading", data={"blind_share": "101"}).status_code == 422
    assert browser.post("/admin/reading", data={"blind_share": "x"}).status_code == 422
    browser.post("/admin/reading", data={"blind_reading": "y", "blind_share": "25"})
    with app.app_context(), acting_for(reader.organisation_id):
        found = db.session.get_one(Organisation, reader.organisation_id)
        assert (found.blind_share, found.blind_reading) == (25, True)
        event = select(AuditEvent).where(AuditEvent.action == "set_blind_share")
        assert db.session.scalars(event).one().details == {"percent": 25}
