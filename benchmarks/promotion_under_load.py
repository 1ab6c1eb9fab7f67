"""Promote, roll back and promote a second model while studies are answered and workers are killed.

Starts database, broker and a worker of their own. One-slice studies are uploaded; after a quarter,
a half and three quarters of them the second model is promoted, taken back, and promoted again.
Meanwhile the worker is killed (SIGKILL) and started again. Prints how many studies are done, and
by which model. The exit code is 1 if a study is not done exactly once, if answers of one model
about one slice differ, if the audit trail lacks something, or if the first model does not answer
bit for bit as before once the second one is taken back.

    .venv/bin/python -m benchmarks.promotion_under_load [--studies 200] [--seed 0] \\
        [--longest-life 10]
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import func, select, update

from config import Settings
from ml.model_files import find_model_files
from tests.broker import running_broker
from tests.conftest import make_settings, migrate
from tests.factories import Account, make_account
from tests.models import biased_model
from tests.portal import SAMPLES, Portal
from tests.waiting import wait_until
from webapp import create_app
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db, now, retried
from webapp.models_admin import operations
from webapp.models_admin.gate_jobs import claim_gates, finish_gates
from webapp.plans.holding import plan_that_holds
from webapp.studies.models import Analysis, Prediction, Purpose, Status, Study
from webapp.tenancy import acting_for, unscoped

SLICES = sorted(SAMPLES.glob("*.jpg"))
# A promotion also recalls earlier studies, by analyses of another purpose.
SERVES = Analysis.purpose == Purpose.SERVING
# Seconds. What a killed worker had begun is sent again, behind everything that waits.
LONGEST_WAIT = 1800.0
Said = tuple[str, str]  # the model, and all that it said


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        slices: how many different ones are uploaded.
        longest_life: studies that a worker ends before it is killed, at most.
        most_kills: after so many the worker is left alone.
        hurry: leases of a killed worker end at once; otherwise as they do.
    """

    studies: int
    slices: int = len(SLICES)
    seed: int = 0
    longest_life: int = 10
    most_kills: int = 1000
    hurry: bool = False


@dataclass
class Outcome:
    """What came of it; no faults is good."""

    kills: int = 0
    by_model: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest-life",
        type=int,
        default=10,
        help="studies that a worker ends before it is killed",
    )
    options = parser.parse_args()
    plan = Plan(options.studies, seed=options.seed, longest_life=options.longest_life)
    with tempfile.TemporaryDirectory(prefix="sulcus-bench-") as folder:
        card = biased_model(Path(folder) / "second")
        with portal_in(Path(folder)) as portal:
            found = run(portal, card, plan)
    print(f"{'studies':36s} {options.studies:7d}")
    print(f"{'times that the worker was killed':36s} {found.kills:7d}")
    for name, number in sorted(found.by_model.items()):
        print(f"{'answered by ' + name:36s} {number:7d}")
    print("\n".join(found.faults) or "every study is done exactly once, by one model")
    sys.exit(bool(found.faults))


@contextmanager
def portal_in(folder: Path) -> Iterator[Portal]:
    """A portal of its own; SULCUS_DATABASE_URL names an empty database in place of SQLite."""
    with running_broker() as broker:
        given = {"SULCUS_BROKER_URL": broker.url}
        if url := os.environ.get("SULCUS_DATABASE_URL"):
            given["SULCUS_DATABASE_URL"] = url
        settings: Settings = make_settings(folder / "home", **given)
        migrate(settings)
        app: Flask = create_app(settings)
        portal = Portal.of(app, settings, broker, folder)
        try:
            yield portal
        finally:
            portal.stop_all()


def run(portal: Portal, card: Path, plan: Plan) -> Outcome:
    """All of it, with the second model of this card."""
    organisation = f"Hospital {uuid.uuid4().hex}"
    people = [make_account(portal.app, Role.STEWARD, organisation=organisation) for _each in "ab"]
    # Before the worker starts: it would run the gates itself.
    candidate_id = passed_candidate(portal.app, people[0], card)
    outcome, slices = Outcome(), SLICES[: plan.slices]
    with killed_again_and_again(portal, plan, outcome) as first_worker_is_up:
        before = {path: submitted(portal, people[0], path) for path in slices}
        wait_for(portal, list(before.values()))
        first_worker_is_up.set()
        made = uploaded_while_models_change(portal, people, candidate_id, plan)
        wait_for(portal, [study_id for study_id, _path in made])
    change(portal, people[0], "roll_back", reason="the end")
    again = {path: submitted(portal, people[0], path) for path in slices}
    wait_for(portal, list(again.values()))
    check(portal, made, outcome)
    for path in slices:
        if said(portal, before[path]) != said(portal, again[path]):
            outcome.faults.append(f"{path.name} is answered differently after the rollback")
    check_audit(portal, people[0], plan.studies + 2 * len(slices), outcome)
    return outcome


def passed_candidate(app: Flask, steward: Account, card: Path) -> uuid.UUID:
    """A candidate with a signed report, kept as the worker does it."""
    with app.app_context(), acting_for(steward.organisation_id):
        actor = find_user_by_address(steward.email)
        candidate = operations.register_candidate(actor=actor, files=find_model_files(card))
        held = plan_that_holds()
        claim = claim_gates(candidate.gate_runs[-1].id)
        if claim is None:
            raise RuntimeError("somebody else runs the gates")
        report = {
            "verdict": "pass",
            "candidate": {"weights_sha256": candidate.model_version.sha256},
            "plan": {"version": held.plan.version, "sha256": held.sha256},
            "gates": [],
        }
        candidate_id = candidate.id
        finish_gates(claim, report)
        return candidate_id


def uploaded_while_models_change(
    portal: Portal, people: Sequence[Account], candidate_id: uuid.UUID, plan: Plan
) -> list[tuple[uuid.UUID, Path]]:
    """Each study with its slice."""
    (proposer, confirmer), studies = people, plan.studies
    made = []
    for number in range(studies):
        path = SLICES[number % plan.slices]
        made.append((submitted(portal, proposer, path), path))
        if number in {studies // 4, 3 * studies // 4}:
            wait_for_some(portal, made, number // 2)
            change(
                portal, proposer, "propose_model", candidate_id=candidate_id, reason="it is better"
            )
            change(portal, confirmer, "confirm_model", candidate_id=candidate_id)
        if number == studies // 2:
            wait_for_some(portal, made, number // 2)
            change(portal, proposer, "roll_back", reason="it is worse")
    return made


@contextmanager
def killed_again_and_again(
    portal: Portal, plan: Plan, outcome: Outcome
) -> Iterator[threading.Event]:
    """Run a worker; once the event is set, it is killed each time that it has done some work."""
    begin, over = threading.Event(), threading.Event()
    chance = random.Random(plan.seed)

    def watch() -> None:
        try:
            kill_again_and_again()
        except Exception as error:
            outcome.faults.append(f"nobody kills or starts workers any more: {error!r}")
            portal.start_worker()  # or the studies would be waited for in vain
            raise

    def kill_again_and_again() -> None:
        worker = portal.start_worker()
        begin.wait()
        while outcome.kills < plan.most_kills:
            wait_for_more(portal, ended(portal) + chance.randrange(plan.longest_life), over)
            if over.wait(chance.uniform(0, 1)):
                break
            portal.kill(worker)
            outcome.kills += 1
            if plan.hurry:
                end_leases(portal)
            worker = portal.start_worker()

    thread = threading.Thread(target=watch, name="killer")
    thread.start()
    try:
        yield begin
    finally:
        begin.set()
        over.set()
        thread.join()


def wait_for_more(portal: Portal, done: int, over: threading.Event) -> None:
    """Wait until more than ``done`` analyses have ended, or it is over."""
    wait_until(lambda: over.is_set() or ended(portal) > done, seconds=300, what="a study")


def ended(portal: Portal) -> int:
    """Analyses for serving that are done."""
    with portal.app.app_context(), unscoped():
        wanted = (
            select(func.count()).select_from(Analysis).where(Analysis.status == Status.DONE, SERVES)
        )
        return db.session.scalar(wanted) or 0


def end_leases(portal: Portal) -> None:
    """Let the next worker take over at once: the one before is certainly dead."""

    def end_them() -> None:
        moment = now() - timedelta(minutes=1)
        over = update(Analysis).where(Analysis.status == Status.RUNNING)
        db.session.execute(over.values(lease_until=moment, sent_at=moment))
        db.session.commit()

    with portal.app.app_context(), unscoped():
        retried(end_them)


def submitted(portal: Portal, account: Account, path: Path) -> uuid.UUID:
    """Upload a slice as a study."""
    return portal.submit(account, [path])


def change(portal: Portal, account: Account, verb: str, **values: Any) -> None:
    """Do something with models in the name of a steward, again where the database is busy."""
    with portal.app.app_context(), acting_for(account.organisation_id):
        act = getattr(operations, verb)
        retried(lambda: act(actor=find_user_by_address(account.email), **values))


def wait_for(portal: Portal, studies: Sequence[uuid.UUID]) -> None:
    """Wait until all have ended."""
    for study_id in studies:
        portal.wait_for_end(study_id, seconds=LONGEST_WAIT)


def wait_for_some(portal: Portal, made: Sequence[tuple[uuid.UUID, Path]], number: int) -> None:
    """Wait until the first ``number`` have ended, so that each model has something to answer."""
    wait_for(portal, [study_id for study_id, _path in made[:number]])


def said(portal: Portal, study_id: uuid.UUID) -> Said:
    """Which model answered, and all that it said, to the last bit."""
    with portal.app.app_context(), unscoped():
        wanted = select(Analysis).where(Analysis.study_id == study_id, SERVES)
        analysis = db.session.scalars(wanted).one()
        name = analysis.model_version.name if analysis.model_version else ""
        found = [
            (one.label, one.probabilities, one.prediction_set, one.ood_score, one.heatmap_key)
            for one in portal.predictions(study_id)
        ]
        return name, repr(found)


def check(portal: Portal, made: Sequence[tuple[uuid.UUID, Path]], outcome: Outcome) -> None:
    """Every study is done once, and each model says one thing about one slice."""
    answers: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for study_id, path in made:
        counts = counted(portal, study_id)
        if counts != (Status.DONE, 1, 1, 1):
            outcome.faults.append(f"study {study_id}: status, analyses, answers, audit: {counts}")
            continue
        model, answer = said(portal, study_id)
        outcome.by_model[model] += 1
        answers[path, model].add(answer)
    for (path, model), different in answers.items():
        if len(different) > 1:
            outcome.faults.append(f"{model} says {len(different)} things about {path.name}")
    if len(outcome.by_model) != 2:
        outcome.faults.append(f"not both models answered: {dict(outcome.by_model)}")


def counted(portal: Portal, study_id: uuid.UUID) -> tuple[Status, int, int, int]:
    """Status, analyses, answers, and entries of the audit trail about a classification."""
    with portal.app.app_context(), unscoped():
        wanted = (
            select(func.count()).select_from(Analysis).where(Analysis.study_id == study_id, SERVES),
            select(func.count())
            .select_from(Prediction)
            .join(Analysis, Analysis.id == Prediction.analysis_id)
            .where(Analysis.study_id == study_id, SERVES),
            select(func.count())
            .select_from(AuditEvent)
            .where(AuditEvent.action == "classify_study", AuditEvent.subject_id == study_id),
        )
        analyses, answers, noted = (db.session.scalar(one) or 0 for one in wanted)
        return db.session.get_one(Study, study_id).status, analyses, answers, noted


def check_audit(portal: Portal, steward: Account, studies: int, outcome: Outcome) -> None:
    """Each act has its entry."""
    with portal.app.app_context(), acting_for(steward.organisation_id):
        found = Counter(db.session.scalars(select(AuditEvent.action)))
    expected = {
        "submit_study": studies,
        "classify_study": studies,
        "register_candidate": 1,
        "finish_gates": 1,
        "propose_model": 2,
        "promote_model": 2,
        "roll_back_model": 2,
    }
    for action, number in expected.items():
        if found[action] != number:
            outcome.faults.append(f"audit: {action} is there {found[action]} times, not {number}")


if __name__ == "__main__":
    main()
