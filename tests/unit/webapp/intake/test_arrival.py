"""What becomes of uploaded DICOM, NIfTI and archives, up to the queue."""

import io
import uuid
import zipfile
from collections.abc import Callable, Sequence

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless
from sqlalchemy import select

from ml.errors import UnreadableImage
from ml.imaging.pictures import encode_png
from tests.dicoms import IDENTIFIERS, Patient, as_bytes, axial_series, head, mr_slice
from tests.factories import SAMPLE, Account
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.errors import InvalidInput, QuestionableUpload, RefusedUpload
from webapp.inference import analyses
from webapp.intake.arrival import Handling, UploadedFile
from webapp.intake.assembly import assemble_quiet_studies
from webapp.intake.letters import BurnedIn
from webapp.intake.receiving import receive_instance
from webapp.intake.submission import submit_files
from webapp.leases import LeaseLost
from webapp.storage import BlobStore
from webapp.studies.models import Analysis, Image, Instance, Study
from webapp.tenancy import acting_for, unscoped
from webapp.viewer.stack import read_stack

MakeUser = Callable[..., Account]


def submit(
    app: Flask, account: Account, contents: Sequence[bytes], handling: Handling | None = None
) -> uuid.UUID:
    with app.app_context(), acting_for(account.organisation_id):
        files = [UploadedFile(f"{number}.dcm", content) for number, content in enumerate(contents)]
        user = find_user_by_address(account.email)
        return submit_files(actor=user, files=files, handling=handling).study.id


def study(study_id: uuid.UUID) -> Study:
    return db.session.get_one(Study, study_id)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_text(picture: bytes) -> bytes:
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    cv2.putText(pixels, "ROENTGEN W 1947", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    return encode_png(pixels)


def screen(kind: str) -> pydicom.Dataset:
    """An MR image with a name drawn into it, which its header does not own up to."""
    pixels = head(0, 1, 256)
    caption = np.zeros(pixels.shape, np.uint8)
    cv2.putText(caption, "ROENTGEN W 1947", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    drawn = np.maximum(pixels, caption.astype(np.uint16) * 16)
    dataset = mr_slice(drawn)
    if kind == "8 bits":
        small = (drawn // 16).astype(np.uint8)
        dataset.set_pixel_data(small, "MONOCHROME2", 8, generate_instance_uid=False)
        return dataset
    if kind == "no image type":
        del dataset.ImageType
        return dataset
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    if kind == "said to hold none":
        dataset.BurnedInAnnotation = "NO"
    if kind == "one frame of many":
        dataset.NumberOfFrames = 3
        dataset.PixelData = np.stack([pixels, pixels, drawn]).tobytes()
    return dataset


class TestSeries:
    def test_slices_stand_in_the_order_of_the_head_not_of_the_files(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        files = axial_series(7, pixel_spacing=(2.0, 1.0))
        study_id = submit(app, make_user(), [files[i] for i in (3, 0, 6, 1, 5, 2, 4)])
        with app.app_context(), unscoped():
            (series,) = study(study_id).series
            assert (series.plane, series.is_volume, series.slice_spacing) == ("axial", True, 3.0)
            heights = [image.origin[2] for image in series.images if image.origin]
            assert heights == sorted(heights)
            assert len(heights) == 7
            assert {(i.row_spacing, i.column_spacing) for i in series.images} == {(2.0, 1.0)}
            assert study(study_id).analyses[0].images_total == 7

    def test_ratio_of_the_pixels_alone_is_no_length(self, app: Flask, make_user: MakeUser) -> None:
        shared = {"study_uid": "1.2.4", "series_uid": "1.2.4.1"}
        slices = [
            mr_slice(head(n, 3, 128), position=(0, 0, 3.0 * n), number=n + 1, **shared)
            for n in range(3)
        ]
        for one in slices:
            del one.PixelSpacing
            one.PixelAspectRatio = [2, 1]
        study_id = submit(app, make_user(), [as_bytes(one) for one in slices])
        with app.app_context(), unscoped():
            assert {image.row_spacing for image in study(study_id).images} == {None}
            assert {image.pixel_aspect for image in study(study_id).images} == {2.0}
            assert {image.pixel_size for image in study(study_id).images} == {(2.0, 1.0)}
            assert {one.aspect for one in read_stack(study(study_id)).series[0].slices} == {2.0}
            assert not study(study_id).series[0].is_volume

    def test_several_series_are_kept_apart(self, app: Flask, make_user: MakeUser) -> None:
        from pydicom.uid import generate_uid

        study_uid = generate_uid()
        files = axial_series(3, study_uid=study_uid) + axial_series(4, study_uid=study_uid, size=96)
        study_id = submit(app, make_user(), files)
        with app.app_context(), unscoped():
            assert [len(series.images) for series in study(study_id).series] == [3, 4]
            assert [image.position for image in study(study_id).images] == list(range(7))

    def test_missing_and_duplicate_slices_are_counted(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        files = axial_series(8)
        study_id = submit(app, make_user(), [*files[:3], *files[4:], files[1]])
        with app.app_context(), unscoped():
            (series,) = study(study_id).series
            assert (len(series.images), series.missing) == (7, 1)

    def test_files_of_two_patients_or_two_studies_are_refused(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        other = axial_series(2, patient=Patient("Other", "X-2"))
        with pytest.raises(InvalidInput, match="2 studies"):
            submit(app, account, axial_series(2) + axial_series(2))
        from pydicom.uid import generate_uid

        uid = generate_uid()
        other = axial_series(2, patient=Patient("Other", "X-2"), study_uid=uid)
        with pytest.raises(InvalidInput, match="2 patients"):
            submit(app, account, axial_series(2, study_uid=uid) + other)
        with app.app_context(), unscoped():
            assert not db.session.scalars(select(Study)).all()

    def test_nothing_is_kept_of_an_upload_that_is_refused(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        damaged = axial_series(1)[0][:-100]
        with pytest.raises(RefusedUpload):
            submit(app, account, [*axial_series(2), damaged])
        with pytest.raises(InvalidInput, match="2 studies"):
            submit(app, account, axial_series(1) + axial_series(1))
        folder = app.extensions["settings"].storage_dir
        assert not [path for path in folder.rglob("*") if path.is_file()]

    def test_same_study_again_is_the_same_study(self, app: Flask, make_user: MakeUser) -> None:
        account, files = make_user(), axial_series(4)
        first = submit(app, account, files)
        assert submit(app, account, files[::-1]) == first
        with app.app_context(), unscoped():
            assert len(db.session.scalars(select(Analysis)).all()) == 1
            assert len(db.session.scalars(select(Image)).all()) == 4

    def test_slices_that_come_later_join_their_study_in_order(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account, files = make_user(), axial_series(6)
        first = submit(app, account, [files[0], files[2], files[4]])
        with app.app_context(), unscoped():
            before = {image.id for image in study(first).images}
        assert submit(app, account, files) == first
        with app.app_context(), unscoped():
            found = study(first)
            heights = [image.origin[2] for image in found.images if image.origin]
            assert heights == sorted(heights)
            assert len(heights) == 6
            assert before < {image.id for image in found.images}
            assert len(found.series) == 1
            assert len(found.analyses) == 2

    def test_another_organisation_has_the_study_for_itself(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        files = axial_series(2)
        here = submit(app, make_user(organisation="A"), files)
        there = submit(app, make_user(organisation="B"), files)
        with app.app_context(), unscoped():
            assert here != there
            assert study(here).uid != study(there).uid
            assert study(here).patient.code != study(there).patient.code

    def test_studies_of_one_patient_stay_together(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        early = submit(app, account, axial_series(1, study_date="20240101"))
        late = submit(app, account, axial_series(1, study_date="20240201"))
        with app.app_context(), unscoped():
            assert study(early).patient_id == study(late).patient_id
            first, second = study(early).acquired_on, study(late).acquired_on
            assert first is not None
            assert second is not None
            assert (second - first).days == 31
            assert first.isoformat() != "2024-01-01"


class TestOtherFiles:
    def test_nifti_volume_is_cut_in_the_plane_asked_for(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        values = np.random.default_rng(1).integers(0, 900, (40, 50, 60)).astype(np.int16)
        content = nib.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0])).to_bytes()
        for plane, count in (("auto", 60), ("axial", 60), ("coronal", 50), ("sagittal", 40)):
            study_id = submit(app, make_user(), [content], Handling(plane=plane))
            with app.app_context(), unscoped():
                assert len(study(study_id).images) == count

    def test_archive_is_opened_and_what_is_no_image_is_counted(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        files = axial_series(3)
        members = {f"IM{number}": content for number, content in enumerate(files)}
        study_id = submit(app, make_user(), [zipped(**members, README=b"Viewer for this disc")])
        with app.app_context(), unscoped():
            assert len(study(study_id).images) == 3
            assert sum(study(study_id).left_out.values()) == 1

    def test_archive_without_any_image_is_refused(self, app: Flask, make_user: MakeUser) -> None:
        with pytest.raises(RefusedUpload):
            submit(app, make_user(), [zipped(README=b"nothing here")])

    def test_other_modality_is_refused_and_passed_over_where_wished(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        ct = mr_slice(head(0, 1, 128))
        ct.Modality, ct.SOPClassUID = "CT", "1.2.840.10008.5.1.4.1.1.2"
        ct.file_meta.MediaStorageSOPClassUID = ct.SOPClassUID
        files = [as_bytes(ct), *axial_series(1)]
        with pytest.raises(RefusedUpload, match="not an MR image"):
            submit(app, make_user(), files)
        study_id = submit(app, make_user(), files, Handling(forgiving=True))
        with app.app_context(), unscoped():
            assert study(study_id).left_out == {"not_mr": 1}


class TestTextInPixels:
    def test_uploader_is_asked_and_nothing_is_recorded(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        with pytest.raises(QuestionableUpload) as asked:
            submit(app, make_user(), [with_text(SAMPLE.read_bytes())])
        ((left, top, right, bottom),) = asked.value.regions["0.dcm"]
        assert left < 0.05
        assert top < 0.05
        assert right > 0.3
        assert bottom < 0.2
        with app.app_context(), unscoped():
            assert not db.session.scalars(select(Study)).all()

    def test_text_is_blacked_out_where_wished(self, app: Flask, make_user: MakeUser) -> None:
        handling = Handling(burned_in=BurnedIn.MASK)
        study_id = submit(app, make_user(), [with_text(SAMPLE.read_bytes())], handling)
        with app.app_context(), unscoped():
            blobs: BlobStore = app.extensions["blobs"]
            content = blobs.get(study(study_id).images[0].blob_key or "")
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        assert pixels[8:30, 8:200].max() < 60

    def test_browser_gets_the_regions_and_the_page_the_question(
        self,
        app: Flask,
        make_user: MakeUser,
        sign_in: Callable[[Account], FlaskClient],
    ) -> None:
        browser = sign_in(make_user())
        picture = with_text(SAMPLE.read_bytes())
        data = {"files": [(io.BytesIO(picture), "film.png")]}
        answer = browser.post("/studies/new", data=data, headers={"Accept": "application/json"})
        assert answer.status_code == 422
        assert answer.get_json()["code"] == "text-in-pixels"
        assert len(answer.get_json()["regions"]["film.png"]) == 1
        data = {"files": [(io.BytesIO(picture), "film.png")]}
        assert "At least one image contains text" in browser.post("/studies/new", data=data).text

    def test_declared_names_in_a_scanner_s_pixels_are_asked_about(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        dataset = mr_slice(head(0, 1, 128))
        dataset.BurnedInAnnotation = "YES"
        with pytest.raises(QuestionableUpload):
            submit(app, make_user(), [as_bytes(dataset)])

    @pytest.mark.parametrize(
        "kind",
        ["derived", "said to hold none", "8 bits", "no image type", "one frame of many"],
    )
    def test_letters_in_the_pixels_of_every_kind_are_asked_about(
        self, app: Flask, make_user: MakeUser, kind: str
    ) -> None:
        dataset = screen(kind)
        with pytest.raises(QuestionableUpload):
            submit(app, make_user(), [as_bytes(dataset)])
        with pytest.raises(UnreadableImage, match="text in the image"):
            receive(app, make_user(), [as_bytes(dataset)])

    def test_letters_in_colour_are_asked_about_and_not_blacked_out(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        dataset = screen("derived")
        grey = (dataset.pixel_array // 16).astype(np.uint8)
        pixels = np.stack([grey, grey, grey // 4], axis=2)
        dataset.set_pixel_data(pixels, "RGB", 8, generate_instance_uid=False)
        with pytest.raises(QuestionableUpload):
            submit(app, make_user(), [as_bytes(dataset)])
        with pytest.raises(RefusedUpload):
            submit(app, make_user(), [as_bytes(dataset)], Handling(burned_in=BurnedIn.MASK))

    def test_derived_images_without_letters_come_in(self, app: Flask, make_user: MakeUser) -> None:
        dataset = mr_slice(head(0, 1, 256))
        dataset.ImageType = ["DERIVED", "SECONDARY", "MPR"]
        submit(app, make_user(), [as_bytes(dataset)])

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
    def test_text_in_a_scanner_s_pixels_is_blacked_out_in_the_kept_file(
        self, app: Flask, make_user: MakeUser, syntax: UID
    ) -> None:
        pixels = (head(0, 1, 256) // 16).astype(np.uint8)
        cv2.putText(pixels, "ROENTGEN", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
        dataset = mr_slice(head(0, 1, 256))
        dataset.BurnedInAnnotation = "YES"
        dataset.set_pixel_data(pixels, "MONOCHROME2", 8, generate_instance_uid=False)
        if syntax.is_compressed:
            dataset.compress(syntax, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
        handling = Handling(burned_in=BurnedIn.MASK)
        study_id = submit(app, make_user(), [as_bytes(dataset)], handling)
        with app.app_context(), unscoped():
            blobs: BlobStore = app.extensions["blobs"]
            content = blobs.get(study(study_id).images[0].source_key or "")
        kept = pydicom.dcmread(io.BytesIO(content))
        assert kept.BurnedInAnnotation == "NO"
        assert kept.pixel_array[8:26, 10:120].max() < 60
        assert np.array_equal(kept.pixel_array[60:], pixels[60:])


def receive(app: Flask, account: Account, files: Sequence[bytes]) -> None:
    """Take files as an archive sends them, one by one."""
    with app.app_context(), acting_for(account.organisation_id):
        user = find_user_by_address(account.email)
        for content in files:
            receive_instance(content=content, received_by=user)


def assembled(app: Flask) -> list[uuid.UUID]:
    """Studies that a sweep makes or extends of what has come."""
    object.__setattr__(app.extensions["settings"], "quiet_seconds", 0)
    with app.app_context():
        made = assemble_quiet_studies()
        with unscoped():
            return [db.session.get_one(Analysis, one).study_id for one in made]


def lose_blobs(app: Flask, count: int) -> None:
    """As where a disk was restored from an older copy."""
    settings = app.extensions["settings"]
    kept = [path for path in settings.storage_dir.rglob("*") if path.is_file()]
    for path in kept[:count]:
        path.unlink()


class TestFromAnArchive:
    def test_quiet_study_is_put_together_once(
        self, app: Flask, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account, files = make_user(), axial_series(5)
        with app.app_context(), acting_for(account.organisation_id):
            user = find_user_by_address(account.email)
            for content in [*files[::-1], files[0]]:
                receive_instance(content=content, received_by=user)
            assert len(db.session.scalars(select(Instance)).all()) == 5
        with app.app_context():
            assert assemble_quiet_studies() == []  # the last one came just now
            object.__setattr__(app.extensions["settings"], "quiet_seconds", 0)
            (analysis_id,) = assemble_quiet_studies()
            assert assemble_quiet_studies() == []
            with unscoped():
                found = db.session.get_one(Analysis, analysis_id).study
                assert len(found.images) == 5
                assert found.uploaded_by_id == account.id
                assert all(instance.study_id for instance in db.session.scalars(select(Instance)))

    def test_file_that_can_no_longer_be_read_is_counted_once_and_named(
        self, app: Flask, make_user: MakeUser, sign_in: Callable[[Account], FlaskClient]
    ) -> None:
        account = make_user()
        receive(app, account, axial_series(5))
        lose_blobs(app, 2)
        (study_id,) = assembled(app)
        assert assembled(app) == []  # the sweeper does not come back to it for ever
        with app.app_context(), unscoped():
            assert len(study(study_id).images) == 3
            assert study(study_id).left_out == {"unreadable": 2}
        page = sign_in(account).get(f"/studies/{study_id}").text
        assert "2 files were left out:" in page

    def test_study_of_which_nothing_can_be_read_is_rejected_with_the_reason(
        self, app: Flask, make_user: MakeUser, sign_in: Callable[[Account], FlaskClient]
    ) -> None:
        account = make_user()
        receive(app, account, axial_series(2))
        lose_blobs(app, 2)
        (study_id,) = assembled(app)
        assert assembled(app) == []
        page = sign_in(account).get(f"/studies/{study_id}").text
        assert "can no longer be read" in page
        assert sign_in(account).get("/").status_code == 200

    def test_slice_that_lies_beyond_all_measure_keeps_no_other_study_waiting(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account = make_user()
        far = [
            as_bytes(
                mr_slice(head(n, 4, 128), position=(0, 0, where), study_uid="1.2.3", number=n + 1)
            )
            for n, where in enumerate((0.0, 3.0, 6.0, 1e20))
        ]
        receive(app, account, far)
        receive(app, account, axial_series(3))
        assembled(app)
        with app.app_context(), unscoped():
            counts = [len(one.images) for one in db.session.scalars(select(Study))]
            assert 3 in counts
            assert assemble_quiet_studies() == []

    def test_slices_that_come_while_a_worker_is_busy_get_an_analysis_of_all(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        account, files = make_user(), axial_series(6)
        receive(app, account, files[:4])
        (study_id,) = assembled(app)
        with app.app_context():
            with unscoped():
                first = study(study_id).current_analysis_id
            assert first is not None
            claim = analyses.claim_analysis(first)
        receive(app, account, files[4:])
        assert assembled(app) == [study_id]
        with app.app_context(), unscoped():
            current = study(study_id).current_analysis
            assert current is not None
            assert (current.number, current.images_total) == (2, 6)
            assert [one.status for one in study(study_id).analyses] == ["superseded", "queued"]
            assert claim is not None
            with pytest.raises(LeaseLost):
                analyses.record_progress(claim, images_done=1)

    def test_nothing_that_names_the_patient_is_in_the_database_or_the_files(
        self, app: Flask, make_user: MakeUser, caplog: pytest.LogCaptureFixture
    ) -> None:
        study_id = submit(app, make_user(), axial_series(3))
        with app.app_context(), unscoped():
            rows = [
                str(row)
                for table in db.metadata.sorted_tables
                for row in db.session.execute(select(table)).all()
            ]
            assert study(study_id).patient.code.startswith("P-")
        settings = app.extensions["settings"]
        kept = [path.read_bytes() for path in settings.storage_dir.rglob("*") if path.is_file()]
        assert len(kept) == 3
        for identifier in IDENTIFIERS:
            assert identifier not in "\n".join(rows)
            assert identifier not in caplog.text
            assert not any(identifier.encode() in content for content in kept)
