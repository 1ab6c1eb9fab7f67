"""Answers of readers: what is kept, what is refused, the panel, and the export for training."""

import csv
import io
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from ml.dataset import read_manifest
from ml.labels import Label
from tests.factories import Account, StudyIds, assess, make_study
from webapp.accounts.models import Role, User
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotFound
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.review.models import Assessment, Confidence, Verdict
from webapp.review.operations import Opinion, Subject, record_assessments
from webapp.studies.models import Image, Study
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
TRIANGLE = [[0.1, 0.1], [0.9, 0.1], [0.5, 1]]


@contextmanager
def acting(app: Flask, account: Account) -> Iterator[User]:
    """The user, with the organisation acted for."""
    with app.app_context(), acting_for(account.organisation_id):
        yield db.session.get_one(User, account.id)


def record(app: Flask, account: Account, study: StudyIds, **values: Any) -> uuid.UUID:
    (made,) = assess(app, account, study, **values)
    return made


def filled(study: StudyIds, **values: str) -> dict[str, str]:
    """The form of the study's first image, as the page sends it."""
    seen = {"image_id": str(study.image_id), "analysis_id": str(study.analysis_id)}
    return seen | {"verdict": "agree"} | values


def rows(app: Flask, account: Account) -> list[Assessment]:
    """All answers of the account's organisation, oldest first."""
    with acting(app, account):
        return list(db.session.scalars(select(Assessment).order_by(Assessment.created_at)))


def refuse(app: Flask, account: Account, study: StudyIds, **values: Any) -> set[str]:
    """Names of the fields that the operation complains about."""
    with pytest.raises(InvalidInput) as caught:
        record(app, account, study, **values)
    return set(caught.value.fields)


class TestRecordFeedback:
    def test_agreement_holds_the_model_s_class(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        study = make_study(app, account, label="pituitary")
        record(app, account, study, comment=" clear \r\n case ", confidence=Confidence.HIGH)
        (row,) = rows(app, account)
        assert (row.label, row.comment, row.confidence) == (
            "pituitary",
            "clear \n case",
            Confidence.HIGH,
        )
        assert row.superseded_at is None

    def test_disagreement_needs_another_class(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        study = make_study(app, account, label="glioma")
        for label in (None, "", "glioma", "tumour"):
            assert refuse(app, account, study, verdict=Verdict.DISAGREE, label=label) == {"label"}
        record(app, account, study, verdict=Verdict.DISAGREE, label="meningioma", region=TRIANGLE)
        (row,) = rows(app, account)
        assert (row.label, row.region) == ("meningioma", {"points": TRIANGLE})

    def test_agreement_with_another_class_is_refused(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        study = make_study(app, account, label="glioma")
        assert refuse(app, account, study, label="meningioma") == {"label"}
        record(app, account, study, label="glioma")

    def test_unsure_holds_no_class(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        record(app, account, make_study(app, account), verdict=Verdict.UNSURE, label="glioma")
        assert rows(app, account)[0].label is None

    def test_later_answer_takes_the_place_of_the_earlier_one(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account, other = make_user(), make_user()
        study = make_study(app, account)
        record(app, other, study)
        record(app, account, study)
        record(app, account, study, verdict=Verdict.UNSURE)
        first, second, third = rows(app, account)
        assert (first.reader_id, first.superseded_at) == (other.id, None)
        assert second.superseded_at is not None
        assert (third.reader_id, third.superseded_at) == (account.id, None)

    def test_same_answer_again_changes_nothing(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        study = make_study(app, account)
        values = {"comment": "x", "region": TRIANGLE, "confidence": Confidence.LOW}
        assert record(app, account, study, **values) == record(app, account, study, **values)
        assert len(rows(app, account)) == 1

    @pytest.mark.parametrize(
        "region",
        [
            [],
            [[0, 0], [1, 1]],
            [[0, 0]] * 201,
            [[0, 0], [1, 1], [0.5]],
            [[0, 0], [1, 1], [0.5, 0.5, 0.5]],
            [[0, 0], [1, 1], [0, 1.01]],
            [[0, 0], [1, 1], [-0.01, 0]],
            [[0, 0], [1, 1], [float("nan"), 0]],
            [[0, 0], [1, 1], [float("inf"), 0]],
        ],
    )
    def test_region_that_is_no_polygon_inside_the_image_is_refused(
        self, app: Flask, make_user: MakeUser, region: list[list[float]]
    ) -> None:
        account = make_user()
        assert refuse(app, account, make_study(app, account), region=region) == {"region"}

    def test_comment_may_have_2000_characters(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        study = make_study(app, account)
        record(app, account, study, comment="ä" * 1999 + "\0\ud800\r\n")
        assert refuse(app, account, study, comment="x" * 2001) == {"comment"}

    def test_without_a_result_there_is_nothing_to_answer(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        with acting(app, account) as actor:
            sample = Path(__file__).parents[4] / "ml" / "samples" / "glioma-2.jpg"
            files = [UploadedFile(sample.name, sample.read_bytes())]
            study = submit_files(actor=actor, files=files).study
            subject = Subject(study.id, (study.images[0].id,))
            with pytest.raises(Conflict):
                record_assessments(actor=actor, subject=subject, opinion=Opinion(Verdict.UNSURE))

    def test_image_of_another_organisation_does_not_exist(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        study = make_study(app, make_user(organisation="A"))
        with pytest.raises(NotFound):
            record(app, make_user(organisation="B"), study)

    def test_answers_at_the_same_moment_leave_one_current(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        study = make_study(app, account)
        together = Barrier(2)

        def answer(comment: str) -> uuid.UUID:
            with acting(app, account) as actor:
                together.wait(timeout=30)
                (made,) = record_assessments(
                    actor=actor,
                    subject=Subject(study.study_id, (study.image_id,)),
                    opinion=Opinion(Verdict.AGREE, comment=comment),
                )
                return made.id

        with ThreadPoolExecutor(2) as pool:
            made = set(pool.map(answer, ["one", "two"]))
        found = rows(app, account)
        assert {row.id for row in found} == made
        assert [row.superseded_at is None for row in found].count(True) == 1

    def test_leaves_an_audit_entry_without_the_comment(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        made = record(app, account, make_study(app, account), comment="Mrs Smith")
        with acting(app, account):
            (entry,) = db.session.scalars(
                select(AuditEvent).where(AuditEvent.action == "record_assessment")
            )
            assert (entry.subject_id, entry.actor_id) == (made, account.id)
            assert entry.details == {"verdict": "agree"}


class TestPanel:
    def test_htmx_gets_the_panel_with_the_saved_answer(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account, other = make_user(), make_user(name="Dr Other")
        study = make_study(app, account, label="glioma")
        record(app, other, study, comment="<b>sure</b>")
        answer = sign_in(account).post(
            f"/studies/{study.study_id}/assessments",
            data=filled(study, verdict="disagree", label="no_tumor", comment="no mass"),
            headers={"HX-Request": "true"},
        )
        assert answer.status_code == 200
        assert answer.text.lstrip().startswith('<section id="feedback"')
        assert "no mass" in answer.text
        assert "Dr Other" in answer.text
        assert "&lt;b&gt;sure&lt;/b&gt;" in answer.text

    def test_htmx_gets_the_panel_with_the_mistake(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_study(app, account)
        answer = sign_in(account).post(
            f"/studies/{study.study_id}/assessments",
            data=filled(study, verdict="disagree", comment="kept"),
            headers={"HX-Request": "true"},
        )
        assert answer.status_code == 422
        assert "Please choose the correct diagnosis." in answer.text
        assert "kept" in answer.text
        assert rows(app, account) == []

    @pytest.mark.parametrize(
        "data", [{"verdict": ""}, {"verdict": "maybe"}, {"verdict": "agree", "confidence": "9"}]
    )
    def test_values_that_the_form_does_not_offer_are_refused(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn, data: dict[str, str]
    ) -> None:
        account = make_user()
        study = make_study(app, account)
        answer = sign_in(account).post(
            f"/studies/{study.study_id}/assessments",
            data=filled(study, **data),
            headers={"HX-Request": "true"},
        )
        assert answer.status_code == 422
        assert rows(app, account) == []

    def test_browser_without_script_returns_to_the_study(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_study(app, account)
        # The class was chosen before the reader changed to "agree"; it counts for nothing.
        answer = sign_in(account).post(
            f"/studies/{study.study_id}/assessments", data=filled(study, label="no_tumor")
        )
        assert answer.status_code == 302
        assert answer.location == f"/studies/{study.study_id}?image=0#feedback"
        assert rows(app, account)[0].label == "glioma"


class TestExport:
    def archive(self, content: bytes) -> zipfile.ZipFile:
        return zipfile.ZipFile(io.BytesIO(content))

    def lines(self, archive: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(archive.read(name).decode())))

    def test_can_be_trained_with(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn, tmp_path: Path
    ) -> None:
        reader, other = make_user(Role.REVIEWER), make_user()
        first = make_study(app, reader, label="glioma")
        second = make_study(app, reader, label="pituitary")
        with acting(app, reader):  # two studies of one patient
            patient = db.session.get_one(Study, first.study_id).patient
            db.session.get_one(Study, second.study_id).patient = patient
            known = [str(patient.id), str(reader.id), reader.email, patient.code]
            image = db.session.get_one(Image, first.image_id)
            image.row_spacing, image.column_spacing = 2.0, 1.0
            db.session.get_one(Image, second.image_id).pixel_aspect = 0.5
            db.session.commit()
        record(app, reader, first, comment="=1+1", region=TRIANGLE)
        record(app, other, first, verdict=Verdict.DISAGREE, label="no_tumor")
        record(app, reader, second, verdict=Verdict.UNSURE)
        record(app, other, second)
        make_study(app, make_user(organisation="B"))
        answer = sign_in(reader).get("/feedback/export")
        assert (answer.status_code, answer.mimetype) == (200, "application/zip")
        archive = self.archive(answer.data)
        archive.extractall(tmp_path)
        entries = read_manifest(tmp_path / "manifest.csv")
        assert [entry.label for entry in entries] == [
            Label.GLIOMA,
            Label.NO_TUMOR,
            Label.PITUITARY,
        ]
        assert len({entry.group for entry in entries}) == 1
        assert [entry.spacing for entry in entries] == [(2.0, 1.0), (2.0, 1.0), (1.0, 2.0)]
        assert all(entry.path.read_bytes().startswith(b"\x89PNG") for entry in entries)
        lines = self.lines(archive, "manifest.csv")
        assert lines[0]["comment"] == "'=1+1"
        assert lines[0]["region"] == "[[0.1, 0.1], [0.9, 0.1], [0.5, 1.0]]"
        assert (lines[0]["predicted_label"], lines[0]["predicted_probability"]) == ("glioma", "0.9")
        (unsure,) = self.lines(archive, "unsure.csv")
        assert (unsure["label"], unsure["verdict"]) == ("", "unsure")
        assert unsure["reader"] == lines[0]["reader"] != lines[1]["reader"]
        text = archive.read("manifest.csv").decode()
        assert not [word for word in known if word in text]

    def test_holds_only_what_is_current_and_own(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        stranger = make_user(organisation="B")
        record(app, stranger, make_study(app, stranger))
        reader = make_user(Role.REVIEWER, organisation="A")
        study = make_study(app, reader)
        record(app, reader, study)
        record(app, reader, study, comment="second thought")
        archive = self.archive(sign_in(reader).get("/feedback/export").data)
        (line,) = self.lines(archive, "manifest.csv")
        assert line["comment"] == "second thought"
        assert set(archive.namelist()) == {
            f"images/{study.image_id}.png",
            "manifest.csv",
            "unsure.csv",
        }

    def test_leaves_out_images_that_are_gone(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        reader = make_user(Role.REVIEWER)
        kept, gone = make_study(app, reader), make_study(app, reader)
        record(app, reader, kept)
        record(app, reader, gone)
        with acting(app, reader):
            db.session.get_one(Image, gone.image_id).blob_key = "0" * 64
            db.session.commit()
        archive = self.archive(sign_in(reader).get("/feedback/export").data)
        (line,) = self.lines(archive, "manifest.csv")
        assert line["image_id"] == str(kept.image_id)

    def test_is_for_reviewers_and_audited(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        clinician, reviewer = make_user(), make_user(Role.REVIEWER)
        assert sign_in(clinician).get("/feedback/export").status_code == 403
        assert sign_in(reviewer).get("/feedback/export").status_code == 200
        with acting(app, reviewer):
            (entry,) = db.session.scalars(
                select(AuditEvent).where(AuditEvent.action == "export_feedback")
            )
            assert (entry.actor_id, entry.details) == (reviewer.id, {"rows": 0})

    def test_command_line_writes_the_same(
        self, app: Flask, make_user: MakeUser, tmp_path: Path
    ) -> None:
        reader = make_user(organisation="A")
        record(app, reader, make_study(app, reader))
        out = tmp_path / "answers.zip"
        runner = app.test_cli_runner()
        done = runner.invoke(args=["feedback", "export", "--out", str(out)])
        assert (done.exit_code, done.stderr) == (0, "")
        assert len(self.lines(self.archive(out.read_bytes()), "manifest.csv")) == 1
        make_user(organisation="B")
        assert runner.invoke(args=["feedback", "export", "--out", str(out)]).exit_code == 2
        named = ["feedback", "export", "--out", str(out), "--organisation"]
        assert runner.invoke(args=[*named, "B"]).exit_code == 0
        assert self.lines(self.archive(out.read_bytes()), "manifest.csv") == []
        assert runner.invoke(args=[*named, "C"]).exit_code == 1
        nowhere = ["feedback", "export", "--out", str(tmp_path / "no" / "x.zip")]
        done = runner.invoke(args=[*nowhere, "--organisation", "A"])
        assert done.exit_code == 1
        assert len(done.stderr.strip().splitlines()) == 1
