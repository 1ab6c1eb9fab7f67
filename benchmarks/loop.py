"""From assessments to a better model, whole and on real parts: the product, its worker and API.

An installation starts with a weakened model (benchmarks/weakened_model.py). Three readers with
known error rates assess slices of patients that no weight was fitted on, somebody settles what they
disagree about, and a snapshot, a retraining, its gates and two people bring a better model to
serve. Other patients, which nothing has learnt from, are answered before and after. Then the worst
reader turns 30 % of one class into another one: the quorum has to keep that out. In the end the
model is rolled back, and has to answer as before, byte for byte.

    .venv/bin/python -m benchmarks.loop --data-root ../shared/data [--quick] [--screenshots FOLDER]

Prints what it measured; ends with 1 where something does not hold.
"""

import argparse
import contextlib
import itertools
import json
import random
import re
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import requests
from sqlalchemy import select

from benchmarks.loop_people import (
    ERROR_RATES,
    INTO,
    POISONED,
    POISONER,
    Api,
    Json,
    Patient,
    Readers,
)
from benchmarks.loop_screenshots import Screenshots
from benchmarks.product import PASSWORD, PAUSE, product, signed_in
from benchmarks.weakened_model import weaken
from config import Settings
from ml.dataset import Entry, read_exclusions, read_manifest
from ml.dataset.parts import split_as_kept
from ml.dataset.snapshot import HOLDOUT_FOLDS, fold_of
from ml.model_files import BUNDLED
from ml.registry import read_card
from webapp import create_app
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.learning.pseudonyms import patient_group
from webapp.learning.readers import readers_page
from webapp.review.mass_corrections import lift_flag
from webapp.review.models import ReaderFlag
from webapp.tenancy import acting_for

LEAST_GAIN = 0.05
MOST_OFF = 0.05  # of a reader's estimated reliability
UNSEEN, HELD_OUT = 5, 4  # one patient in so many of each class
ALONE, MOST_SLICES = 12, 8  # patients of each class that the poisoner reads, and their slices


class Patients(NamedTuple):
    """Who comes to the hospital.

    Attributes:
        assessed: three readers assess them.
        unseen: nothing learns from them, and nobody assesses them.
        alone: the poisoner alone reads them. The weights were fitted on them, which makes it harder
            to see that what is said of them is wrong.
    """

    assessed: list[Patient]
    unseen: list[Patient]
    alone: list[Patient]


class Report:
    """Prints figures; remembers what does not hold."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._started = time.monotonic()

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:7.0f} s  {text}", flush=True)

    def want(self, holds: bool, text: str) -> None:
        self.tell(f"{'holds' if holds else 'DOES NOT HOLD'}: {text}")
        if not holds:
            self.faults.append(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without the second candidate")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the pages")
    options = parser.parse_args()
    report = Report()
    patients = patients_of(options.data_root, options.seed)
    with tempfile.TemporaryDirectory(prefix="sulcus-loop-") as folder:
        card = weaken(BUNDLED, Path(folder) / "weak")
        home = Path(folder) / "home"
        home.mkdir()
        with product(home, SULCUS_MODEL=str(card)) as address:
            dice = random.Random(options.seed)
            with Screenshots.into(options.screenshots, address) as journey:
                run(home, address, patients, dice, report, journey, quick=options.quick)
    sys.exit(1 if report.faults else 0)


def patients_of(root: Path, seed: int) -> Patients:
    """Those of the shipped model's calibration part, which no weight was fitted on, and others."""
    manifest = root / "brain-mri" / "manifest.csv"
    split = split_as_kept(read_manifest(manifest, excluded=read_exclusions()), read_card(BUNDLED))
    assessed: list[Patient] = []
    unseen: list[Patient] = []
    number: dict[str, int] = defaultdict(int)
    for patient in _drawn(split.calibration, "P", seed):
        number[patient.label] += 1
        (assessed if number[patient.label] % UNSEEN else unseen).append(patient)
    alone: list[Patient] = []
    for patient in _drawn(split.training, "Q", seed):
        number[f"alone {patient.label}"] += 1
        if number[f"alone {patient.label}"] <= ALONE:
            alone.append(replace(patient, slices=patient.slices[:MOST_SLICES]))
    return Patients(assessed, unseen, alone)


def _drawn(entries: Sequence[Entry], letter: str, seed: int) -> list[Patient]:
    """The groups of these slices, in an order that the seed decides."""
    by_group = defaultdict(list)
    for entry in entries:
        by_group[entry.group].append(entry)
    names = sorted(by_group)
    random.Random(seed).shuffle(names)
    return [Patient(f"{letter}-{n:03d}", by_group[name]) for n, name in enumerate(names)]


def run(
    home: Path,
    address: str,
    patients: Patients,
    dice: random.Random,
    report: Report,
    journey: Screenshots,
    *,
    quick: bool,
) -> None:
    """The whole story, told as it happens."""
    assessed, unseen, alone = patients
    uploader, judge = (
        Api(signed_in(home, f"{name}@example.org", role), address)
        for name, role in (("uploader", "clinician"), ("judge", "reviewer"))
    )
    stewards = [
        Api(signed_in(home, f"{name}@example.org", "steward"), address) for name in ("dora", "emil")
    ]
    readers = Readers(
        {name: Api(signed_in(home, f"{name}@example.org"), address) for name in ERROR_RATES}, dice
    )
    give_codes(home, assessed)
    first = uploader.get("/models")["serving"]
    upload_all(uploader, [*assessed, *unseen])
    before = accuracy(unseen)
    report.tell(
        f"{first} is right about {accuracy(assessed):.1%} of {slices(assessed)} slices to be "
        f"assessed and {before:.1%} of {slices(unseen)} of {len(unseen)} unseen patients"
    )
    readers.assess(assessed)
    report.tell(f"{len(ERROR_RATES)} readers have assessed {slices(assessed)} slices each")
    check_reliability(home, readers, report)
    journey.take("anna", "reading", "/reading", "/reading/mine")
    journey.take("anna", "study", f"/studies/{assessed[0].study['id']}")
    journey.take("judge", "disputes", "/disputes")
    journey.take("dora", "readers", "/learning/readers")
    settle(judge, assessed, report)
    with worklist_watched(address, report):
        candidate = learn(stewards[0], "first", report, journey)
    gates = judged(stewards[0], candidate, report)
    journey.take("dora", "gates", f"/models/{candidate}")
    report.want(gates["status"] == "passed", "the gates let the first candidate through")
    if gates["status"] != "passed":
        return
    original = [unseen[0].answers, pictures(uploader, unseen[0])]
    shadowed(stewards[0], uploader, candidate, unseen, report)
    journey.take("dora", "shadow", f"/models/{candidate}/shadow")
    promote(stewards, candidate, journey)
    again = [Patient(one.code, one.slices) for one in unseen]
    upload_all(uploader, again)
    after = accuracy(again)
    served = {answer["model"]["name"] for one in again for _id, answer in one.answers}
    report.tell(f"{', '.join(sorted(served))} is right about {after:.1%} of the unseen patients")
    report.want(after - before >= LEAST_GAIN, f"accuracy rises by {after - before:.1%}")
    journey.take("dora", "promoted", "/models", "/model", f"/models/{candidate}", "/watch")
    journey.take("uploader", "recall", "/recall", f"/studies/{again[0].study['id']}")
    journey.take("anna", "outcomes", "/reading/mine")
    poisoned(stewards[0], readers, assessed, report)
    if not quick:
        give_codes(home, alone)
        upload_all(uploader, alone)
        poisoned_alone(home, stewards, readers, alone, report, journey)
    stewards[0].post("/models/rollback", reason="The loop is measured to its end.")
    journey.take("dora", "rolled-back", "/models", "/model")
    last = Patient(unseen[0].code, unseen[0].slices)
    uploader.upload(last)
    same = without_ids(last.answers) == without_ids(original[0])
    report.want(same, "after the rollback every number is as before")
    report.want(
        pictures(uploader, last) == original[1], "after the rollback heatmaps are as before"
    )


@contextlib.contextmanager
def inside(home: Path) -> Iterator[None]:
    """In the product's application, acting for its one organisation."""
    settings = {"SULCUS_HOME": str(home), "SULCUS_BROKER_URL": f"redis+socket://{home}/nobody"}
    app = create_app(Settings.from_environment(settings))
    with app.app_context():
        owner = find_user_by_address("dora@example.org").organisation_id
        with acting_for(owner):
            yield


def give_codes(home: Path, patients: Sequence[Patient]) -> None:
    """Codes by which the same patients are held out in each run, some of each class.

    Who is held out follows from a keyed hash of organisation and code, which are new in each run.
    """
    number: dict[str, int] = defaultdict(int)
    with inside(home):
        for patient in patients:
            wanted = number[patient.label] % HELD_OUT == 1
            number[patient.label] += 1
            codes = (f"{patient.code}-{n}" for n in itertools.count())
            patient.code = next(
                code for code in codes if (fold_of(patient_group(code)) < HOLDOUT_FOLDS) is wanted
            )


def check_reliability(home: Path, readers: Readers, report: Report) -> None:
    """What stewards are told of readers is near to what was simulated."""
    with inside(home):
        told = {row.reader.email: row.reliability for row in readers_page().rows}
    for name, wrong in readers.wrong.items():
        found, right = told[f"{name}@example.org"], 1 - sum(wrong) / len(wrong)
        value = found.value if found else 0.0
        report.want(
            abs(value - right) <= MOST_OFF,
            f"{name} is right in {right:.3f} of the slices, estimated {value:.3f}",
        )


@contextlib.contextmanager
def worklist_watched(address: str, report: Report) -> Iterator[None]:
    """Time the rows of the worklist before and while something else is done."""
    session, stop = browser(address, "uploader@example.org"), threading.Event()
    before = [worklist_seconds(session, address) for _ in range(40)]
    during: list[float] = []

    def watch() -> None:
        while not stop.wait(0.5):
            during.append(worklist_seconds(session, address))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    calm, busy = p95(before), p95(during)
    report.tell(f"worklist, p95: {calm * 1000:.0f} ms before, {busy * 1000:.0f} ms meanwhile")
    report.want(busy <= 2 * calm, f"the worklist takes {busy / calm:.2f} times as long")


def browser(address: str, email: str) -> requests.Session:
    """Somebody who has signed in on the page."""
    session = requests.Session()
    page = session.get(f"{address}/sign-in", timeout=60).text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    if token is None:
        sys.exit("the sign-in page has no form")
    answer = session.post(
        f"{address}/sign-in",
        data={"email": email, "password": PASSWORD, "csrf_token": token.group(1)},
        timeout=60,
    )
    answer.raise_for_status()
    return session


def worklist_seconds(session: requests.Session, address: str) -> float:
    started = time.perf_counter()
    answer = session.get(f"{address}/worklist/rows", headers={"HX-Request": "true"}, timeout=60)
    answer.raise_for_status()
    return time.perf_counter() - started


def p95(values: Sequence[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]


def upload_all(api: Api, patients: Sequence[Patient]) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(api.upload, patients))


def settle(judge: Api, patients: Sequence[Patient], report: Report) -> None:
    """Somebody who knows settles every dispute."""
    truth = {
        image_id: entry.label.value
        for patient in patients
        for entry, (image_id, _answer) in zip(patient.slices, patient.answers, strict=True)
    }
    number = 0
    while items := judge.get("/disputes?limit=100")["items"]:
        for one in items:
            judge.post(f"/images/{one['image_id']}/adjudication", label=truth[one["image_id"]])
            number += 1
    report.tell(f"{number} disputes were settled")


def learn(steward: Api, name: str, report: Report, journey: Screenshots) -> str:
    """A snapshot and a retraining on it; returns the id of the candidate."""
    snapshot = frozen(steward, name)
    report.tell(
        f"snapshot {name}: {json.dumps(snapshot['counts'])}, without {snapshot['left_out']}"
    )
    started = time.monotonic()
    job = steward.post("/retrainings", snapshot_id=snapshot["id"], mode="head")
    PAUSE.wait(30)  # until there is something to see of it
    journey.take("dora", f"retraining-{name}", f"/learning/retrainings/{job['id']}")
    ended = steward.wait(f"/retrainings/{job['id']}", {"done", "failed", "cancelled"})
    report.tell(
        f"retraining of the head: {ended['status']} {ended['reason'] or ''} after "
        f"{time.monotonic() - started:.0f} s"
    )
    journey.take(
        "dora",
        f"retrained-{name}",
        f"/learning/retrainings/{job['id']}",
        f"/learning/snapshots/{snapshot['id']}",
    )
    if ended["status"] != "done":
        sys.exit(1)
    found: str = ended["candidate_id"]
    return found


def frozen(steward: Api, name: str) -> Json:
    """A snapshot of this name, once it is made."""
    asked = steward.post("/snapshots", name=name)
    found = steward.wait(f"/snapshots/{asked['id']}", {"done", "failed"})
    if found["status"] != "done":
        sys.exit(f"the snapshot {name} failed: {found}")
    return found


def judged(steward: Api, candidate: str, report: Report) -> Json:
    """The verdict of the gates."""
    started = time.monotonic()
    found = steward.wait(f"/models/{candidate}", {"passed", "failed", "broken"}, part="gates")
    run: Json = found["gates"]
    report.tell(f"gates: {run['status']} {run['reason'] or ''} {time.monotonic() - started:.0f} s")
    for gate in run["gates"]:
        if gate["verdict"] != "pass" or "inferiority" in gate["name"] or "superi" in gate["name"]:
            report.tell(f"    {gate['verdict']:13}{gate['name']:26}{gate['reason']}")
    return run


def shadowed(
    steward: Api, uploader: Api, candidate: str, patients: Sequence[Patient], report: Report
) -> None:
    """The candidate answers new studies beside the serving model, and nobody sees it."""
    steward.post(f"/models/{candidate}/shadow", share=100, most=len(patients))
    upload_all(uploader, [Patient(one.code, one.slices) for one in patients])
    while True:
        found: Json = steward.get(f"/models/{candidate}/shadow")["comparison"]
        if found["studies"]["number"] + found["failed"] >= len(patients):
            break
        PAUSE.wait(2)
    report.tell(
        f"shadow: both agree about {found['slices']['agreeing']} of {found['slices']['number']} "
        f"slices and {found['studies']['agreeing']} of {found['studies']['number']} studies; "
        f"{found['before']['mean_set_size']:.2f} classes not ruled out, "
        f"{found['after']['mean_set_size']:.2f} by the candidate; {found['failed']} failed"
    )


def promote(stewards: Sequence[Api], candidate: str, journey: Screenshots) -> None:
    """One proposes, another one confirms."""
    stewards[0].post(f"/models/{candidate}/proposal", reason="Better on what our readers assessed.")
    journey.take("emil", "proposed", f"/models/{candidate}")
    stewards[1].post(f"/models/{candidate}/confirmation")


def poisoned(steward: Api, readers: Readers, patients: Sequence[Patient], report: Report) -> None:
    """What one reader turns into another class is in no snapshot under the quorum."""
    flipped = readers.poison(patients)
    snapshot = frozen(steward, "poisoned")
    report.tell(f"{POISONER} calls {len(flipped)} slices of {POISONED} {INTO} now")
    report.tell(f"snapshot poisoned: {json.dumps(snapshot['counts'])}, {snapshot['left_out']}")
    before = sum(entry.label.value == INTO for one in patients for entry in one.slices)
    report.want(
        snapshot["counts"]["labels"].get(INTO, 0) <= before,
        f"no slice has become {INTO} by one reader's word",
    )


def poisoned_alone(
    home: Path,
    stewards: Sequence[Api],
    readers: Readers,
    patients: Sequence[Patient],
    report: Report,
    journey: Screenshots,
) -> None:
    """With the quorum off, one reader's word is learnt; the gates have to stop what comes of it."""
    found = stewards[0].get("/plans")
    plan, number = found["holds"], found["next_version"]
    text = plan["text"].replace("single_reader = false", "single_reader = true")
    text = text.replace(f"version = {plan['version']}", f"version = {number}")
    asked = stewards[0].post("/plans", text=text, reason="One reader's word is enough, for once.")
    stewards[1].post(f"/plans/{asked['id']}/confirmation")
    flipped = readers.poison(patients, alone=True)
    report.tell(f"{POISONER} alone reads {slices(patients)} slices and turns {len(flipped)}")
    lifted = lift_flags(home)
    report.want(lifted > 0, f"{POISONER} is flagged; a steward who trusts her lifts {lifted} flags")
    candidate = learn(stewards[0], "quorum-off", report, journey)
    gates = judged(stewards[0], candidate, report)
    journey.take("dora", "gates-poisoned", f"/models/{candidate}", "/learning/plan")
    report.want(gates["status"] == "failed", "the gates stop the poisoned candidate")


def lift_flags(home: Path) -> int:
    """Let all readers help to make a quorum again; returns how many flags there were."""
    with inside(home):
        steward = find_user_by_address("dora@example.org")
        flags = db.session.scalars(select(ReaderFlag.id).where(ReaderFlag.lifted_at.is_(None)))
        found = flags.all()
        for flag_id in found:
            lift_flag(actor=steward, flag_id=flag_id)
        return len(found)


def accuracy(patients: Sequence[Patient]) -> float:
    """Share of slices whose label is right."""
    right = [
        entry.label.value == answer["label"]
        for patient in patients
        for entry, (_id, answer) in zip(patient.slices, patient.answers, strict=True)
    ]
    return sum(right) / len(right)


def slices(patients: Sequence[Patient]) -> int:
    return sum(len(one.slices) for one in patients)


def without_ids(answers: Sequence[tuple[str, Json]]) -> list[Json]:
    return [answer for _id, answer in answers]


def pictures(api: Api, patient: Patient) -> list[bytes]:
    """The heatmaps of a patient's slices."""
    links = (image["links"]["heatmap"] for image in patient.study["images"])
    return [api.bytes_of(link) for link in links if link]


if __name__ == "__main__":
    main()
