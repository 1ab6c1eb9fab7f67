"""The worker answers with the model that was promoted, and with no other."""

import shutil
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from tests.factories import Account, make_account
from tests.models import biased_model
from tests.portal import SAMPLES, Portal
from tests.unit.webapp.models_admin.candidates import end_gates, promote, register
from tests.waiting import wait_until
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db, now
from webapp.models_admin import operations
from webapp.models_admin.models import CandidateFile
from webapp.queueing import ROLL_OUT
from webapp.rollout.models import ShadowRun
from webapp.rollout.shadowing import start_shadow
from webapp.studies.models import Analysis, Image, Purpose, Status
from webapp.tenancy import acting_for, unscoped

pytestmark = pytest.mark.integration
ONE = [SAMPLES / "glioma-1.jpg"]
MANY = sorted(SAMPLES.glob("*.jpg"))


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("biased")
    yield biased_model(folder)
    shutil.rmtree(folder)


@pytest.fixture
def stewards(portal: Portal) -> tuple[Account, Account]:
    organisation = f"Hospital {uuid.uuid4().hex}"
    one, other = (
        make_account(portal.app, Role.STEWARD, organisation=organisation) for _each in range(2)
    )
    return one, other


def answered(portal: Portal, account: Account, paths: list[Path]) -> tuple[str, list[Any]]:
    """The model that answered, and all that it said."""
    study_id = portal.submit(account, paths)
    assert portal.wait_for_end(study_id, seconds=150) is Status.DONE
    analysis = portal.analysis(study_id)
    with portal.app.app_context(), unscoped():
        analysis = db.session.merge(analysis)
        assert analysis.model_version is not None
        name = analysis.model_version.name
    said = [
        (one.label, one.probabilities, one.prediction_set, one.ood_score, one.heatmap_key)
        for one in portal.predictions(study_id)
    ]
    return name, said


def act(portal: Portal, account: Account, verb: Any, **values: object) -> None:
    with portal.app.app_context(), acting_for(account.organisation_id):
        verb(actor=find_user_by_address(account.email), **values)


def test_a_promoted_model_answers_and_a_rollback_gives_the_earlier_answers_bit_for_bit(
    portal: Portal, stewards: tuple[Account, Account], biased: Path
) -> None:
    portal.start_worker()
    one, other = stewards
    before = answered(portal, one, MANY)
    promote(portal.app, one, other, biased)
    promoted = answered(portal, one, MANY)
    assert promoted[0] == "vgg16-biased"
    assert promoted[1] != before[1]
    assert answered(portal, portal.make_user(), ONE)[0] == before[0]  # another organisation
    act(portal, one, operations.roll_back, reason="worse")
    assert answered(portal, one, MANY) == before


def test_without_a_model_images_are_shown_and_nothing_is_answered(
    portal: Portal, stewards: tuple[Account, Account]
) -> None:
    portal.start_worker()
    one, _other = stewards
    act(portal, one, operations.switch_off, reason="recalled")
    study_id = portal.submit(one, ONE)
    assert portal.wait_for_end(study_id) is Status.REJECTED
    assert portal.analysis(study_id).reason == "model_off"
    assert not portal.predictions(study_id)
    with portal.app.app_context(), unscoped():
        image = db.session.scalars(select(Image).where(Image.study_id == study_id)).one()
        assert image.blob_key
        assert image.problem is None
    act(portal, one, operations.switch_on)
    answered(portal, one, ONE)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_shadow_is_answered_by_the_candidate_and_changes_nothing_of_the_study(
    portal: Portal, stewards: tuple[Account, Account], biased: Path
) -> None:
    portal.start_worker()
    one, _other = stewards
    candidate_id = register(portal.app, one, biased)
    end_gates(portal.app, one, candidate_id, "pass")
    act(portal, one, start_shadow, candidate_id=candidate_id, share=100, most=5)
    study_id = portal.submit(one, ONE)
    assert portal.wait_for_end(study_id, seconds=150) is Status.DONE
    before = portal.analysis(study_id).id, portal.predictions(study_id)[0].probabilities
    shadows = select(Analysis).where(Analysis.purpose == Purpose.SHADOW)
    with portal.app.app_context():
        with unscoped():  # as if it had been answered before; housekeeping waits a little
            earlier = now() - timedelta(minutes=1)
            db.session.execute(update(Analysis).values(finished_at=earlier))
            db.session.execute(update(ShadowRun).values(reached=earlier - timedelta(minutes=1)))
            db.session.commit()
        portal.app.extensions["celery"].send_task(ROLL_OUT, retry=False)

    def is_answered() -> bool:
        with portal.app.app_context(), unscoped():
            return any(one.status is Status.DONE for one in db.session.scalars(shadows))

    wait_until(is_answered, seconds=150, what="the shadow")
    with portal.app.app_context(), unscoped():
        found = db.session.scalars(shadows).one()
        assert found.model_version is not None
        assert found.model_version.name == "vgg16-biased"
        (said,) = found.predictions
        assert said.heatmap_key is None
        assert said.probabilities != before[1]
    assert before == (
        portal.analysis(study_id).id, portal.predictions(study_id)[0].probabilities
    )  # fmt: skip


@pytest.mark.parametrize("place", ["blob", "copy"])
def test_weights_that_were_changed_are_refused_and_the_model_before_goes_on(
    portal: Portal, stewards: tuple[Account, Account], biased: Path, place: str
) -> None:
    one, other = stewards
    promote(portal.app, one, other, biased)
    if place == "copy":
        portal.start_worker()
        assert answered(portal, one, ONE)[0] == "vgg16-biased"
        for worker in portal.processes:  # so that none has the model in memory
            portal.kill(worker)
    settings = portal.app.extensions["settings"]
    with portal.app.app_context(), unscoped():
        file = db.session.scalars(
            select(CandidateFile).where(CandidateFile.name == "biased.safetensors")
        ).one()
        key = file.blob_key
    changed = (
        [settings.storage_dir / key[:2] / key[2:]]
        if place == "blob"
        else list((settings.home / "models").glob("*/biased.safetensors"))
    )
    assert changed
    for path in changed:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    portal.start_worker()
    assert answered(portal, one, ONE)[0].startswith("vgg16-twofold")
    with portal.app.app_context(), unscoped():
        told = db.session.scalars(
            select(AuditEvent.details).where(AuditEvent.action == "refuse_model")
        ).all()
    assert told == [{"fault": "the file biased.safetensors is not what was promoted"}]


def test_an_altered_report_is_refused(
    portal: Portal, stewards: tuple[Account, Account], biased: Path
) -> None:
    one, other = stewards
    promote(portal.app, one, other, biased)
    with portal.app.app_context():
        db.session.execute(text("UPDATE gate_run SET signature = :s"), {"s": "0" * 64})
        db.session.commit()
    portal.start_worker()
    assert answered(portal, one, ONE)[0].startswith("vgg16-twofold")
