"""Snapshots: what readers agreed about, frozen; who is left out, and why."""

import io
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from ml.dataset.reference import read_reference
from ml.dataset.snapshot import fold_of, part_of, read_snapshot
from ml.imaging import read_path
from ml.labels import Label
from tests.factories import (
    Account,
    SeriesStudyIds,
    assess,
    make_account,
    make_api_token,
    make_series_study,
)
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.corrections import removal
from webapp.corrections.operations import Deletion, DeletionReason, delete_study
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotAllowed, NotFound
from webapp.learning import snapshot_jobs
from webapp.learning.export import write_folder
from webapp.learning.models import OUT_OF_SCOPE, Snapshot, SnapshotSlice, Unchangeable, Withdrawal
from webapp.learning.operations import create_snapshot, withdraw_patient
from webapp.learning.pseudonyms import patient_group
from webapp.learning.queries import find_snapshot, holding
from webapp.learning.terms import Terms, shipped_terms
from webapp.review.adjudicating import Ruling, adjudicate
from webapp.review.models import ReaderFlag, Verdict
from webapp.storage import BlobStore
from webapp.studies.models import Image
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
REGION = [[0.2, 0.2], [0.4, 0.2], [0.4, 0.4]]


class Ward:
    """Two readers, a reviewer and a data steward of one hospital, and studies of noise."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.anna, self.ben = make_account(app), make_account(app)
        self.reviewer = make_account(app, Role.REVIEWER)
        self.steward = make_account(app, Role.STEWARD)
        self.admin = make_account(app, Role.ADMIN)
        self._studies = 0

    def study(self, code: str | None = None, slices: int = 1) -> SeriesStudyIds:
        """Slices that resemble nothing else; the model calls them no tumour or glioma."""
        self._studies += 1
        noise = np.random.default_rng(self._studies)
        pixels = [noise.integers(0, 4000, (64, 64), np.uint16) for _n in range(slices)]
        code = code or f"P-{self._studies}"
        return make_series_study(self.app, self.anna, pixels=pixels, code=code)

    def agree(self, ids: SeriesStudyIds, label: str = "meningioma", **more: object) -> None:
        """Both readers name the same diagnosis, each blind to the other."""
        for reader in (self.anna, self.ben):
            self.say(reader, ids, label, **more)

    def say(self, reader: Account, ids: SeriesStudyIds, label: str, **more: object) -> None:
        opinion = {"verdict": Verdict.DISAGREE, "label": label, **more}
        if label == "unsure":
            opinion = {"verdict": Verdict.UNSURE}
        assess(self.app, reader, ids, images=ids.image_ids, **opinion)

    def snapshot(self, name: str = "first", terms: Terms | None = None) -> uuid.UUID:
        with self.inside():
            actor = find_user_by_address(self.steward.email)
            return create_snapshot(actor=actor, name=name, terms=terms).id

    def work_on(self, address: str) -> None:
        """Make the snapshot that was asked for, as the worker does."""
        with self.app.app_context():
            claim = snapshot_jobs.claim_snapshot(uuid.UUID(address.rpartition("/")[2]))
            assert claim is not None
            snapshot_jobs.make_snapshot(claim)

    def inside(self) -> "Inside":
        return Inside(self.app, self.anna.organisation_id)

    def code_in(self, part: str = "training") -> str:
        """The code of a patient who lies in this part; the key is another one in each test."""
        with self.inside():
            return next(
                code for code in map(str, range(500)) if part_of(patient_group(code)) == part
            )

    def left_out(self, name: str = "first") -> dict[str, int]:
        with self.inside():
            return db.session.scalars(select(Snapshot).filter_by(name=name)).one().left_out

    def written(self, snapshot_id: uuid.UUID, folder: Path) -> None:
        with self.inside():
            write_folder(find_snapshot(snapshot_id), folder)

    def withdraw(self, code: str) -> None:
        with self.inside():
            withdraw_patient(actor=find_user_by_address(self.admin.email), code=code)


class Inside:
    """A context of the application that acts for the hospital."""

    def __init__(self, app: Flask, organisation_id: uuid.UUID) -> None:
        self._context, self._organisation_id = app.app_context(), organisation_id

    def __enter__(self) -> None:
        self._context.push()
        self._scope = acting_for(self._organisation_id)
        self._scope.__enter__()

    def __exit__(self, *error: object) -> None:
        self._scope.__exit__(None, None, None)
        self._context.pop()


def copied_slice() -> npt.NDArray[np.uint16]:
    """The grey pixels of a slice that no model may learn from."""
    pixels = read_path(read_reference().slices[0].path)[0].pixels
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    return grey.astype(np.uint16)


@pytest.fixture
def ward(app: Flask) -> Ward:
    return Ward(app)


def test_holds_what_readers_agreed_on_with_where_it_comes_from(ward: Ward, tmp_path: Path) -> None:
    ids = ward.study()
    ward.agree(ids, region=REGION)
    snapshot_id = ward.snapshot()
    ward.written(snapshot_id, tmp_path / "snapshot")
    found = read_snapshot(tmp_path / "snapshot")
    assert found.id == str(snapshot_id)
    (entry,) = [*found.training, *found.holdout]
    assert (entry.label, entry.outline) == (Label.MENINGIOMA, tuple(map(tuple, REGION)))
    assert entry.spacing == (1.2, 1.0)
    provenance = found.provenance[str(entry.sha256)]
    assert provenance.image_id == str(ids.image_ids[0])
    assert (provenance.rule, provenance.blind, len(provenance.readers)) == ("quorum", True, 2)
    assert (provenance.model_sha256, provenance.predicted_label) == ("0" * 64, "glioma")
    with ward.inside():
        (row,) = db.session.scalars(select(SnapshotSlice))
        assert (row.patient_group, row.fold) == (patient_group("P-1"), fold_of(entry.group))
        assert row.part == part_of(row.patient_group)
        (event,) = db.session.scalars(select(AuditEvent).filter_by(action="create_snapshot"))
        assert (event.actor_id, event.details["slices"]) == (ward.steward.id, 1)


def test_names_nobody(ward: Ward, tmp_path: Path) -> None:
    ward.agree(ward.study("SECRET-7"))
    ward.written(ward.snapshot(), tmp_path / "snapshot")
    text = (tmp_path / "snapshot" / "manifest.csv").read_text()
    for secret in ("SECRET-7", str(ward.anna.id), str(ward.ben.id)):
        assert secret not in text


def test_counts_what_it_leaves_out_by_reason(ward: Ward) -> None:
    ward.agree(ward.study())
    ward.say(ward.anna, ward.study(), "pituitary")
    ward.say(ward.anna, ward.study(), "unsure")
    disputed, second = ward.study(), ward.study()
    ward.say(ward.anna, disputed, "pituitary")
    ward.say(ward.ben, disputed, "meningioma")
    ward.say(ward.anna, second, "other", finding="stroke")
    gone = ward.study()
    ward.agree(gone)
    with ward.inside():
        db.session.get_one(Image, gone.image_ids[0]).problem = "damaged"
        db.session.commit()
    ward.snapshot()
    assert ward.left_out() == {
        "single_reader": 1, "unsure": 1, "disputed": 1, "other": 1, "damaged": 1
    }  # fmt: skip


def test_slices_of_none_of_the_classes_are_kept_apart_and_name_nobody(
    ward: Ward, sign_in: SignIn, tmp_path: Path
) -> None:
    ward.agree(ward.study())
    stroke, own_words, ruled, flagged = (ward.study() for _n in range(4))
    ward.agree(stroke, "other", finding="stroke")
    ward.agree(own_words, "other", finding="as with his brother, Mr Smith")
    ward.say(ward.anna, ruled, "pituitary")
    ward.say(ward.ben, ruled, "meningioma")
    ward.say(ward.anna, flagged, "other", finding="cyst")
    ward.say(ward.reviewer, flagged, "other", finding="cyst")
    with ward.inside():
        reviewer = find_user_by_address(ward.reviewer.email)
        ruling = Ruling("other", finding="cyst")
        adjudicate(actor=reviewer, image_id=ruled.image_ids[0], ruling=ruling)
        db.session.add(ReaderFlag(reader_id=ward.reviewer.id, evidence={}))
        db.session.commit()
    snapshot_id = ward.snapshot()
    ward.written(snapshot_id, tmp_path / "snapshot")
    found = read_snapshot(tmp_path / "snapshot")
    assert ward.left_out() == {"other": 1}
    assert (found.facts["counts"]["slices"], found.facts["counts"]["out_of_scope"]) == (1, 3)
    told = {one.provenance.image_id: one for one in found.out_of_scope}
    images = [str(ids.image_ids[0]) for ids in (stroke, own_words, ruled)]
    assert [told[one].finding for one in images] == ["stroke", "", "cyst"]
    assert [told[one].provenance.rule for one in images] == ["quorum", "quorum", "adjudicated"]
    assert len(told[images[0]].provenance.readers) == 2
    assert "Smith" not in (tmp_path / "snapshot" / "out_of_scope.csv").read_text()
    with ward.inside():
        rows = db.session.scalars(select(SnapshotSlice).filter_by(part=OUT_OF_SCOPE)).all()
        assert {str(one.image_id) for one in rows} == set(images)
        assert {one.label for one in rows} == {"other"}
        removal.sweep_blobs(youngest=timedelta(seconds=-1))
    page = sign_in(ward.steward).get(f"/learning/snapshots/{snapshot_id}").text
    assert "Slices of none of the classes" in page
    ward.written(snapshot_id, tmp_path / "again")
    listed = ward.app.test_cli_runner().invoke(args=["snapshots", "list"]).stdout
    assert listed.rstrip("\n").endswith("\tfirst\t3")


def test_withdrawn_patients_are_on_no_list(ward: Ward) -> None:
    ward.agree(ward.study())
    ward.agree(ward.study("P-GONE"), "other", finding="stroke")
    ward.withdraw("P-GONE")
    ward.snapshot()
    assert ward.left_out() == {"withdrawn": 1}


def test_readers_who_had_seen_each_other_are_left_out_as_such(ward: Ward) -> None:
    ward.agree(ward.study())
    led = ward.study()
    ward.say(ward.anna, led, "meningioma")
    ward.say(ward.ben, led, "pituitary")
    ward.say(ward.ben, led, "meningioma")
    ward.snapshot()
    assert ward.left_out() == {"not_independent": 1}


def test_a_flagged_reader_makes_no_quorum(ward: Ward) -> None:
    ward.agree(ward.study())
    flagged = ward.study()
    ward.say(ward.anna, flagged, "meningioma")
    ward.say(ward.reviewer, flagged, "meningioma")
    with ward.inside():
        db.session.add(ReaderFlag(reader_id=ward.reviewer.id, evidence={}))
        db.session.commit()
    ward.snapshot()
    assert ward.left_out() == {"flagged_reader": 1}


def test_an_adjudicated_slice_is_in(ward: Ward, tmp_path: Path) -> None:
    ids = ward.study()
    ward.say(ward.anna, ids, "pituitary")
    ward.say(ward.ben, ids, "meningioma")
    with ward.inside():
        reviewer = find_user_by_address(ward.reviewer.email)
        adjudicate(actor=reviewer, image_id=ids.image_ids[0], ruling=Ruling("pituitary"))
    ward.written(ward.snapshot(), tmp_path / "snapshot")
    found = read_snapshot(tmp_path / "snapshot")
    (provenance,) = found.provenance.values()
    assert (provenance.rule, len(provenance.readers)) == ("adjudicated", 2)


def test_a_patient_stays_in_one_part_in_every_snapshot(ward: Ward) -> None:
    for _n in range(4):
        ward.agree(ward.study())
    ward.snapshot("first")
    ward.agree(ward.study())
    ward.snapshot("second")
    with ward.inside():
        rows = db.session.scalars(select(SnapshotSlice)).all()
        parts = {(one.patient_group, one.part) for one in rows}
        assert len(parts) == len({group for group, _part in parts}) == 5
        assert all(part == part_of(group) for group, part in parts)


def test_copies_of_what_is_held_out_are_left_out_with_their_patient(app: Flask, ward: Ward) -> None:
    pixels = np.random.default_rng(99).integers(0, 4000, (64, 64), np.uint16)
    sides = ((ward.code_in("holdout"), pixels), (ward.code_in(), pixels[:, ::-1]))
    for code, shown in sides:
        ward.agree(make_series_study(app, ward.anna, pixels=[shown], code=code))
    ward.agree(ward.study())
    ward.snapshot()
    assert ward.left_out() == {"group with copies (mirrored)": 1}


def test_never_changes(ward: Ward) -> None:
    ward.agree(ward.study())
    snapshot_id = ward.snapshot()
    with ward.inside():
        find_snapshot(snapshot_id).name = "other"
        with pytest.raises(Unchangeable):
            db.session.commit()


def test_stays_whole_when_its_studies_are_deleted(
    ward: Ward, sign_in: SignIn, tmp_path: Path
) -> None:
    ids = ward.study()
    ward.agree(ids)
    snapshot_id = ward.snapshot()
    asked = sign_in(ward.admin).get(f"/studies/{ids.study_id}/delete").text
    assert "A snapshot for training holds 1 slice. It stays there." in asked
    with ward.inside():
        admin = find_user_by_address(ward.admin.email)
        delete_study(actor=admin, study_id=ids.study_id, deletion=Deletion(DeletionReason.TEST))
        removal.sweep_blobs(youngest=timedelta(seconds=-1))
    ward.written(snapshot_id, tmp_path / "snapshot")
    assert len(read_snapshot(tmp_path / "snapshot").provenance) == 1


def test_there_is_none_where_all_are_copies_of_the_reference_set(app: Flask, ward: Ward) -> None:
    ward.agree(make_series_study(app, ward.anna, pixels=[copied_slice()], code=ward.code_in()))
    with pytest.raises(Conflict, match="copies"):
        ward.snapshot()


def test_there_is_none_where_nobody_agrees(ward: Ward) -> None:
    ward.say(ward.anna, ward.study(), "pituitary")
    with pytest.raises(Conflict):
        ward.snapshot()


@pytest.mark.parametrize("name", ["", " ", "x" * 121])
def test_needs_a_name(ward: Ward, name: str) -> None:
    with pytest.raises(InvalidInput):
        ward.snapshot(name)


def test_two_have_two_names(ward: Ward) -> None:
    ward.agree(ward.study())
    ward.snapshot("same")
    with pytest.raises(Conflict):
        ward.snapshot("same")


def test_a_reviewer_cannot_take_one(ward: Ward) -> None:
    ward.agree(ward.study())
    with ward.inside(), pytest.raises(NotAllowed):
        create_snapshot(actor=find_user_by_address(ward.reviewer.email), name="x")


def test_another_organisation_sees_none(ward: Ward, make_user: MakeUser) -> None:
    ward.agree(ward.study())
    snapshot_id = ward.snapshot()
    stranger = make_user(Role.ADMIN, organisation="Hospital B")
    with ward.app.app_context(), acting_for(stranger.organisation_id), pytest.raises(NotFound):
        find_snapshot(snapshot_id)


class TestWithdrawal:
    def test_leaves_the_patient_out_of_later_snapshots_and_names_earlier_ones(
        self, ward: Ward, sign_in: SignIn
    ) -> None:
        ward.agree(ward.study("P-GONE"))
        ward.agree(ward.study())
        first = ward.snapshot("before")
        ward.withdraw("P-GONE")
        ward.snapshot("after")
        assert ward.left_out("after") == {"withdrawn": 1}
        with ward.inside():
            group = patient_group("P-GONE")
            assert [one.name for one in holding([group])[group]] == ["before"]
            (event,) = db.session.scalars(select(AuditEvent).filter_by(action="withdraw_patient"))
            assert event.actor_id == ward.admin.id
            assert "P-GONE" not in str(event.details)
        browser = sign_in(ward.admin)
        page = browser.get("/learning/withdrawals").text
        assert "P-GONE" in page
        assert "before" in page
        assert "has been withdrawn since" in browser.get(f"/learning/snapshots/{first}").text

    def test_holds_when_the_patient_comes_back(self, ward: Ward) -> None:
        gone = ward.study("P-GONE")
        ward.withdraw("P-GONE")
        with ward.inside():
            admin = find_user_by_address(ward.admin.email)
            deletion = Deletion(DeletionReason.PATIENT_REQUEST)
            delete_study(actor=admin, study_id=gone.study_id, deletion=deletion)
        ward.agree(ward.study("P-GONE"))
        ward.agree(ward.study())
        ward.snapshot()
        assert ward.left_out() == {"withdrawn": 1}

    def test_a_second_time_changes_nothing(self, ward: Ward) -> None:
        ward.study("P-GONE")
        ward.withdraw("P-GONE")
        ward.withdraw("P-GONE")
        with ward.inside():
            assert len(db.session.scalars(select(Withdrawal)).all()) == 1

    def test_needs_a_patient_and_an_administrator(self, ward: Ward) -> None:
        with pytest.raises(NotFound):
            ward.withdraw("nobody")
        ward.study("P-1")
        with ward.inside(), pytest.raises(NotAllowed):
            withdraw_patient(actor=find_user_by_address(ward.steward.email), code="P-1")


class TestPages:
    def test_a_steward_takes_a_snapshot_looks_at_it_and_downloads_it(
        self, ward: Ward, sign_in: SignIn, tmp_path: Path
    ) -> None:
        ward.agree(ward.study())
        ward.say(ward.anna, ward.study(), "pituitary")
        browser = sign_in(ward.steward)
        made = browser.post("/learning/snapshots", data={"name": "July"})
        assert made.status_code == 302
        page = browser.get(made.location).text
        assert "data-poll" in page
        assert "July" in browser.get("/learning/snapshots").text
        ward.work_on(made.location)
        progress = browser.get(f"{made.location}/progress")
        assert progress.headers["HX-Refresh"] == "true"
        page = browser.get(made.location).text
        assert "July" in page
        assert "Only one reader" in page
        assert "July" in browser.get("/learning/snapshots").text
        packed = browser.get(f"{made.location}/snapshot.zip")
        assert packed.headers["Cache-Control"] == "no-store"
        with zipfile.ZipFile(io.BytesIO(packed.data)) as file:
            file.extractall(tmp_path / "snapshot")
        assert read_snapshot(tmp_path / "snapshot").facts["counts"]["slices"] == 1
        with ward.inside():
            (event,) = db.session.scalars(select(AuditEvent).filter_by(action="export_snapshot"))
            assert event.actor_id == ward.steward.id

    def test_what_cannot_be_is_said_beside_the_field(self, ward: Ward, sign_in: SignIn) -> None:
        answer = sign_in(ward.steward).post("/learning/snapshots", data={"name": ""})
        assert answer.status_code == 422
        assert "Please give the snapshot a name." in answer.text


class TestCommands:
    def test_make_list_and_export(self, ward: Ward, tmp_path: Path) -> None:
        ward.agree(ward.study())
        run = ward.app.test_cli_runner().invoke
        made = run(args=["snapshots", "create", "by hand"])
        assert made.exit_code == 0, made.output
        (snapshot_id,) = made.stdout.split()
        assert snapshot_id in run(args=["snapshots", "list"]).stdout
        for out in (tmp_path / "folder", tmp_path / "packed.zip"):
            done = run(args=["snapshots", "export", snapshot_id, "--out", str(out)])
            assert done.exit_code == 0, done.output
        assert read_snapshot(tmp_path / "folder").id == snapshot_id
        again = run(args=["snapshots", "export", snapshot_id, "--out", str(tmp_path / "folder")])
        assert again.exit_code == 1

    def test_a_damaged_blob_is_told_in_one_line(self, ward: Ward, tmp_path: Path) -> None:
        ward.agree(ward.study())
        snapshot_id = ward.snapshot()
        with ward.inside():
            blobs: BlobStore = ward.app.extensions["blobs"]
            blobs.remove([find_snapshot(snapshot_id).manifest_key])
        arguments = ["snapshots", "export", str(snapshot_id), "--out", str(tmp_path / "x")]
        done = ward.app.test_cli_runner().invoke(args=arguments)
        assert (done.exit_code, done.output.count("\n")) == (1, 1)


def test_the_api_makes_lists_and_shows_snapshots(
    app: Flask, client: FlaskClient, ward: Ward
) -> None:
    ward.agree(ward.study())
    headers = {"Authorization": f"Bearer {make_api_token(app, ward.steward)[1]}"}
    made = client.post("/api/v1/snapshots", json={"name": "by program"}, headers=headers)
    assert made.status_code == 202, made.text
    address = made.headers["Location"]
    assert made.json is not None
    assert (made.json["status"], made.json["counts"]) == ("queued", None)
    assert client.get(address, headers=headers).json == made.json
    ward.work_on(address)
    done = client.get(address, headers=headers).json
    assert done is not None
    assert (done["id"], done["status"], done["counts"]["slices"]) == (made.json["id"], "done", 1)
    assert done["counts"]["out_of_scope"] == 0
    listed = client.get("/api/v1/snapshots", headers=headers).json
    assert listed is not None
    assert listed["items"] == [done]
    again = client.post("/api/v1/snapshots", json={"name": "by program"}, headers=headers)
    assert (again.status_code, again.content_type) == (409, "application/problem+json")


def test_copies_of_the_reference_set_are_left_out(app: Flask, ward: Ward) -> None:
    ward.agree(make_series_study(app, ward.anna, pixels=[copied_slice()], code=ward.code_in()))
    ward.agree(ward.study())
    ward.snapshot()
    assert sum(ward.left_out().values()) == 1
    assert next(iter(ward.left_out())).startswith("group with copies")


def test_the_plan_says_how_many_readers_it_takes(ward: Ward) -> None:
    ward.say(ward.anna, ward.study(), "pituitary")
    snapshot_id = ward.snapshot(terms=replace(shipped_terms(), quorum=1))
    with ward.inside():
        assert find_snapshot(snapshot_id).plan_version == shipped_terms().stamp.version
        assert db.session.scalars(select(SnapshotSlice.rule)).all() == ["single"]
