"""Who may call what: every address of the portal, asked by everybody.

A new address fails here until it has its line in TABLE, and a line without an address as well.
"""

import io
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from ml.serving.observation import Family
from tests.conftest import make_settings
from tests.dicoms import axial_series
from tests.factories import (
    SAMPLE,
    Account,
    StudyIds,
    make_account,
    make_api_token,
    make_series_study,
    make_study,
)
from tests.unit.webapp.models_admin.candidates import register, write_model
from webapp import create_app
from webapp.accounts import operations
from webapp.accounts.models import Role, User
from webapp.accounts.queries import find_user_by_address
from webapp.accounts.sessions import list_sessions
from webapp.database import db, now
from webapp.intake.receiving import receive_instance
from webapp.learning.models import Retraining, RetrainingMode, Snapshot
from webapp.learning.operations import create_snapshot
from webapp.learning.terms import shipped_terms
from webapp.models_admin.models import Deployment, DeploymentKind
from webapp.pacs.operations import NodeDetails, register_node
from webapp.plans.operations import propose_plan
from webapp.review.models import ReaderFlag, Verdict
from webapp.review.operations import Opinion, Subject, record_assessments
from webapp.rollout.models import Change, RecallCase, RecallRun
from webapp.studies.models import Image
from webapp.tenancy import acting_for
from webapp.watch.models import EVERYTHING, Against, DriftAlarm

SIGN_IN = "to the sign-in page"
Outcome = int | str
# Who asks. The foreigner is the administrator of another organisation: no role is in the way.
PERSONAS = ("stranger", "foreigner", "clinician", "reviewer", "admin", "steward")
# Whatever belongs to somebody belongs to the clinician.


@dataclass(frozen=True)
class Line:
    """What each of PERSONAS gets, and what is sent along; a steward gets what a reviewer gets."""

    outcomes: tuple[Outcome, Outcome, Outcome, Outcome, Outcome]
    steward: Outcome | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, object] | None = None
    sends_image: bool = False

    def outcome_of(self, persona: str) -> Outcome:
        if persona == "steward":
            return self.steward or self.outcomes[PERSONAS.index("reviewer")]
        return self.outcomes[PERSONAS.index(persona)]


def everybody(outcome: Outcome, **sent: Any) -> Line:
    return Line((outcome,) * 5, **sent)


def who_signed_in(outcome: Outcome, **sent: Any) -> Line:
    return Line((SIGN_IN, outcome, outcome, outcome, outcome), **sent)


def the_organisation(outcome: Outcome, **sent: Any) -> Line:
    return Line((SIGN_IN, 404, outcome, outcome, outcome), **sent)


def reviewers(outcome: Outcome, **sent: Any) -> Line:
    return Line((SIGN_IN, outcome, 403, outcome, outcome), **sent)


def administrators(outcome: Outcome, *, foreigner: Outcome | None = None, **sent: Any) -> Line:
    return Line((SIGN_IN, foreigner or outcome, 403, 403, outcome), **sent)


def stewards(
    outcome: Outcome,
    *,
    foreigner: Outcome | None = None,
    stranger: Outcome = SIGN_IN,
    **sent: Any,
) -> Line:
    """The administrator includes them."""
    return Line((stranger, foreigner or outcome, 403, 403, outcome), steward=outcome, **sent)


def whose_study_it_is(outcome: Outcome, *, stranger: Outcome = SIGN_IN, **sent: Any) -> Line:
    """Stewards and the administrator see every study."""
    return Line((stranger, 404, outcome, 404, outcome), steward=outcome, **sent)


def who_has_a_token(outcome: Outcome) -> Line:
    return Line((401, outcome, outcome, outcome, outcome))


def who_searches() -> Line:
    """A foreigner is not refused and finds nothing."""
    return Line((401, 204, 200, 200, 200))


def who_fetches() -> Line:
    return Line((401, 404, 200, 200, 200))


STUDY = "/dicomweb/studies/<uid:study_uid>"
SERIES = STUDY + "/series/<uid:series_uid>"
INSTANCE = SERIES + "/instances/<uid:uid>"

TABLE: dict[tuple[str, str], Line] = {
    # Of the system
    ("GET", "/static/<path:filename>"): everybody(200),
    ("GET", "/healthz"): everybody(200),
    ("GET", "/readyz"): everybody(503),  # no broker here
    ("GET", "/metrics"): everybody(200),
    # Accounts
    ("GET", "/first-run"): everybody(404),
    ("POST", "/first-run"): everybody(404),
    ("GET", "/sign-in"): Line((200, 302, 302, 302, 302)),
    ("POST", "/sign-in"): Line((422, 302, 302, 302, 302)),
    ("POST", "/sign-out"): who_signed_in(302),
    ("POST", "/account/sign-out-everywhere"): who_signed_in(302),
    ("POST", "/account/sessions/<uuid:session_id>/end"): Line((SIGN_IN, 404, 302, 404, 404)),
    ("POST", "/account/sessions/end-others"): who_signed_in(302),
    ("GET", "/invitations/<token>"): everybody(200),
    ("POST", "/invitations/<token>"): everybody(422),
    ("POST", "/language"): everybody(302, data={"locale": "de"}),
    ("GET", "/account"): who_signed_in(200),
    ("POST", "/account/password"): who_signed_in(422),
    ("POST", "/account/tokens"): who_signed_in(200, data={"name": "test"}),
    ("POST", "/account/tokens/<uuid:token_id>/revoke"): Line((SIGN_IN, 404, 302, 404, 404)),
    ("GET", "/admin/users"): administrators(200),
    ("POST", "/admin/users/<uuid:user_id>"): administrators(
        302, foreigner=404, data={"role": "clinician", "is_active": "y"}
    ),
    ("POST", "/admin/reading"): administrators(302),
    ("POST", "/admin/invitations"): administrators(422),
    ("POST", "/admin/invitations/<uuid:invitation_id>/revoke"): administrators(302, foreigner=404),
    # Studies
    ("GET", "/"): who_signed_in(200),
    ("GET", "/worklist/rows"): who_signed_in(200),
    ("GET", "/studies/new"): who_signed_in(200),
    ("POST", "/studies/new"): who_signed_in(302, data={"priority": "routine"}, sends_image=True),
    ("POST", "/studies/new/check"): who_signed_in(200),
    ("GET", "/studies/<uuid:study_id>"): the_organisation(200),
    ("GET", "/studies/<uuid:study_id>/result"): the_organisation(200),
    ("GET", "/studies/<uuid:study_id>/stack"): the_organisation(200),
    ("GET", "/studies/<uuid:study_id>/images"): the_organisation(200),
    ("POST", "/studies/<uuid:study_id>/retry"): the_organisation(302),
    ("GET", "/studies/<uuid:study_id>/correct"): the_organisation(200),
    ("POST", "/studies/<uuid:study_id>/correct"): the_organisation(
        302, data={"patient_code": "K-1", "priority": "urgent"}
    ),
    ("GET", "/studies/<uuid:study_id>/move"): the_organisation(200),
    ("POST", "/studies/<uuid:study_id>/move"): the_organisation(422),  # no slices
    ("GET", "/studies/<uuid:study_id>/delete"): Line((SIGN_IN, 404, 200, 200, 200)),
    ("POST", "/studies/<uuid:study_id>/delete"): Line(
        (SIGN_IN, 404, 302, 302, 302), data={"reason": "test", "sure": "y"}
    ),
    ("GET", "/studies/<uuid:study_id>/report.pdf"): the_organisation(200),
    ("GET", "/studies/<uuid:study_id>/report.dcm"): the_organisation(200),
    ("GET", "/studies/<uuid:study_id>/report.fhir.json"): the_organisation(200),
    ("GET", "/studies/<uuid:study_id>/deliveries"): the_organisation(200),
    ("POST", "/studies/<uuid:study_id>/deliveries"): who_signed_in(404),  # no such archive
    ("GET", "/images/<uuid:image_id>/pixels"): the_organisation(200),
    ("GET", "/images/<uuid:image_id>/heatmap"): the_organisation(200),
    ("GET", "/images/<uuid:image_id>/values"): the_organisation(200),
    ("GET", "/series/<uuid:series_id>/volume.nii"): the_organisation(200),
    ("GET", "/series/<uuid:series_id>/heatmap.nii.gz"): the_organisation(200),
    ("GET", "/history"): who_signed_in(200),
    ("GET", "/history.csv"): who_signed_in(200),
    ("GET", "/admin/jobs"): administrators(200),
    ("GET", "/admin/operator"): administrators(200),
    ("POST", "/admin/operator/retries"): administrators(302),
    # Review
    ("GET", "/studies/<uuid:study_id>/assessment"): the_organisation(200),
    ("POST", "/studies/<uuid:study_id>/assessments"): the_organisation(
        302,
        data={"verdict": "agree", "image_id": "{image_id}", "analysis_id": "{analysis_id}"},
    ),
    ("POST", "/studies/<uuid:study_id>/draft"): the_organisation(204, data={"comment": "x"}),
    ("POST", "/studies/<uuid:study_id>/draft/discard"): the_organisation(302),
    ("GET", "/feedback/export"): Line((SIGN_IN, 200, 403, 200, 200)),
    ("GET", "/disputes"): reviewers(200),
    ("GET", "/disputes/<uuid:image_id>"): reviewers(404),  # nobody disagrees
    ("POST", "/disputes/<uuid:image_id>"): reviewers(404, data={"label": "glioma"}),
    ("POST", "/images/<uuid:image_id>/assessment/keep"): the_organisation(302),
    ("GET", "/reading"): who_signed_in(200),
    ("GET", "/reading/<uuid:image_id>"): the_organisation(302),
    ("GET", "/reading/next"): who_signed_in(302),
    ("GET", "/reading/mine"): who_signed_in(200),
    ("GET", "/api/v1/reading"): who_has_a_token(200),
    ("GET", "/api/v1/reading/outcomes"): who_has_a_token(200),
    # Learning; the foreigner has no snapshot
    ("GET", "/learning/snapshots"): stewards(200),
    ("POST", "/learning/snapshots"): stewards(302, data={"name": "x"}),
    ("GET", "/learning/snapshots/list"): stewards(200),
    ("GET", "/learning/snapshots/<uuid:snapshot_id>/progress"): stewards(200, foreigner=404),
    ("GET", "/learning/snapshots/<uuid:snapshot_id>"): stewards(200, foreigner=404),
    ("GET", "/learning/snapshots/<uuid:snapshot_id>/snapshot.zip"): stewards(200, foreigner=404),
    ("POST", "/learning/snapshots/<uuid:snapshot_id>/retrainings"): stewards(302, foreigner=404),
    ("GET", "/learning/retrainings/<uuid:retraining_id>"): stewards(200, foreigner=404),
    ("GET", "/learning/retrainings/<uuid:retraining_id>/state"): stewards(200, foreigner=404),
    ("POST", "/learning/retrainings/<uuid:retraining_id>/cancel"): stewards(302, foreigner=404),
    ("GET", "/learning/readers"): stewards(200),
    ("POST", "/learning/readers/flags"): stewards(302),
    ("POST", "/learning/readers/flags/<uuid:flag_id>/lift"): stewards(302, foreigner=404),
    ("GET", "/learning/withdrawals"): administrators(200),
    ("POST", "/learning/withdrawals"): administrators(422),
    ("GET", "/learning/plan"): stewards(200),
    ("POST", "/learning/plan"): stewards(422),
    ("POST", "/learning/plan/<uuid:plan_id>/confirmation"): stewards(302, foreigner=404),
    ("POST", "/learning/plan/<uuid:plan_id>/decline"): stewards(302, foreigner=404),
    # API
    ("GET", "/api/v1/openapi.json"): everybody(200),
    ("GET", "/api/v1/studies"): Line((401, 200, 200, 200, 200)),
    ("POST", "/api/v1/studies"): Line((401, 202, 202, 202, 202), sends_image=True),
    ("GET", "/api/v1/studies/<uuid:study_id>"): Line((401, 404, 200, 200, 200)),
    ("PATCH", "/api/v1/studies/<uuid:study_id>"): Line(
        (401, 404, 200, 200, 200), json={"priority": "urgent"}
    ),
    # The clinician's own; of others' see test_corrections.
    ("DELETE", "/api/v1/studies/<uuid:study_id>"): Line(
        (401, 404, 204, 204, 204), json={"reason": "test"}
    ),
    # It has not failed; of one that has see test_api.
    ("POST", "/api/v1/studies/<uuid:study_id>/analysis"): Line((401, 404, 409, 409, 409)),
    ("GET", "/api/v1/studies/<uuid:study_id>/report"): Line((401, 404, 200, 200, 200)),
    ("POST", "/api/v1/studies/<uuid:study_id>/feedback"): Line(
        (401, 404, 201, 201, 201), json={"verdict": "agree"}
    ),
    ("GET", "/api/v1/images/<uuid:image_id>/pixels"): Line((401, 404, 200, 200, 200)),
    ("GET", "/api/v1/images/<uuid:image_id>/heatmap"): Line((401, 404, 200, 200, 200)),
    ("GET", "/api/v1/feedback"): Line((401, 200, 403, 200, 200)),
    ("GET", "/api/v1/disputes"): Line((401, 200, 403, 200, 200)),
    ("POST", "/api/v1/images/<uuid:image_id>/adjudication"): Line(
        (401, 404, 403, 409, 409), json={"label": "glioma"}
    ),
    ("GET", "/api/v1/snapshots"): Line((401, 200, 403, 403, 200), steward=200),
    ("POST", "/api/v1/snapshots"): stewards(202, stranger=401, json={"name": "x"}),
    ("GET", "/api/v1/withdrawals"): Line((401, 200, 403, 403, 200)),
    ("GET", "/api/v1/plans"): stewards(200, stranger=401),
    # One of the administrator is open.
    ("POST", "/api/v1/plans"): stewards(
        409, foreigner=201, stranger=401, json={"text": "version = 2", "reason": "other patients"}
    ),
    ("POST", "/api/v1/plans/<uuid:plan_id>/confirmation"): Line(
        (401, 404, 403, 403, 403), steward=201
    ),
    ("POST", "/api/v1/plans/<uuid:plan_id>/decline"): stewards(201, foreigner=404, stranger=401),
    ("GET", "/api/v1/retrainings"): stewards(200, stranger=401),
    # One slice is too little.
    ("POST", "/api/v1/retrainings"): stewards(
        409, foreigner=404, stranger=401, json={"snapshot_id": "{snapshot_id}"}
    ),
    ("GET", "/api/v1/retrainings/<uuid:retraining_id>"): stewards(200, foreigner=404, stranger=401),
    ("POST", "/api/v1/retrainings/<uuid:retraining_id>/cancellation"): stewards(
        200, foreigner=404, stranger=401
    ),
    ("GET", "/api/v1/snapshots/<uuid:snapshot_id>"): Line((401, 404, 403, 403, 200), steward=200),
    # Archives
    ("GET", "/admin/archives"): administrators(200),
    ("POST", "/admin/archives"): administrators(422),
    ("GET", "/admin/archives/<uuid:node_id>"): administrators(200, foreigner=404),
    ("POST", "/admin/archives/<uuid:node_id>"): administrators(422, foreigner=404),
    ("POST", "/admin/archives/<uuid:node_id>/retire"): administrators(302, foreigner=404),
    ("POST", "/admin/archives/<uuid:node_id>/reinstate"): administrators(302, foreigner=404),
    ("POST", "/admin/archives/<uuid:node_id>/verify"): administrators(302, foreigner=404),
    # Models
    ("GET", "/model"): who_signed_in(200),
    ("GET", "/watch"): stewards(200),
    ("POST", "/watch/baseline"): stewards(302),  # too few studies, which the page says
    ("POST", "/watch/alarms/<uuid:alarm_id>/acknowledgement"): stewards(
        302, foreigner=404, data={"note": "x"}
    ),
    ("GET", "/watch/report/<month>.pdf"): stewards(200),
    ("GET", "/watch/report/<month>.json"): stewards(200),
    ("GET", "/api/v1/drift"): stewards(200, stranger=401),
    ("GET", "/models"): who_signed_in(200),
    ("GET", "/models/<uuid:candidate_id>"): stewards(200, foreigner=404),
    ("POST", "/models/<uuid:candidate_id>/gates"): stewards(302, foreigner=404),
    ("POST", "/models/<uuid:candidate_id>/proposal"): stewards(422, foreigner=404),
    ("POST", "/models/<uuid:candidate_id>/confirmation"): stewards(302, foreigner=404),
    ("POST", "/models/<uuid:candidate_id>/decline"): stewards(302, foreigner=404),
    ("GET", "/models/<uuid:candidate_id>/shadow"): stewards(200, foreigner=404),
    ("POST", "/models/<uuid:candidate_id>/shadow"): stewards(422, foreigner=404),
    ("POST", "/models/<uuid:candidate_id>/shadow/stop"): stewards(302, foreigner=404),
    ("GET", "/models/<uuid:candidate_id>/trial"): stewards(200, foreigner=404),
    ("GET", "/api/v1/models/<uuid:candidate_id>/shadow"): stewards(
        200, foreigner=404, stranger=401
    ),
    ("POST", "/api/v1/models/<uuid:candidate_id>/shadow"): stewards(
        409, foreigner=404, stranger=401, json={"share": 100, "most": 5}
    ),
    ("POST", "/api/v1/models/<uuid:candidate_id>/shadow/stop"): stewards(
        409, foreigner=404, stranger=401
    ),
    ("GET", "/api/v1/models/<uuid:candidate_id>/trial"): stewards(200, foreigner=404, stranger=401),
    ("GET", "/models/<uuid:candidate_id>/evidence.json"): stewards(200, foreigner=404),
    ("GET", "/models/<uuid:candidate_id>/evidence.pdf"): stewards(200, foreigner=404),
    ("GET", "/api/v1/models/<uuid:candidate_id>/evidence"): stewards(
        200, foreigner=404, stranger=401
    ),
    ("GET", "/recall"): who_signed_in(200),
    ("POST", "/recall/<uuid:case_id>/acknowledgement"): whose_study_it_is(302),
    ("POST", "/recall/<uuid:case_id>/analysis"): whose_study_it_is(302),
    ("POST", "/recall/runs/<uuid:run_id>/<action>"): stewards(302, foreigner=404),
    ("GET", "/api/v1/recall"): who_has_a_token(200),
    ("POST", "/api/v1/recall/<uuid:case_id>/acknowledgement"): whose_study_it_is(
        200, stranger=401, json={"note": "seen"}
    ),
    ("POST", "/models/rollback"): stewards(422),
    ("POST", "/models/off"): stewards(422),
    ("POST", "/models/on"): stewards(302),
    ("GET", "/api/v1/models"): who_has_a_token(200),
    ("GET", "/api/v1/models/<uuid:candidate_id>"): stewards(200, foreigner=404, stranger=401),
    ("POST", "/api/v1/models/<uuid:candidate_id>/gates"): stewards(
        409, foreigner=404, stranger=401
    ),
    ("POST", "/api/v1/models/<uuid:candidate_id>/proposal"): stewards(
        409, foreigner=404, stranger=401, json={"reason": "better"}
    ),
    ("POST", "/api/v1/models/<uuid:candidate_id>/confirmation"): stewards(
        409, foreigner=404, stranger=401
    ),
    ("POST", "/api/v1/models/<uuid:candidate_id>/decline"): stewards(
        409, foreigner=404, stranger=401
    ),
    ("POST", "/api/v1/models/rollback"): stewards(409, stranger=401, json={"reason": "worse"}),
    ("POST", "/api/v1/models/off"): stewards(201, stranger=401, json={"reason": "recalled"}),
    ("POST", "/api/v1/models/on"): stewards(409, stranger=401),
    # DICOMweb
    ("POST", "/dicomweb/studies"): who_has_a_token(415),
    ("POST", STUDY): who_has_a_token(415),
    ("GET", "/dicomweb/studies"): who_searches(),
    ("GET", "/dicomweb/series"): who_searches(),
    ("GET", "/dicomweb/instances"): who_searches(),
    ("GET", f"{STUDY}/series"): who_searches(),
    ("GET", f"{STUDY}/instances"): who_searches(),
    ("GET", f"{SERIES}/instances"): who_searches(),
    ("GET", STUDY): who_fetches(),
    ("GET", SERIES): who_fetches(),
    ("GET", INSTANCE): who_fetches(),
    ("GET", f"{STUDY}/metadata"): who_fetches(),
    ("GET", f"{SERIES}/metadata"): who_fetches(),
    ("GET", f"{INSTANCE}/metadata"): who_fetches(),
    ("GET", f"{INSTANCE}/rendered"): who_fetches(),
    ("GET", f"{INSTANCE}/frames/<frame_list>"): who_fetches(),
    ("GET", f"{INSTANCE}/frames/<int:frame>/rendered"): who_fetches(),
}


@dataclass(frozen=True)
class World:
    """A portal with two organisations, of which one owns one of everything."""

    app: Flask
    accounts: Mapping[str, Account]
    api_tokens: Mapping[str, str]
    cookies: Mapping[str, str]
    ids: Mapping[str, str]
    kept: Path

    def reset(self) -> None:
        """Undo what the last request has changed."""
        database = self.kept.parent / "home" / "sulcus.sqlite3"
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()
        for leftover in ("-wal", "-shm"):
            Path(f"{database}{leftover}").unlink(missing_ok=True)
        shutil.copyfile(self.kept, database)
        shutil.copytree(self.kept.parent / "blobs", self.blobs, dirs_exist_ok=True)

    @property
    def blobs(self) -> Path:
        """Where slices and heatmaps are; the one request that deletes a study removes them."""
        folder: Path = self.app.extensions["settings"].storage_dir
        return folder

    def ask(self, persona: str, method: str, rule: str, line: Line) -> TestResponse:
        client = self.app.test_client()
        headers = {"Accept": "text/html"}
        if rule.startswith("/api/"):
            headers = {"Accept": "application/json"}
            headers |= self._authorization(persona)
        elif rule.startswith("/dicomweb/"):
            headers = {"Accept": "*/*"} | self._authorization(persona)
        elif cookie := self.cookies.get(persona):
            client.set_cookie("sulcus", cookie)
        sent: dict[str, Any] = (
            {
                "json": {
                    name: value.format(**self.ids) if isinstance(value, str) else value
                    for name, value in line.json.items()
                }
            }
            if line.json
            else {"data": {name: value.format(**self.ids) for name, value in line.data.items()}}
        )
        if line.sends_image:
            sent["data"]["files"] = (io.BytesIO(SAMPLE.read_bytes()), SAMPLE.name)
        return client.open(self.address(method, rule), method=method, headers=headers, **sent)

    def address(self, method: str, rule: str) -> str:
        found = next(
            each
            for each in self.app.url_map.iter_rules()
            if each.rule == rule and method in (each.methods or ())
        )
        built = found.build({name: self.ids[name] for name in found.arguments})
        assert built is not None
        return built[1]

    def _authorization(self, persona: str) -> dict[str, str]:
        token = self.api_tokens.get(persona)
        return {"Authorization": f"Bearer {token}"} if token else {}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    settings = make_settings(folder / "home")
    shutil.copyfile(migrated_sqlite, settings.home / "sulcus.sqlite3")
    app = create_app(settings)
    app.config.update(TESTING=True, WTF_CSRF_ENABLED=False)
    accounts = {
        "foreigner": make_account(app, Role.ADMIN, organisation="Hospital B"),
        "clinician": make_account(app, Role.CLINICIAN),
        "reviewer": make_account(app, Role.REVIEWER),
        "steward": make_account(app, Role.STEWARD),
        "admin": make_account(app, Role.ADMIN),
    }
    world = World(
        app=app,
        accounts=accounts,
        api_tokens={name: make_api_token(app, each)[1] for name, each in accounts.items()},
        cookies={name: _session_of(app, each) for name, each in accounts.items()},
        ids=_one_of_everything(
            app, owner=accounts["clinician"], admin=accounts["admin"], folder=folder
        ),
        kept=folder / "kept.sqlite3",
    )
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    shutil.copyfile(settings.home / "sulcus.sqlite3", world.kept)
    shutil.copytree(world.blobs, folder / "blobs")
    yield world
    world.reset()


def _session_of(app: Flask, account: Account) -> str:
    client = app.test_client()
    client.post("/sign-in", data={"email": account.email, "password": account.password})
    cookie = client.get_cookie("sulcus")
    assert cookie is not None
    return cookie.value


def _one_of_everything(
    app: Flask, *, owner: Account, admin: Account, folder: Path
) -> dict[str, str]:
    candidate_id = register(app, admin, write_model(folder / "model"))
    study = make_study(app, owner)
    series = make_series_study(app, owner, slices=5)
    token_id, _token = make_api_token(app, owner, "owned")
    with app.app_context(), acting_for(admin.organisation_id):
        session, *_others = list_sessions(find_user_by_address(owner.email))
        invitation, token = operations.invite(
            actor=find_user_by_address(admin.email), email="new@x.example", role=Role.CLINICIAN
        )
        snapshot = _one_snapshot(image_id=series.image_ids[0])
        plan = propose_plan(
            actor=find_user_by_address(admin.email), text="version = 2", reason="other patients"
        )
        retraining = Retraining(
            snapshot_id=snapshot.id, mode=RetrainingMode.HEAD, requested_by_id=admin.id
        )
        db.session.add(retraining)
        db.session.commit()
        return {
            "plan_id": str(plan.id),
            "filename": "css/sulcus.css",
            "retraining_id": str(retraining.id),
            "alarm_id": str(_one_alarm()),
            "month": f"{now():%Y-%m}",
            "candidate_id": str(candidate_id),
            "token": token,
            "token_id": str(token_id),
            "session_id": str(session.id),
            "user_id": str(owner.id),
            "invitation_id": str(invitation.id),
            "study_id": str(study.study_id),
            "series_id": str(series.series_id),
            "image_id": str(study.image_id),
            "analysis_id": str(study.analysis_id),
            "snapshot_id": str(snapshot.id),
            "flag_id": str(_one_flag(of=owner)),
            "action": "pause",
            **_one_recall(candidate_id, study, admin),
            **_one_archive_and_instance(admin),
        }


def _one_alarm() -> uuid.UUID:
    alarm = DriftAlarm(
        scope=EVERYTHING,
        family=Family.IMAGE.value,
        week=now().date(),
        against=Against.OWN,
        evidence=[],
    )
    db.session.add(alarm)
    db.session.commit()
    return alarm.id


def _one_snapshot(image_id: uuid.UUID) -> Snapshot:
    """Of a slice that one reader has assessed; his word is enough here."""
    subject = Subject(db.session.get_one(Image, image_id).study_id, (image_id,))
    record_assessments(
        actor=db.session.scalars(select(User).filter_by(role=Role.STEWARD)).one(),
        subject=subject,
        opinion=Opinion(Verdict.AGREE),
    )
    return create_snapshot(actor=None, name="first", terms=replace(shipped_terms(), quorum=1))


def _one_recall(candidate_id: uuid.UUID, study: StudyIds, admin: Account) -> dict[str, str]:
    """A case of a recall, whose deployment is not signed, so that nobody follows it."""
    row = Deployment(
        number=1,
        kind=DeploymentKind.PROMOTION,
        candidate_id=candidate_id,
        decided_by_id=admin.id,
        signature="0" * 64,
    )
    db.session.add(row)
    db.session.flush()
    run = RecallRun(deployment_id=row.id, candidate_id=candidate_id)
    db.session.add(run)
    db.session.flush()
    case = RecallCase(
        run_id=run.id,
        study_id=study.study_id,
        before_id=study.analysis_id,
        after_id=study.analysis_id,
        change=Change.CLASS_CHANGED,
    )
    db.session.add(case)
    db.session.commit()
    return {"run_id": str(run.id), "case_id": str(case.id)}


def _one_flag(of: Account) -> uuid.UUID:
    evidence = {"label": "glioma", "slices": 30, "studies": 9, "minutes": 10}
    flag = ReaderFlag(reader_id=of.id, evidence=evidence)
    db.session.add(flag)
    db.session.commit()
    return flag.id


def _one_archive_and_instance(admin: Account) -> dict[str, str]:
    user = find_user_by_address(admin.email)
    node = register_node(actor=user, details=NodeDetails("PACS", "PACS", "192.0.2.1"))
    (content,) = axial_series(1)
    instance = receive_instance(content=content, received_by=user)
    assert instance is not None
    return {
        "node_id": str(node.id),
        "study_uid": instance.study_uid,
        "series_uid": instance.series_uid,
        "uid": instance.uid,
        "frame_list": "1",
        "frame": "1",
    }


def test_every_address_has_its_line_and_every_line_its_address(world: World) -> None:
    addresses = {
        (method, rule.rule)
        for rule in world.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert addresses - set(TABLE) == set(), "addresses without a line"
    assert set(TABLE) - addresses == set(), "lines without an address"


@pytest.mark.parametrize("persona", PERSONAS)
@pytest.mark.parametrize(("method", "rule"), TABLE)
def test_who_may_call_what(world: World, method: str, rule: str, persona: str) -> None:
    line = TABLE[method, rule]
    expected = line.outcome_of(persona)
    world.reset()
    answer = world.ask(persona, method, rule, line)
    answer.get_data()
    if expected == SIGN_IN:
        assert answer.status_code == 302
        assert answer.location.startswith("/sign-in")
    else:
        assert answer.status_code == expected, answer.text[:2000]
        assert not (answer.location or "").startswith("/sign-in?")


def test_nothing_of_another_organisation_is_in_a_list(world: World) -> None:
    world.reset()
    secrets = {world.ids["study_id"], world.ids["image_id"], world.accounts["clinician"].email}
    for method, rule in TABLE:
        line = TABLE[method, rule]
        if method == "GET" and line.outcomes[1] == 200 and "<token>" not in rule:
            text = world.ask("foreigner", method, rule, line).get_data().decode(errors="replace")
            assert not [secret for secret in secrets if secret in text], rule


def test_the_api_knows_no_cookie_and_pages_know_no_token(world: World) -> None:
    world.reset()
    client: FlaskClient = world.app.test_client()
    client.set_cookie("sulcus", world.cookies["admin"])
    assert client.get("/api/v1/studies").status_code == 401
    headers = {"Authorization": f"Bearer {world.api_tokens['admin']}"}
    answer = world.app.test_client().get("/account", headers=headers)
    assert (answer.status_code, answer.location) == (302, "/sign-in?next=/account")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer nonsense", "Basic YTpi", "Bearer sulcus_\u00fc"]
)
def test_the_api_refuses_anything_but_a_token(world: World, header: str) -> None:
    answer = world.app.test_client().get("/api/v1/studies", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_fragment_that_polls_is_told_where_to_sign_in(world: World) -> None:
    answer = world.app.test_client().get("/worklist/rows", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/sign-in")
