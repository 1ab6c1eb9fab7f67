"""What became of each assessment: counted or not, agreed, frozen, learnt, answered anew."""

import re
import uuid
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import Account, StudyIds, assess, make_study
from tests.statements import sent_to_database
from webapp.accounts.queries import find_user_by_address
from webapp.database import db, now
from webapp.inference.analyses import request_analysis
from webapp.learning.models import (
    Retraining,
    RetrainingMode,
    RetrainingStatus,
    Snapshot,
    SnapshotSlice,
    Withdrawal,
)
from webapp.learning.pseudonyms import patient_group
from webapp.models_admin.models import Candidate, Deployment, DeploymentKind
from webapp.models_admin.operations import register_model
from webapp.reading.outcomes import Outcome, outcomes_page
from webapp.review.models import ReaderFlag, Verdict
from webapp.studies.models import Prediction, Status, Study
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]


@pytest.fixture
def reader(make_user: MakeUser) -> Account:
    return make_user()


@pytest.fixture
def ids(app: Flask, reader: Account) -> StudyIds:
    return make_study(app, reader)


def outcomes(app: Flask, reader: Account) -> list[Outcome]:
    with app.app_context(), acting_for(reader.organisation_id):
        user = find_user_by_address(reader.email)
        return list(outcomes_page(user, after=None).items)


def freeze(app: Flask, owner: Account, ids: StudyIds, *, part: str = "training") -> uuid.UUID:
    """A snapshot that holds the slice as a glioma."""
    with app.app_context(), acting_for(owner.organisation_id):
        row = Snapshot(
            name=f"winter {part}", plan_version=1, plan_sha256="0" * 64, counts={}, left_out={},
            manifest_sha256="0" * 64, images_sha256="0" * 64, manifest_key="0" * 64,
            card_key="0" * 64,
        )  # fmt: skip
        db.session.add(row)
        db.session.flush()
        db.session.add(
            SnapshotSlice(
                snapshot_id=row.id, image_id=ids.image_id, blob_key="0" * 64, label="glioma",
                patient_group="g", part=part, fold=5, rule="quorum",
            )
        )  # fmt: skip
        db.session.commit()
        return row.id


def retrain(app: Flask, owner: Account, snapshot_id: uuid.UUID, *, serves: bool) -> None:
    with app.app_context(), acting_for(owner.organisation_id):
        model = register_model(name="mk-2", sha256="2" * 64, card={})
        candidate = Candidate(
            model_version_id=model.id, card_name="card.json", registered_by_id=owner.id
        )
        db.session.add(candidate)
        db.session.flush()
        db.session.add(
            Retraining(
                snapshot_id=snapshot_id, mode=RetrainingMode.HEAD, requested_by_id=owner.id,
                status=RetrainingStatus.DONE, candidate_id=candidate.id, finished_at=now(),
            )
        )  # fmt: skip
        if serves:
            db.session.add(
                Deployment(
                    number=1, kind=DeploymentKind.PROMOTION, candidate_id=candidate.id,
                    decided_by_id=owner.id, signature="0" * 64,
                )
            )  # fmt: skip
        db.session.commit()


def test_an_assessment_waits_for_another_reader_and_then_they_agree(
    app: Flask, reader: Account, make_user: MakeUser, ids: StudyIds
) -> None:
    assess(app, reader, ids)
    (one,) = outcomes(app, reader)
    assert (one.counting, one.state, one.agreed) == ("counted", "single", None)
    assess(app, make_user(), ids)
    (one,) = outcomes(app, reader)
    assert (one.counting, one.state, one.agreed) == ("counted", "agreed", "glioma")


def test_what_does_not_count_says_why(
    app: Flask, reader: Account, make_user: MakeUser, ids: StudyIds
) -> None:
    assess(app, reader, ids, verdict=Verdict.DISAGREE, label="pituitary")
    assess(app, reader, ids)
    newest, first = outcomes(app, reader)
    assert (newest.counting, first.counting) == ("counted", "superseded")
    others = {
        "unsure": {"verdict": Verdict.UNSURE},
        "other": {"verdict": Verdict.DISAGREE, "label": "other", "finding": "stroke"},
        "study": {"images": None},
    }
    for counting, said in others.items():
        assess(app, reader, make_study(app, reader), **said)  # type: ignore[arg-type]
        assert outcomes(app, reader)[0].counting == counting
    with app.app_context(), acting_for(reader.organisation_id):
        db.session.add(ReaderFlag(reader_id=reader.id, evidence={}))
        db.session.commit()
    assert outcomes(app, reader)[-2].counting == "flagged"
    with app.app_context(), acting_for(reader.organisation_id):
        code = db.session.get_one(Study, ids.study_id).patient.code
        db.session.add(
            Withdrawal(patient_group=patient_group(code), study_ids=[], withdrawn_by_id=reader.id)
        )
        db.session.commit()
    assert outcomes(app, reader)[-2].counting == "withdrawn"


def test_snapshot_model_and_new_answer_are_named(
    app: Flask, reader: Account, ids: StudyIds, sign_in: SignIn
) -> None:
    assess(app, reader, ids)
    retrain(app, reader, freeze(app, reader, ids), serves=True)
    freeze(app, reader, ids, part="holdout")
    with app.app_context(), acting_for(reader.organisation_id):
        study = db.session.get_one(Study, ids.study_id)
        analysis = request_analysis(study)
        analysis.status, analysis.finished_at = Status.DONE, now()
        analysis.model_version_id = register_model(name="mk-2", sha256="2" * 64, card={}).id
        db.session.add(
            Prediction(
                analysis_id=analysis.id, image_id=ids.image_id, label="meningioma",
                probabilities={"meningioma": 0.9}, prediction_set=["meningioma"],
                in_distribution=True, ood_score=0.1,
            )
        )  # fmt: skip
        db.session.commit()
    (one,) = outcomes(app, reader)
    training, held_out = one.kept
    assert [(each.model, each.served_since is not None) for each in training.learnt] == [
        ("mk-2", True)
    ]
    assert (held_out.is_held_out, held_out.learnt) == (True, ())
    assert one.new_answer is not None
    assert (one.new_answer.label, one.new_answer.model) == ("meningioma", "mk-2")
    page = sign_in(reader).get("/reading/mine").text
    for sentence in (
        "In the snapshot winter training",
        "Learnt by the model mk-2",
        "which came to serve",
        "Analysed again: Meningioma",
    ):
        assert sentence in page


def test_a_snapshot_from_before_or_after_is_not_of_this_assessment(
    app: Flask, reader: Account, ids: StudyIds
) -> None:
    freeze(app, reader, ids)
    assess(app, reader, ids)
    assess(app, reader, ids, verdict=Verdict.DISAGREE, label="pituitary")
    freeze(app, reader, ids, part="holdout")
    newest, first = outcomes(app, reader)
    assert first.kept == []
    assert [(one.label, one.is_held_out) for one in newest.kept] == [("glioma", True)]


def test_pages_follow_one_another_and_cost_the_same(
    app: Flask, reader: Account, make_user: MakeUser, sign_in: SignIn
) -> None:
    study = make_study(app, make_user(), further=["glioma"] * 29)
    with app.app_context(), acting_for(reader.organisation_id):
        images = [one.id for one in db.session.get_one(Study, study.study_id).images]
    browser = sign_in(reader)

    def statements(count: int) -> int:
        assess(app, reader, study, images=images[:count])
        with sent_to_database(app) as found:
            page = browser.get("/reading/mine").text
        assert page.count("card-title") == min(count, 25)
        return len(found)

    assert statements(2) == statements(30)
    older = re.search(r'href="(/reading/mine\?before=[^"]+)"', browser.get("/reading/mine").text)
    assert older is not None
    assert browser.get(older[1]).text.count("card-title") == 5
    assert browser.get("/reading/mine?before=nonsense").status_code == 200
