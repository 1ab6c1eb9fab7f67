"""Studies are put right: their data, their slices, and that they are here at all."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import String, func, select

from config import Settings
from tests.dicoms import axial_series
from tests.factories import (
    SAMPLE,
    Account,
    make_account,
    make_api_token,
    make_series_study,
    make_study,
)
from webapp.accounts.models import Role, User
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.corrections import removal
from webapp.corrections.moving import NewStudy, move_images
from webapp.corrections.operations import (
    Correction,
    Deletion,
    DeletionReason,
    correct_study,
    delete_study,
    extent_of,
    version_of,
)
from webapp.database import db, now
from webapp.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
    QuestionableCode,
)
from webapp.extensions import current_blobs
from webapp.inference import analyses, claims
from webapp.intake.arrival import UploadedFile
from webapp.intake.assembly import assemble_quiet_studies
from webapp.intake.receiving import receive_instance
from webapp.intake.submission import Idempotency, submit_files
from webapp.leases import LeaseLost
from webapp.models_admin.operations import register_model
from webapp.pacs.models import Delivery, PacsNode, Sending
from webapp.review.models import Assessment, Verdict
from webapp.review.operations import Opinion, Subject, record_assessments
from webapp.storage import FolderStore, MissingBlob
from webapp.studies.models import (
    Analysis,
    IdempotencyKey,
    Image,
    Instance,
    Patient,
    Prediction,
    Priority,
    Status,
    Study,
)
from webapp.studies.queries import find_study
from webapp.tenancy import acting_for, unscoped

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
TEST = Deletion(DeletionReason.TEST)


@contextmanager
def acting(app: Flask, account: Account) -> Iterator[User]:
    with app.app_context(), acting_for(account.organisation_id):
        yield find_user_by_address(account.email)


def events(action: str) -> list[AuditEvent]:
    found = select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.created_at)
    return list(db.session.scalars(found))


def dicom_study(actor: User, contents: list[bytes], **values: Any) -> Study:
    files = [UploadedFile(f"{number}.dcm", content) for number, content in enumerate(contents)]
    return submit_files(actor=actor, files=files, **values).study


def dicomweb(app: Flask, account: Account) -> Callable[[str], Any]:
    _id, token = make_api_token(app, account, uuid.uuid4().hex)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/dicom+json"}

    def ask(path: str) -> Any:
        answer = app.test_client().get(f"/dicomweb{path}", headers=headers)
        return answer.get_json(force=True) if answer.status_code == 200 else answer.status_code

    return ask


def values_of(rows: list[dict[str, Any]], tag: str) -> set[Any]:
    return {one[tag]["Value"][0] for one in rows}


def uids_of(rows: list[dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    """Patient, study, series and instance as DICOMweb tells them."""
    tags = ("00100020", "0020000D", "0020000E", "00080018")
    return {tuple(one[tag]["Value"][0] for tag in tags) for one in rows}  # type: ignore[misc]


class TestCorrecting:
    def test_code_description_and_priority_change_and_the_audit_trail_says_which_not_what(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        study = make_study(app, account)
        colleague = make_account(app, organisation="Hospital A")
        with acting(app, colleague) as actor:
            correct_study(
                actor=actor,
                study_id=study.study_id,
                correction=Correction("K-7Q", "axial T2", Priority.URGENT),
            )
            found = find_study(study.study_id)
            assert (found.patient.code, found.description) == ("K-7Q", "axial T2")
            assert found.priority is Priority.URGENT
            (event,) = events("correct_study")
            assert event.details == {"fields": ["description", "patient_code", "priority"]}
            assert event.actor_id == actor.id

    def test_a_patient_without_studies_is_forgotten_and_one_with_others_stays(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        first, second = (make_series_study(app, account, slices=3, code="S-1") for _n in range(2))
        with acting(app, account) as actor:
            correct_study(actor=actor, study_id=first.study_id, correction=Correction("S-2"))
            assert set(db.session.scalars(select(Patient.code))) == {"S-1", "S-2"}
            correct_study(actor=actor, study_id=second.study_id, correction=Correction("S-2"))
            assert set(db.session.scalars(select(Patient.code))) == {"S-2"}

    def test_nothing_new_leaves_no_trace(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=3)
        with acting(app, account) as actor:
            correct_study(actor=actor, study_id=study.study_id, correction=Correction(" S-1 ", ""))
            assert events("correct_study") == []

    @pytest.mark.parametrize("code", ["Jane Doe", "12.03.1961", "Roentgen_19470611"])
    def test_a_code_that_names_somebody_is_questioned(
        self, app: Flask, make_user: MakeUser, code: str
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=3)
        with acting(app, account) as actor:
            with pytest.raises(QuestionableCode):
                correct_study(actor=actor, study_id=study.study_id, correction=Correction(code))
            sure = Correction(code, code_confirmed=True)
            assert (
                correct_study(actor=actor, study_id=study.study_id, correction=sure).patient.code
                == code
            )

    def test_a_newer_change_is_said_and_neither_is_lost(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=3)
        with acting(app, account):
            seen = version_of(find_study(study.study_id))
        page = f"/studies/{study.study_id}/correct"
        browser = sign_in(account)
        typed = {"patient_code": "S-1", "priority": "routine", "seen": seen}
        assert browser.post(page, data={**typed, "description": "by Ada"}).status_code == 302
        answer = browser.post(page, data={**typed, "description": "by Bob"})
        assert answer.status_code == 409
        assert "by Ada" in answer.text
        assert 'value="by Bob"' in answer.text
        with acting(app, account):
            assert find_study(study.study_id).description == "by Ada"
            seen = version_of(find_study(study.study_id))
        assert f'value="{seen}"' in answer.text
        again = browser.post(page, data={**typed, "description": "by Bob", "seen": seen})
        assert again.status_code == 302

    def test_the_api_corrects_too(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=3)
        _id, token = make_api_token(app, account)
        headers = {"Authorization": f"Bearer {token}"}
        client, url = app.test_client(), f"/api/v1/studies/{study.study_id}"
        version = client.get(url, headers=headers).get_json()["version"]
        changed = client.patch(url, headers=headers, json={"patient_code": "S-9"}).get_json()
        assert (changed["patient_code"], changed["priority"]) == ("S-9", "routine")
        late = client.patch(url, headers=headers, json={"description": "x", "version": version})
        assert late.status_code == 409
        named = client.patch(url, headers=headers, json={"patient_code": "Jane Doe"})
        assert (named.status_code, named.get_json()["code"]) == (422, "patient-code-questioned")


class TestMoving:
    def test_slices_go_to_a_new_study_and_both_are_analysed_anew(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=8)
        with acting(app, account) as actor:
            moved = move_images(
                actor=actor,
                study_id=study.study_id,
                image_ids=study.image_ids[5:],
                target=NewStudy("S-2", "the others", Priority.URGENT),
            )
            source, target = find_study(moved.source_id), find_study(moved.target_id)
            assert [image.id for image in source.images] == study.image_ids[:5]
            assert [image.id for image in target.images] == study.image_ids[5:]
            assert [image.position for image in target.images] == [0, 1, 2]
            assert (target.patient.code, target.description) == ("S-2", "the others")
            assert target.uploaded_by_id == source.uploaded_by_id
            for one in (source, target):
                assert one.status is Status.QUEUED
                assert one.current_analysis is not None
                assert one.current_analysis.image_ids == [str(image.id) for image in one.images]
                assert one.series[0].is_volume
            assert [event.details["images"] for event in events("move_images")] == [3]
            assert "S-2" not in str([event.details for event in events("receive_images")])

    def test_a_gap_is_noticed_where_slices_without_headers_are_taken_out(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=8)
        with acting(app, account) as actor:
            move_images(
                actor=actor,
                study_id=study.study_id,
                image_ids=study.image_ids[3:5],
                target=NewStudy("S-2"),
            )
            (series,) = find_study(study.study_id).series
            assert (series.is_volume, series.missing, series.slice_spacing) == (False, 2, 5.0)

    def test_what_was_said_before_stays_with_the_earlier_analysis(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=5)
        with acting(app, account) as actor:
            told = study.image_ids[2]
            record_assessments(
                actor=actor,
                subject=Subject(study.study_id, (told,)),
                opinion=Opinion(Verdict.AGREE),
            )
            moved = move_images(
                actor=actor, study_id=study.study_id, image_ids=[told], target=NewStudy("S-2")
            )
            (prediction,) = db.session.scalars(
                select(Prediction).where(Prediction.image_id == told)
            )
            assert prediction.analysis.study_id == study.study_id
            assert db.session.scalars(select(Assessment)).one().prediction_id == prediction.id
            image = find_study(moved.target_id).images[0]
            assert image.prediction is None
            assert extent_of(find_study(study.study_id)).assessments_elsewhere == 1

    def test_a_worker_that_is_at_it_loses_its_lease(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        with acting(app, account) as actor:
            files = [UploadedFile(f"{n}.jpg", SAMPLE.read_bytes()) for n in range(2)]
            study = submit_files(actor=actor, files=files).study
            claim = analyses.claim_analysis(study.analyses[0].id)
            assert claim is not None
            image_ids = [study.images[1].id]
            move_images(actor=actor, study_id=study.id, image_ids=image_ids, target=NewStudy("S-2"))
            with pytest.raises(LeaseLost):
                analyses.record_progress(claim, images_done=1)

    def test_an_emptied_study_says_so_and_is_offered_for_deletion(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=3)
        other = make_series_study(app, account, slices=3, code="S-2")
        browser = sign_in(account)
        answer = browser.post(
            f"/studies/{study.study_id}/move",
            data={
                "where": "existing",
                "target": str(other.study_id),
                "series": str(study.series_id),
            },
        )
        assert answer.location == f"/studies/{study.study_id}"
        page = browser.get(answer.location)
        assert "All images of this study were moved" in page.text
        assert f"/studies/{study.study_id}/delete" in page.text
        for path in ("", "?image=0", "/result", "/stack", "/images", "/move", "/correct"):
            assert browser.get(f"/studies/{study.study_id}{path}").status_code == 200, path
        assert browser.get("/").status_code == 200
        with acting(app, account):
            assert len(find_study(other.study_id).images) == 6
            assert find_study(study.study_id).status is Status.REJECTED

    def test_ranges_and_single_slices_can_be_chosen_without_script(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=8)
        answer = sign_in(account).post(
            f"/studies/{study.study_id}/move",
            data={
                "where": "new",
                "patient_code": "S-2",
                "priority": "routine",
                f"from-{study.series_id}": "2",
                f"to-{study.series_id}": "4",
                "image": [str(study.image_ids[7])],
            },
        )
        with acting(app, account):
            target = find_study(uuid.UUID(answer.location.rsplit("/", 1)[1]))
            wanted = [*study.image_ids[1:4], study.image_ids[7]]
            assert [image.id for image in target.images] == wanted

    def test_slices_that_are_no_longer_there_are_not_moved(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=4)
        with acting(app, account) as actor:

            def move(target: uuid.UUID | NewStudy, *ids: uuid.UUID) -> None:
                move_images(actor=actor, study_id=study.study_id, image_ids=ids, target=target)

            move(NewStudy("S-2"), study.image_ids[0])
            with pytest.raises(Conflict):
                move(NewStudy("S-3"), *study.image_ids[:2])
            with pytest.raises(InvalidInput):
                move(NewStudy("S-3"))
            with pytest.raises(InvalidInput):
                move(study.study_id, study.image_ids[1])
            with pytest.raises(NotFound):
                move(uuid.uuid4(), study.image_ids[1])
            with pytest.raises(QuestionableCode):
                move(NewStudy("Jane Doe"), study.image_ids[1])
            db.session.rollback()
            assert len(find_study(study.study_id).images) == 3

    def test_dicomweb_and_files_agree_after_instances_have_moved(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        ask = dicomweb(app, account)
        with acting(app, account) as actor:
            study = dicom_study(actor, axial_series(6))
            uid, before = study.uid, [image.id for image in study.images]
            moved = move_images(
                actor=actor, study_id=study.id, image_ids=before[:2], target=NewStudy("K-2")
            )
            target = find_study(moved.target_id)
            assert [image.id for image in target.images] == before[:2]
            assert find_study(study.id).series[0].is_volume
        assert target.uid == f"2.25.{moved.target_id.int}"
        for study_uid, count in ((uid, 4), (target.uid, 2)):
            found = ask(f"/studies/{study_uid}/instances?includefield=all")
            header = ask(f"/studies/{study_uid}/metadata")
            assert len(found) == count
            assert uids_of(found) == uids_of(header)
            assert values_of(header, "0020000D") == {study_uid}
        assert values_of(ask(f"/studies/{target.uid}/metadata"), "00100020") == {"K-2"}
        with acting(app, account), unscoped():
            for instance in db.session.scalars(select(Instance)):
                dataset = pydicom.dcmread(_file(current_blobs().get(instance.blob_key)))
                assert dataset.SOPInstanceUID == instance.uid
                assert dataset.StudyInstanceUID == instance.study_uid
                assert dataset.pixel_array.max() > 0
            sources = set(db.session.scalars(select(Image.source_key)))
            assert sources == set(db.session.scalars(select(Instance.blob_key)))

    def test_what_was_moved_and_moved_back_is_as_before(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        ask = dicomweb(app, account)
        with acting(app, account) as actor:
            study = dicom_study(actor, axial_series(5))
            uid, ids = study.uid, [image.id for image in study.images]
        before = uids_of(ask(f"/studies/{uid}/metadata"))
        with acting(app, account) as actor:
            there = move_images(
                actor=actor, study_id=study.id, image_ids=ids[1:3], target=NewStudy("K-2")
            )
            move_images(actor=actor, study_id=there.target_id, image_ids=ids[1:3], target=study.id)
            (series,) = find_study(study.id).series
            assert [image.id for image in series.images] == ids
            assert series.is_volume
        assert uids_of(ask(f"/studies/{uid}/metadata")) == before

    def test_instances_join_a_dicom_study_of_another_patient_as_its_own(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        ask = dicomweb(app, account)
        with acting(app, account) as actor:
            right = dicom_study(actor, axial_series(3))
            wrong = dicom_study(actor, axial_series(4), patient_code="K-2")
            ids = [image.id for image in wrong.images]
            move_images(actor=actor, study_id=wrong.id, image_ids=ids[:3], target=right.id)
            right_uid = find_study(right.id).uid
        rows = ask(f"/studies/{right_uid}/metadata")
        assert len(rows) == 6
        assert len(values_of(rows, "00100020")) == len(values_of(rows, "00080020")) == 1
        assert len(values_of(rows, "0020000E")) == 2

    def test_instances_that_join_pictures_keep_their_date_in_every_answer(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        ask = dicomweb(app, account)
        pictures = make_study(app, account)
        with acting(app, account) as actor:
            study = dicom_study(actor, axial_series(3))
            ids = [image.id for image in study.images]
            move_images(actor=actor, study_id=study.id, image_ids=ids, target=pictures.study_id)
            target = find_study(pictures.study_id)
            assert len(target.images) == 4
            uid = target.uid
        told = ask(f"/studies/{uid}/instances")
        header = ask(f"/studies/{uid}/metadata")
        assert values_of(told, "00080020") == values_of(header, "00080020")
        assert values_of(told, "00100020") == values_of(header, "00100020")

    def test_a_moved_instance_that_is_sent_again_stays_where_it_is(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        with acting(app, account) as actor:
            contents = axial_series(3)
            study = dicom_study(actor, contents)
            ids = [image.id for image in study.images]
            moved = move_images(
                actor=actor, study_id=study.id, image_ids=ids, target=NewStudy("K-2")
            )
            delete_study(actor=actor, study_id=study.id, deletion=TEST)
            assert receive_instance(content=contents[0], received_by=actor) is None
            assert assemble_quiet_studies() == []
            again = dicom_study(actor, contents)
            assert again.id == moved.target_id
            assert [image.id for image in find_study(again.id).images] == ids

    def test_copies_that_were_left_out_go_with_the_slice_that_they_show(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        with acting(app, account) as actor:
            contents = axial_series(5)
            copy = pydicom.dcmread(_file(contents[1]))
            copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = (
                pydicom.uid.generate_uid()
            )
            study = dicom_study(actor, [*contents, _bytes(copy)])
            assert len(study.images) == 5
            moved = move_images(
                actor=actor,
                study_id=study.id,
                image_ids=[image.id for image in study.images[:3]],
                target=NewStudy("K-2"),
            )
            held = select(func.count(Instance.id)).where(Instance.study_id == moved.target_id)
            assert db.session.scalar(held) == 4
            assert len(find_study(study.id).images) == 2
            (series,) = find_study(moved.target_id).series
            assert (len(series.images), series.duplicates) == (3, 1)


def _file(content: bytes) -> Any:
    return pydicom.filebase.DicomBytesIO(content)


def _bytes(dataset: pydicom.Dataset) -> bytes:
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return bytes(buffer.getvalue())


def kept_files(settings: Settings) -> set[str]:
    folder = settings.storage_dir
    return {path.parent.name + path.name for path in folder.rglob("*") if path.is_file()}


class TestDeleting:
    def test_everything_goes_and_the_audit_trail_keeps_reason_and_counts(
        self, app: Flask, settings: Settings, make_user: MakeUser
    ) -> None:
        account = make_user()
        with acting(app, account) as actor:
            study = dicom_study(
                actor, axial_series(3), patient_code="K-77", idempotency=Idempotency("once")
            )
            study_id = study.id
            answered(study)
            record_assessments(
                actor=actor,
                subject=Subject(study_id, (study.images[0].id,)),
                opinion=Opinion(Verdict.UNSURE),
            )
            queue_delivery(actor, study)
            delete_study(
                actor=actor, study_id=study_id, deletion=Deletion(DeletionReason.WRONG_PATIENT)
            )
            for model in (
                Study, Patient, Image, Instance, Analysis, Prediction, Assessment, Delivery,
                IdempotencyKey,
            ):  # fmt: skip
                assert db.session.scalar(select(func.count()).select_from(model)) == 0, model
            (event,) = events("delete_study")
            assert event.subject_id == study_id
            assert event.details == {
                "reason": "wrong_patient",
                "images": 3,
                "analyses": 1,
                "assessments": 1,
                "deliveries": 1,
            }
        assert kept_files(settings) == set()

    def test_content_that_another_organisation_holds_stays_readable(
        self, app: Flask, settings: Settings, make_user: MakeUser
    ) -> None:
        account = make_user()
        mine = make_study(app, account)
        stranger = make_account(app, organisation="Hospital B")
        theirs = make_study(app, stranger)
        with acting(app, account) as actor:
            delete_study(actor=actor, study_id=mine.study_id, deletion=TEST)
        with acting(app, stranger) as actor:
            key = db.session.get_one(Image, theirs.image_id).blob_key
            assert current_blobs().get(key or "")
            delete_study(actor=actor, study_id=theirs.study_id, deletion=TEST)
            with pytest.raises(MissingBlob):
                current_blobs().get(key or "")
        assert kept_files(settings) == set()

    def test_a_deleted_study_is_not_found_anywhere(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        ask = dicomweb(app, account)
        with acting(app, account) as actor:
            study = dicom_study(actor, axial_series(3))
            uid, study_id, image_id = study.uid, study.id, study.images[0].id
        browser = sign_in(account)
        page = f"/studies/{study_id}"
        seen = {"reason": "test", "sure": "y"}
        assert browser.post(f"{page}/delete", data=seen).location == "/"
        for path in ("", "/result", "/stack", "/images", "/correct", "/move", "/delete"):
            assert browser.get(page + path).status_code == 404, path
        for path in ("/report.pdf", "/report.dcm", "/report.fhir.json", "/deliveries"):
            assert browser.get(page + path).status_code == 404, path
        assert browser.get(f"/images/{image_id}/pixels").status_code == 404
        assert ask(f"/studies/{uid}/metadata") == 404
        assert ask(f"/studies?StudyInstanceUID={uid}") == 204
        _id, token = make_api_token(app, account)
        headers = {"Authorization": f"Bearer {token}"}
        client = app.test_client()
        for method in (client.get, client.patch, client.delete):
            answer = method(f"/api/v1{page}", headers=headers, json={"reason": "test"} if (
                method == client.delete
            ) else {})  # fmt: skip
            assert answer.status_code == 404

    def test_instances_that_are_still_arriving_do_not_bring_it_back(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        with acting(app, account) as actor:
            contents = axial_series(4)
            study = dicom_study(actor, contents[:3])
            assert receive_instance(content=contents[3], received_by=actor) is not None
            delete_study(actor=actor, study_id=study.id, deletion=TEST)
            assert db.session.scalar(select(func.count(Instance.id))) == 0

    def test_a_worker_that_is_at_it_finds_nothing_to_write_to(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        with acting(app, account) as actor:
            study = dicom_study(actor, axial_series(3))
            claim = analyses.claim_analysis(study.analyses[0].id)
            assert claim is not None
            delete_study(actor=actor, study_id=study.id, deletion=TEST)
            with pytest.raises(LeaseLost):
                analyses.record_progress(claim, images_done=1)
            with pytest.raises(LeaseLost):
                analyses.fail_analysis(claim, reason="internal")

    def test_only_the_uploader_reviewers_and_administrators_may(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=3)
        colleague = make_account(app, organisation="Hospital A")
        with acting(app, colleague) as actor, pytest.raises(NotAllowed):
            delete_study(actor=actor, study_id=study.study_id, deletion=TEST)
        browser = sign_in(colleague)
        assert browser.get(f"/studies/{study.study_id}/delete").status_code == 403
        assert "/delete" not in browser.get(f"/studies/{study.study_id}/correct").text
        reviewer = make_account(app, Role.REVIEWER, organisation="Hospital A")
        with acting(app, reviewer) as actor:
            delete_study(actor=actor, study_id=study.study_id, deletion=TEST)

    def test_the_second_look_counts_and_asks_for_reason_and_tick(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=5)
        browser, url = sign_in(account), f"/studies/{study.study_id}/delete"
        page = browser.get(url)
        assert "5 slices" in page.text
        assert browser.post(url, data={"sure": "y"}).status_code == 422
        assert browser.post(url, data={"reason": "test"}).status_code == 422
        old = {"reason": "test", "sure": "y", "seen": str(uuid.uuid4())}
        assert browser.post(url, data=old).status_code == 409
        assert browser.get(url).status_code == 200

    @pytest.mark.parametrize("note", ["", "it is S-1", "born 12.03.1961", "number 4711", "x" * 121])
    def test_words_of_ones_own_hold_nothing_about_the_patient(
        self, app: Flask, make_user: MakeUser, note: str
    ) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=3)
        with acting(app, account) as actor:
            with pytest.raises(InvalidInput):
                delete_study(
                    actor=actor,
                    study_id=study.study_id,
                    deletion=Deletion(DeletionReason.OTHER, note),
                )
            db.session.rollback()
            fine = Deletion(DeletionReason.OTHER, "a scan of a melon")
            delete_study(actor=actor, study_id=study.study_id, deletion=fine)
            assert events("delete_study")[0].details["note"] == "a scan of a melon"

    def test_the_api_wants_a_reason(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        study = make_series_study(app, account, slices=3)
        _id, token = make_api_token(app, account)
        client, url = app.test_client(), f"/api/v1/studies/{study.study_id}"
        headers = {"Authorization": f"Bearer {token}"}
        assert client.delete(url, headers=headers, json={}).status_code == 422
        assert client.delete(url, headers=headers, json={"reason": "bored"}).status_code == 422
        done = client.delete(url, headers=headers, json={"reason": "uploaded_twice"})
        assert (done.status_code, done.data) == (204, b"")


def answered(study: Study) -> None:
    """End the study's analysis, every slice with a heatmap."""
    assert study.current_analysis is not None
    claim = analyses.claim_analysis(study.current_analysis.id)
    assert claim is not None
    blobs = current_blobs()
    answers = [
        claims.NewPrediction(
            image_id=image.id,
            label="glioma",
            probabilities={"glioma": 1.0, "meningioma": 0.0, "no_tumor": 0.0, "pituitary": 0.0},
            prediction_set=["glioma"],
            in_distribution=True,
            ood_score=0.0,
            quality=[],
            heatmap_key=blobs.put(str(image.id).encode()),
        )
        for image in claim.images
    ]
    model = register_model(name="test", sha256="1" * 64, card={})
    analyses.finish_analysis(claim, answers=answers, problems={}, model=model, model_ms=1.0)
    db.session.expire_all()


def queue_delivery(actor: User, study: Study) -> None:
    node = PacsNode(
        name="PACS", ae_title="PACS", address="192.0.2.1", sending=Sending.DIMSE,
        registered_by_id=actor.id,
    )  # fmt: skip
    db.session.add(node)
    db.session.flush()
    db.session.add(Delivery(study_id=study.id, node_id=node.id, next_try_at=now()))
    db.session.commit()


class TestSweeping:
    def test_every_column_that_names_a_blob_is_asked(self) -> None:
        not_blobs = {"instance.pixels_key"}
        named = {
            f"{table.name}.{column.name}"
            for table in db.metadata.tables.values()
            for column in table.columns
            if column.name.endswith("_key") and isinstance(column.type, String)
        }
        asked = {f"{one.table.name}.{one.name}" for one in removal.NAMES}  # type: ignore[attr-defined]
        assert named - not_blobs == asked

    def test_what_a_crash_left_goes_and_what_is_fresh_or_named_stays(
        self, app: Flask, settings: Settings, make_user: MakeUser
    ) -> None:
        account = make_user()
        study = make_study(app, account)
        with acting(app, account):
            blobs = current_blobs()
            named = db.session.get_one(Image, study.image_id).blob_key or ""
            old, fresh = blobs.put(b"of a crash"), blobs.put(b"of an upload")
            partial = path_of(settings, old).parent / ".partial-of-a-killed-process"
            half_done = path_of(settings, old).parent / ".partial-of-an-upload"
            for path in (partial, half_done):
                path.write_bytes(b"half")
            for path in (path_of(settings, old), path_of(settings, named), partial):
                grow_old(path)
            db.session.commit()
            assert removal.sweep_blobs() == 2
            assert blobs.get(named)
            assert blobs.get(fresh)
            assert half_done.exists()
            assert not partial.exists()
            with pytest.raises(MissingBlob):
                blobs.get(old)

    def test_nothing_is_removed_while_content_is_being_kept(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        with acting(app, account) as actor:
            study = submit_files(
                actor=actor, files=[UploadedFile("1.jpg", SAMPLE.read_bytes())]
            ).study
            key = study.images[0].blob_key or ""
            with current_blobs().in_use():
                delete_study(actor=actor, study_id=study.id, deletion=TEST)
            assert current_blobs().get(key)
            assert removal.sweep_blobs(youngest=timedelta(seconds=-1)) == 1

    def test_what_was_kept_is_safe_until_its_row_is_there(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        with acting(app, account):
            key = current_blobs().put(b"no row names it yet")
            other = FolderStore(app.extensions["settings"].storage_dir)
            with other.alone() as alone:
                assert not alone
            assert removal.remove_unnamed([key]) == 0
            db.session.commit()
            with other.alone() as alone:
                assert alone
            assert removal.remove_unnamed([key]) == 1


def path_of(settings: Settings, key: str) -> Path:
    return settings.storage_dir / key[:2] / key[2:]


def grow_old(path: Path) -> None:
    moment = time.time() - 2 * 24 * 3600
    os.utime(path, (moment, moment))
