"""The queue of a reader: what is in it, in which order, and why."""

import uuid
from collections.abc import Callable, Mapping

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, select, update

from tests.factories import Account, StudyIds, assess, make_series_study, make_study
from webapp.accounts.queries import find_user_by_address
from webapp.database import db, now
from webapp.inference.analyses import request_analysis
from webapp.inference.telling import AUDIT_SHARE, Reason, TellingSlice, keep_telling_slices
from webapp.reading.queue import WEIGHTS, queue_of
from webapp.review.models import ReaderFlag, Verdict
from webapp.studies.models import Analysis, Image, Prediction, Purpose, Status, Study
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
SURE = {"glioma": 0.97, "meningioma": 0.01, "no_tumor": 0.01, "pituitary": 0.01}
TORN = {"glioma": 0.49, "meningioma": 0.48, "no_tumor": 0.02, "pituitary": 0.01}


def queue(app: Flask, reader: Account) -> list[tuple[uuid.UUID, list[Reason]]]:
    with app.app_context(), acting_for(reader.organisation_id):
        found = queue_of(find_user_by_address(reader.email))
        return [(one.image_id, one.reasons) for one in found.entries]


def answer(app: Flask, owner: Account, ids: StudyIds, **values: object) -> StudyIds:
    """Let the model say something else of the study's slices, which chance has not chosen."""
    values = {"in_distribution": True} | values
    with app.app_context(), acting_for(owner.organisation_id):
        db.session.execute(
            update(Prediction).where(Prediction.analysis_id == ids.analysis_id).values(**values)
        )
        study = db.session.get_one(Study, ids.study_id)
        assert study.current_analysis is not None
        keep_telling_slices(study, study.current_analysis.predictions)
        db.session.execute(delete(TellingSlice).where(TellingSlice.reason == Reason.AUDIT))
        db.session.commit()
    return ids


def shadow(app: Flask, owner: Account, ids: StudyIds, label: str) -> None:
    """Let a candidate analyse the study."""
    with app.app_context(), acting_for(owner.organisation_id):
        analysis = Analysis(
            study_id=ids.study_id, purpose=Purpose.SHADOW, status=Status.DONE, finished_at=now()
        )
        db.session.add(analysis)
        db.session.flush()
        db.session.add(
            Prediction(
                analysis_id=analysis.id, image_id=ids.image_id, label=label, probabilities=SURE,
                prediction_set=[label], in_distribution=True, ood_score=0.1,
            )
        )  # fmt: skip
        db.session.commit()


@pytest.fixture
def reader(make_user: MakeUser) -> Account:
    return make_user()


@pytest.fixture
def by_reason(app: Flask, reader: Account, make_user: MakeUser) -> Mapping[Reason, StudyIds]:
    """A study for each reason but chance, and one that nothing asks for."""
    found = {one: make_study(app, reader) for one in WEIGHTS if one is not Reason.AUDIT}
    plain = make_study(app, reader)
    for ids in (*found.values(), plain):
        answer(app, reader, ids, probabilities=SURE, prediction_set=["glioma"])
    answer(app, reader, found[Reason.UNCERTAIN], prediction_set=["glioma", "meningioma"])
    answer(app, reader, found[Reason.UNFAMILIAR], in_distribution=False, ood_score=5.0)
    with app.app_context(), acting_for(reader.organisation_id):
        ids = found[Reason.CONTRADICTING]
        analysis = db.session.get_one(Analysis, ids.analysis_id)
        analysis.contradicting_images = {str(ids.image_id): "meningioma"}
        db.session.commit()
    answer(app, reader, found[Reason.CONTRADICTING])
    shadow(app, reader, found[Reason.CANDIDATE], "meningioma")
    shadow(app, reader, plain, "glioma")
    for label in ("meningioma", "pituitary"):
        assess(app, make_user(), found[Reason.DISPUTED], verdict=Verdict.DISAGREE, label=label)
    return found


def test_slices_are_ordered_by_reason_and_each_says_why(
    app: Flask, reader: Account, by_reason: Mapping[Reason, StudyIds]
) -> None:
    assert queue(app, reader) == [(by_reason[one].image_id, [one]) for one in by_reason]


def test_reasons_add_up_and_the_closer_call_comes_first(app: Flask, reader: Account) -> None:
    several = ["glioma", "meningioma"]
    odd = answer(app, reader, make_study(app, reader), in_distribution=False, ood_score=5.0)
    clear = answer(app, reader, make_study(app, reader), prediction_set=several, probabilities=SURE)
    torn = answer(app, reader, make_study(app, reader), prediction_set=several, probabilities=TORN)
    both = answer(
        app, reader, make_study(app, reader), prediction_set=several, in_distribution=False
    )
    assert queue(app, reader) == [
        (both.image_id, [Reason.UNCERTAIN, Reason.UNFAMILIAR]),
        (torn.image_id, [Reason.UNCERTAIN]),
        (clear.image_id, [Reason.UNCERTAIN]),
        (odd.image_id, [Reason.UNFAMILIAR]),
    ]


def test_what_the_reader_has_assessed_leaves_only_their_queue(
    app: Flask, reader: Account, make_user: MakeUser, by_reason: Mapping[Reason, StudyIds]
) -> None:
    other = make_user()
    with app.app_context(), acting_for(reader.organisation_id):
        db.session.add(ReaderFlag(reader_id=other.id, evidence={}))  # is asked all the same
        db.session.commit()
    for ids in by_reason.values():
        assess(app, reader, ids, verdict=Verdict.UNSURE)
    assert queue(app, reader) == []
    assert len(queue(app, other)) == len(by_reason)
    assert queue(app, make_user(organisation="Hospital B")) == []


def test_while_a_study_is_analysed_again_nothing_of_it_is_asked(
    app: Flask, reader: Account, by_reason: Mapping[Reason, StudyIds]
) -> None:
    with app.app_context(), acting_for(reader.organisation_id):
        for ids in by_reason.values():
            request_analysis(db.session.get_one(Study, ids.study_id))
        db.session.commit()
    assert queue(app, reader) == []


def test_of_one_study_the_most_telling_slice_is_offered_for_a_reason(
    app: Flask, reader: Account
) -> None:
    ids = make_series_study(app, reader, slices=8)
    found = [image_id for image_id, reasons in queue(app, reader) if Reason.UNCERTAIN in reasons]
    assert len(found) == 1
    assess(app, reader, ids, images=found)
    assert not [one for one, reasons in queue(app, reader) if Reason.UNCERTAIN in reasons]


def test_a_sample_is_chosen_by_chance_that_does_not_change(app: Flask, reader: Account) -> None:
    ids = make_study(app, reader)
    low = uuid.UUID(int=int(AUDIT_SHARE / 2 * 2**128))
    with app.app_context(), acting_for(reader.organisation_id):
        image = db.session.get_one(Image, ids.image_id)
        study = db.session.get_one(Study, ids.study_id)
        chosen = Image(
            id=low, study=study, series=image.series, position=1, blob_key=image.blob_key,
            source_format="PNG", width=image.width, height=image.height,
        )  # fmt: skip
        said = Prediction(
            analysis_id=ids.analysis_id, image=chosen, label="glioma", probabilities=SURE,
            prediction_set=["glioma"], in_distribution=True, ood_score=0.1,
        )  # fmt: skip
        db.session.add_all([chosen, said])
        db.session.flush()
        keep_telling_slices(study, [said])
        db.session.commit()
        row = db.session.scalars(select(TellingSlice)).one()
        assert row.score == pytest.approx(0.5, abs=0.01)
    assert queue(app, reader) == [(low, [Reason.AUDIT])]


def test_a_newer_analysis_takes_the_place_of_earlier_reasons(app: Flask, reader: Account) -> None:
    ids = answer(app, reader, make_study(app, reader), prediction_set=[])
    assert queue(app, reader) == [(ids.image_id, [Reason.UNCERTAIN])]
    answer(app, reader, ids, prediction_set=["glioma"])
    assert queue(app, reader) == []


def test_page_says_why_in_words_and_where_to_start(
    app: Flask, reader: Account, sign_in: SignIn, by_reason: Mapping[Reason, StudyIds]
) -> None:
    page = sign_in(reader).get("/reading").text
    for sentence in (
        "Readers disagree",
        "A candidate model says something else",
        "suggests another tumour than its study",
        "Several classes are not ruled out",
        "Unlike the images the model was trained on",
    ):
        assert sentence in page
    assert f'href="/reading/{by_reason[Reason.DISPUTED].image_id}"' in page
    assert "Not a certified medical device" in page


def test_the_way_leads_on_and_back(
    app: Flask, reader: Account, sign_in: SignIn, by_reason: Mapping[Reason, StudyIds]
) -> None:
    browser = sign_in(reader)
    first, second, *_others, last = by_reason.values()
    page = browser.get(f"/reading/{second.image_id}", follow_redirects=True)
    assert page.request.path == f"/studies/{second.study_id}"
    assert "2 of 5" in page.text
    assert f'href="/reading/{first.image_id}"' in page.text
    # Saved without a script: on to the next one, from which one can go back.
    sent = {
        "verdict": "unsure", "image_id": str(first.image_id), "reading": str(first.image_id),
        "analysis_id": str(first.analysis_id),
    }  # fmt: skip
    saved = browser.post(f"/studies/{first.study_id}/assessments", data=sent)
    onward = browser.get(saved.location)
    assert onward.location.startswith(f"/studies/{second.study_id}?")
    assert f'href="/reading/{first.image_id}"' in browser.get(onward.location).text
    # After the last one what was passed over comes again, and in the end nothing.
    assert (
        f"/studies/{second.study_id}?"
        in browser.get(f"/reading/next?after={last.image_id}").location
    )
    for ids in by_reason.values():
        assess(app, reader, ids, verdict=Verdict.UNSURE)
    assert browser.get(f"/reading/next?after={last.image_id}").location == "/reading"
    assert "nothing left to read" in browser.get("/reading").text


def test_a_save_by_script_is_led_on(app: Flask, reader: Account, sign_in: SignIn) -> None:
    ids = make_study(app, reader)
    answer_to = sign_in(reader).post(
        f"/studies/{ids.study_id}/assessments",
        data={
            "verdict": "agree", "image_id": str(ids.image_id), "reading": str(ids.image_id),
            "analysis_id": str(ids.analysis_id),
        },
        headers={"HX-Request": "true"},
    )  # fmt: skip
    assert answer_to.status_code == 204
    assert answer_to.headers["HX-Redirect"] == f"/reading/next?after={ids.image_id}"


@pytest.mark.parametrize("address", ["{study}?reading={other}", "{study}?reading=x&from=y"])
def test_a_wrong_slice_in_the_address_breaks_nothing(
    app: Flask, reader: Account, sign_in: SignIn, address: str
) -> None:
    ids, other = make_study(app, reader), make_study(app, reader)
    found = sign_in(reader).get(
        "/studies/" + address.format(study=ids.study_id, other=other.image_id)
    )
    assert found.status_code == (404 if "other" in address else 200)
