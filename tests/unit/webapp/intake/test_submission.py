"""Uploads that need a word first: several patients, known content, other codes, doubtful codes."""

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydicom.uid import RLELossless, generate_uid
from sqlalchemy import func, select

from ml.imaging.pictures import encode_png
from tests.dicoms import Patient, as_bytes, axial_series, head, mr_slice
from tests.factories import SAMPLE, Account
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.errors import (
    CodeConflict,
    Conflict,
    InvalidInput,
    KnownContent,
    OtherContent,
    OtherPatient,
    QuestionableCode,
    RefusedUpload,
    SeveralStudies,
)
from webapp.intake.arrival import Handling, UploadedFile
from webapp.intake.filenames import shown
from webapp.intake.known import Known
from webapp.intake.letters import BurnedIn
from webapp.intake.parcels import Split
from webapp.intake.receiving import receive_instance
from webapp.intake.submission import Choices, Idempotency, Submission, submit_files
from webapp.pacs.receiving import DUPLICATE_WITH_OTHER_PIXELS, OTHER_PATIENT, SUCCESS, receive
from webapp.studies.models import Image, Instance, Priority, Study
from webapp.tenancy import acting_for, unscoped

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
JSON = {"Accept": "application/json"}
OTHER = Patient("Other^Anna", "X-2", "19500101")


def picture(seed: int) -> bytes:
    """A PNG that differs from those of other seeds."""
    pixels = cv2.imdecode(np.frombuffer(SAMPLE.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    pixels[-1, -1] = seed
    return encode_png(pixels)


class Uploads:
    """Uploads of one user, and what became of them."""

    def __init__(self, app: Flask, account: Account) -> None:
        self.app, self.account = app, account

    def send(self, files: Sequence[bytes] | dict[str, bytes], **what: Any) -> dict[str, Any]:
        named = files if isinstance(files, dict) else {f"{n}.dcm": f for n, f in enumerate(files)}
        with self.app.app_context(), acting_for(self.account.organisation_id):
            submission: Submission = submit_files(
                actor=find_user_by_address(self.account.email),
                files=[UploadedFile(name, content) for name, content in named.items()],
                **what,
            )
            return {
                "ids": [study.id for study in submission.studies],
                "codes": [study.patient.code for study in submission.studies],
                "images": [len(study.images) for study in submission.studies],
                "known": [known.study.id for known in submission.already_known],
                "left_out": dict(submission.left_out),
                "notes": " ".join(submission.notes),
                "jobs": len(submission.analysis_ids),
            }

    def study(self, study_id: uuid.UUID) -> Study:
        with self.app.app_context(), unscoped():
            return db.session.get_one(Study, study_id)

    def count(self, model: type) -> int:
        with self.app.app_context(), unscoped():
            return db.session.scalar(select(func.count()).select_from(model)) or 0

    def receive(self, content: bytes) -> Instance | None:
        with self.app.app_context(), acting_for(self.account.organisation_id):
            user = find_user_by_address(self.account.email)
            return receive_instance(content=content, received_by=user)

    def status(self, content: bytes) -> int:
        with self.app.app_context(), acting_for(self.account.organisation_id):
            return receive(content, received_by=find_user_by_address(self.account.email)).status


@pytest.fixture
def uploads(app: Flask, make_user: MakeUser) -> Uploads:
    return Uploads(app, make_user())


def same_uid_other_pixels() -> tuple[bytes, bytes]:
    one, other = mr_slice(head(0, 2, 128)), mr_slice(head(1, 2, 128) + 1)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(other, name, one.get(name))
    other.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    return as_bytes(one), as_bytes(other)


class TestPatientCode:
    @pytest.mark.parametrize("code", ["Jane Doe", "19470611"])
    def test_that_looks_like_a_person_is_kept_only_once_confirmed(
        self, uploads: Uploads, code: str
    ) -> None:
        with pytest.raises(QuestionableCode) as asked:
            uploads.send({"a.png": picture(1)}, patient_code=code)
        assert "patient_code" in asked.value.fields
        assert uploads.count(Study) == 0
        sent = uploads.send(
            {"a.png": picture(1)}, patient_code=code, choices=Choices(code_confirmed=True)
        )
        assert sent["codes"] == [code]

    def test_page_asks_and_keeps_nothing(self, make_user: MakeUser, sign_in: SignIn) -> None:
        browser = sign_in(make_user())
        data = {"files": [(io.BytesIO(picture(1)), "a.png")], "patient_code": "Jane Doe"}
        answer = browser.post("/studies/new", data=data, headers=JSON)
        assert answer.status_code == 422
        assert answer.get_json()["code"] == "patient-code-questioned"
        data = {"files": [(io.BytesIO(picture(1)), "a.png")], "patient_code": "Jane Doe"}
        page = browser.post("/studies/new", data=data)
        assert 'type="checkbox" value="y"' in page.text.replace("checked ", "")
        data = {
            "files": [(io.BytesIO(picture(1)), "a.png")],
            "patient_code": "Jane Doe",
            "code_confirmed": "y",
        }
        assert browser.post("/studies/new", data=data, headers=JSON).status_code == 201

    def test_script_can_ask_before_it_sends_the_files(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        browser = sign_in(make_user())
        paths = json.dumps(["P1/a.png", "P2/a.png", "P2/b.png", "P3/IM0001"])
        data = {"patient_code": "Doe, Jane", "paths": paths}
        found = browser.post("/studies/new/check", data=data).get_json()
        assert found["code_question"] is None  # it cannot be taken at all, and the upload says so
        data["patient_code"] = "Jane Doe"
        found = browser.post("/studies/new/check", data=data).get_json()
        assert "looks like a name" in found["code_question"]
        assert [(one["label"], one["files"]) for one in found["patients"]] == [("P1", 1), ("P2", 2)]
        nothing = browser.post("/studies/new/check", data={"paths": "[["}).get_json()
        assert nothing == {"code_question": None, "patients": []}


class TestSeveralPatients:
    PICTURES = {f"pat0{p}_slice{n}.png": picture(10 * p + n) for p in (1, 2) for n in (1, 2)}

    def test_pictures_are_asked_about_where_somebody_can_answer(self, uploads: Uploads) -> None:
        with pytest.raises(SeveralStudies, match="2 patients") as asked:
            uploads.send(self.PICTURES, choices=Choices(split=Split.ASK))
        assert asked.value.extra["may_keep"] is True
        assert [group["label"] for group in asked.value.extra["groups"]] == ["pat01", "pat02"]

    def test_pictures_become_a_study_of_each_patient(self, uploads: Uploads) -> None:
        sent = uploads.send(self.PICTURES, patient_code="K-7", choices=Choices(split=Split.YES))
        assert (sent["images"], sent["codes"]) == ([2, 2], ["K-7-1", "K-7-2"])
        assert sent["jobs"] == 2

    def test_pictures_kept_together_are_said_to_look_like_several(self, uploads: Uploads) -> None:
        sent = uploads.send(self.PICTURES)
        assert sent["images"] == [4]
        assert "2 patients" in sent["notes"]

    def test_dicom_is_never_one_study_of_two_patients(self, uploads: Uploads) -> None:
        files = [*axial_series(2), *axial_series(3, patient=OTHER)]
        for split in (Split.NO, Split.ASK):
            with pytest.raises(SeveralStudies, match="2 patients") as asked:
                uploads.send(files, choices=Choices(split=split))
            assert asked.value.extra["may_keep"] is False
        sent = uploads.send(files, choices=Choices(split=Split.YES))
        assert sent["images"] == [2, 3]
        assert len(set(sent["codes"])) == 2

    def test_same_picture_in_two_studies_of_one_upload_is_no_earlier_content(
        self, uploads: Uploads
    ) -> None:
        files = [*axial_series(2), *axial_series(2, patient=OTHER)]  # the pixels are the same
        sent = uploads.send(files, choices=Choices(split=Split.YES, known=Known.ASK))
        assert (sent["images"], sent["known"]) == ([2, 2], [])

    def test_two_studies_of_a_patient_stay_one_patient_s(self, uploads: Uploads) -> None:
        files = [*axial_series(1), *axial_series(2)]
        sent = uploads.send(files, patient_code="K-9", choices=Choices(split=Split.YES))
        assert (sent["images"], sent["codes"]) == ([1, 2], ["K-9", "K-9"])

    def test_two_patients_under_one_study_uid_are_refused_together_and_one_after_the_other(
        self, uploads: Uploads
    ) -> None:
        uid = generate_uid()
        one = axial_series(2, study_uid=uid)
        other = axial_series(2, study_uid=uid, patient=OTHER)
        with pytest.raises(InvalidInput, match="2 patients"):
            uploads.send([*one, *other], choices=Choices(split=Split.YES))
        sent = uploads.send(one)
        with pytest.raises(OtherPatient, match="different patient"):
            uploads.send(other)
        with pytest.raises(OtherPatient):
            uploads.receive(other[0])
        assert uploads.status(other[1]) == OTHER_PATIENT
        with uploads.app.app_context(), unscoped():
            assert len(db.session.get_one(Study, sent["ids"][0]).images) == 2
            assert len(db.session.scalars(select(Instance)).all()) == 2


class TestKnownContent:
    FILES = {"a.png": picture(1), "b.png": picture(2)}

    def test_is_asked_about_where_somebody_can_answer(self, uploads: Uploads) -> None:
        first = uploads.send(self.FILES, patient_code="K-1")
        with pytest.raises(KnownContent, match="All 2 images") as asked:
            # By content, not by name.
            uploads.send({"x.png": picture(2), "y.png": picture(1)}, choices=self.asking())
        (known,) = asked.value.extra["known"]
        assert known["study_id"] == str(first["ids"][0])
        assert (known["patient_code"], known["matching"]) == ("K-1", 2)
        with pytest.raises(KnownContent, match="1 of 2 images"):
            uploads.send({"b.png": picture(2), "c.png": picture(3)}, choices=self.asking())
        assert uploads.count(Study) == 1

    def asking(self) -> Choices:
        return Choices(known=Known.ASK)

    def test_can_be_analysed_again_as_a_new_study(self, uploads: Uploads) -> None:
        first = uploads.send(self.FILES)
        again = uploads.send(self.FILES, choices=Choices(known=Known.NEW))
        assert again["ids"] != first["ids"]
        assert again["known"] == first["ids"]

    def test_can_be_opened_instead(self, uploads: Uploads) -> None:
        first = uploads.send(self.FILES)
        again = uploads.send(self.FILES, choices=Choices(known=Known.REUSE))
        assert (again["ids"], again["jobs"]) == (first["ids"], 0)
        more = {**self.FILES, "c.png": picture(3)}
        # What the earlier study does not hold makes a study of its own.
        assert uploads.send(more, choices=Choices(known=Known.REUSE))["ids"] != first["ids"]

    def test_can_add_what_is_new(self, uploads: Uploads) -> None:
        first = uploads.send(self.FILES)
        more = {**self.FILES, "c.png": picture(3)}
        again = uploads.send(more, choices=Choices(known=Known.ADD))
        assert (again["ids"], again["images"], again["jobs"]) == (first["ids"], [3], 1)
        assert "1 of 3 files" in again["notes"]

    def test_is_not_told_to_another_organisation(
        self, app: Flask, uploads: Uploads, make_user: MakeUser
    ) -> None:
        uploads.send(self.FILES)
        stranger = Uploads(app, make_user(organisation="B"))
        assert stranger.send(self.FILES, choices=self.asking())["known"] == []

    def test_same_pixels_under_other_identifiers_are_known(self, uploads: Uploads) -> None:
        dataset = mr_slice(head(0, 1, 128))
        first = uploads.send([as_bytes(dataset)])
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, name, generate_uid())
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        with pytest.raises(KnownContent):
            uploads.send([as_bytes(dataset)], choices=self.asking())
        assert uploads.send([as_bytes(dataset)])["known"] == first["ids"]

    def test_page_gets_the_choice_with_an_address(
        self, app: Flask, uploads: Uploads, sign_in: SignIn
    ) -> None:
        first = uploads.send({"a.png": picture(1)})
        browser = sign_in(uploads.account)
        data = {"files": [(io.BytesIO(picture(1)), "z.png")], "known": "ask"}
        answer = browser.post("/studies/new", data=data, headers=JSON)
        assert (answer.status_code, answer.get_json()["code"]) == (409, "known-content")
        assert answer.get_json()["known"][0]["page"] == f"/studies/{first['ids'][0]}"
        data = {"files": [(io.BytesIO(picture(1)), "z.png")], "known": "ask"}
        page = browser.post("/studies/new", data=data)
        assert f"/studies/{first['ids'][0]}" in page.text


class TestSentAgain:
    def test_other_code_is_refused_with_both_named(self, uploads: Uploads) -> None:
        files = axial_series(2)
        uploads.send(files, patient_code="K-1")
        with pytest.raises(CodeConflict, match=r"K-1.*K-2") as conflict:
            uploads.send(files, patient_code="K-2")
        assert conflict.value.extra["earlier_code"] == "K-1"
        assert uploads.send(files, patient_code="K-1")["codes"] == ["K-1"]
        assert uploads.send(files)["codes"] == ["K-1"]

    def test_urgency_and_missing_description_are_taken(self, uploads: Uploads) -> None:
        files = axial_series(2)
        (study_id,) = uploads.send(files)["ids"]
        sent = uploads.send(files, description="T1", priority=Priority.URGENT)
        study = uploads.study(study_id)
        assert (study.priority, study.description) == (Priority.URGENT, "T1")
        assert "now urgent" in sent["notes"]

    def test_what_is_not_taken_is_said(self, uploads: Uploads) -> None:
        files = axial_series(2)
        (study_id,) = uploads.send(files, description="T1", priority=Priority.URGENT)["ids"]
        sent = uploads.send(files, description="FLAIR")
        assert "“T1”" in sent["notes"]
        assert "remains urgent" in sent["notes"]
        assert uploads.study(study_id).priority is Priority.URGENT

    def test_study_s_page_says_so(self, uploads: Uploads, sign_in: SignIn) -> None:
        content = axial_series(1)[0]
        uploads.send([content], description="T1")
        browser = sign_in(uploads.account)
        data = {"files": [(io.BytesIO(content), "IM1")], "description": "FLAIR"}
        answer = browser.post("/studies/new", data=data, headers=JSON).get_json()
        assert any("“T1”" in note for note in answer["notes"])
        assert "keeps its description" in browser.get(answer["location"]).text


class TestSameIdentifierOtherPixels:
    def test_is_refused_and_never_dropped(self, uploads: Uploads) -> None:
        one, other = same_uid_other_pixels()
        with pytest.raises(RefusedUpload, match="different pixels"):
            uploads.send([one, other])
        uploads.send([one])
        with pytest.raises(RefusedUpload, match="different pixels"):
            uploads.send([other])
        with pytest.raises(OtherContent):
            uploads.receive(other)
        assert uploads.count(Image) == 1

    def test_equal_pixels_at_another_place_are_another_slice(self, uploads: Uploads) -> None:
        one = mr_slice(head(0, 2, 128))
        other = mr_slice(head(0, 2, 128), position=(0, 0, 9))
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(other, name, one.get(name))
        other.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        with pytest.raises(RefusedUpload, match="different pixels"):
            uploads.send([as_bytes(one), as_bytes(other)])
        assert uploads.status(as_bytes(one)) == SUCCESS
        assert uploads.status(as_bytes(other)) == DUPLICATE_WITH_OTHER_PIXELS
        one.StudyDescription = "corrected"
        assert uploads.status(as_bytes(one)) == SUCCESS

    def test_series_under_one_identifier_is_refused_and_not_thinned(self, uploads: Uploads) -> None:
        slices = [mr_slice(head(n, 5, 128), position=(0, 0, 5.0 * n)) for n in range(5)]
        for one in slices:
            for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(one, name, slices[0].get(name))
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        with pytest.raises(RefusedUpload):
            uploads.send([as_bytes(one) for one in slices])
        told = [uploads.status(as_bytes(one)) for one in slices]
        assert told == [SUCCESS, *[DUPLICATE_WITH_OTHER_PIXELS] * 4]
        assert uploads.count(Instance) == 1

    def test_is_named_where_the_rest_is_kept(self, uploads: Uploads) -> None:
        one, other = same_uid_other_pixels()
        sent = uploads.send({"A/1": one, "B/1": other}, handling=Handling(forgiving=True))
        assert sent["left_out"] == {"B/1": "other_content"}
        assert uploads.study(sent["ids"][0]).left_out == {"other_content": 1}

    def test_sender_is_told_and_the_log_says_why(
        self, uploads: Uploads, caplog: pytest.LogCaptureFixture
    ) -> None:
        one, other = same_uid_other_pixels()
        assert [uploads.status(one), uploads.status(one)] == [SUCCESS, SUCCESS]
        assert uploads.status(other) == DUPLICATE_WITH_OTHER_PIXELS
        assert "other pixels are kept" in caplog.text
        folder = uploads.app.extensions["settings"].storage_dir
        assert len([path for path in folder.rglob("*") if path.is_file()]) == 1

    def test_same_pixels_compressed_without_loss_are_the_same(self, uploads: Uploads) -> None:
        content = axial_series(1)[0]
        dataset = pydicom.dcmread(io.BytesIO(content))
        dataset.compress(RLELossless, generate_instance_uid=False)
        assert [uploads.status(content), uploads.status(as_bytes(dataset))] == [SUCCESS, SUCCESS]
        assert uploads.count(Instance) == 1


class TestNames:
    def test_files_of_one_name_in_two_folders_are_both_kept(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        one, other = axial_series(2)
        data = {
            # Some browsers send a file's last name alone; the paths come beside it.
            "files": [(io.BytesIO(one), "IM0001"), (io.BytesIO(other), "IM0001")],
            "paths": json.dumps(["SER1/IM0001", "SER2/IM0001"]),
        }
        answer = sign_in(make_user()).post("/studies/new", data=data, headers=JSON).get_json()
        assert (answer["received"], answer["left_out"]) == (2, [])
        assert answer["studies"][0]["images"] == 2

    def test_refused_file_is_called_by_its_path(self, make_user: MakeUser, sign_in: SignIn) -> None:
        data = {
            "files": [(io.BytesIO(picture(1)), "IM0001"), (io.BytesIO(b"no image"), "IM0001")],
            "paths": json.dumps(["SER1/IM0001", "SER2/IM0001"]),
        }
        answer = sign_in(make_user()).post("/studies/new", data=data, headers=JSON).get_json()
        assert set(answer["errors"]) == {"SER2/IM0001"}

    def test_part_s_own_name_may_be_a_path(self, make_user: MakeUser, sign_in: SignIn) -> None:
        files = [(io.BytesIO(b"no image"), "SER1/IM1"), (io.BytesIO(b"nor this"), "SER2/IM1")]
        browser = sign_in(make_user())
        answer = browser.post("/studies/new", data={"files": files}, headers=JSON).get_json()
        assert set(answer["errors"]) == {"SER1/IM1", "SER2/IM1"}

    def test_what_is_left_out_is_named_with_a_reason(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        contents = {
            "SER1/IM1": picture(1),
            "SER1/.DS_Store": b"Mac",
            "DICOMDIR": b"index",
            "readme.txt": b"viewer",
        }
        files = [(io.BytesIO(content), name) for name, content in contents.items()]
        data = {"files": files, "forgiving": "y"}
        answer = sign_in(make_user()).post("/studies/new", data=data, headers=JSON).get_json()
        assert (answer["received"], answer["stored"]) == (4, 1)
        names = {one["name"] for one in answer["left_out"]}
        assert names == {"SER1/.DS_Store", "DICOMDIR", "readme.txt"}
        assert all(one["reason"] for one in answer["left_out"])

    def test_archive_is_stored_though_some_of_its_files_are_left_out(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("slice.png", picture(1))
            archive.writestr("empty.png", b"")
            archive.writestr(".DS_Store", b"Mac")
            archive.writestr("readme.txt", b"viewer")
        packed.seek(0)
        data = {"files": [(packed, "study.zip")]}
        answer = sign_in(make_user()).post("/studies/new", data=data, headers=JSON).get_json()
        assert len(answer["left_out"]) == 3
        assert (answer["received"], answer["stored"]) == (1, 1)

    def test_dicom_file_that_came_twice_is_left_out_by_name(self, uploads: Uploads) -> None:
        content = axial_series(1)[0]
        sent = uploads.send({"A/1": content, "B/1": content})
        assert (sent["images"], sent["left_out"]) == ([1], {"B/1": "duplicate"})

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("SER1/IM0001", "SER1/IM0001"),
            ("SER1\\IM0001", "SER1/IM0001"),
            ("../../etc/passwd", "etc/passwd"),
            ("/home/jane.doe/scan.dcm", "scan.dcm"),
            ("C:\\Users\\jane.doe\\scan.dcm", "scan.dcm"),
            ("a\x00b\u202e.png", "ab.png"),
            ("", "unnamed file"),
        ],
    )
    def test_names_are_relative_and_printable(self, app: Flask, name: str, expected: str) -> None:
        with app.app_context():
            assert shown(name) == expected

    def test_long_path_keeps_its_end(self, app: Flask) -> None:
        with app.app_context():
            found = shown("x" * 300 + "/IM0001")
        assert (len(found), found[0], found[-7:]) == (200, "…", "/IM0001")


class TestIdempotencyKey:
    @pytest.mark.parametrize(
        "change",
        [
            {"handling": Handling(plane="axial")},
            {"handling": Handling(burned_in=BurnedIn.KEEP)},
            {"handling": Handling(forgiving=True)},
            {"choices": Choices(known=Known.ADD)},
            {"choices": Choices(split=Split.YES)},
            {"choices": Choices(code_confirmed=True)},
        ],
    )
    def test_another_way_of_handling_is_another_request(
        self, uploads: Uploads, change: dict[str, Any]
    ) -> None:
        files, key = {"a.png": picture(1)}, Idempotency("k")
        first = uploads.send(files, idempotency=key)
        assert uploads.send(files, idempotency=key)["ids"] == first["ids"]
        with pytest.raises(Conflict, match="Idempotency-Key"):
            uploads.send(files, idempotency=key, **change)

    def test_gives_all_studies_of_a_split_upload_again(self, uploads: Uploads) -> None:
        what = {"choices": Choices(split=Split.YES), "idempotency": Idempotency("k")}
        first = uploads.send(TestSeveralPatients.PICTURES, **what)
        assert len(first["ids"]) == 2
        assert uploads.send(TestSeveralPatients.PICTURES, **what)["ids"] == first["ids"]
        assert uploads.count(Study) == 2
