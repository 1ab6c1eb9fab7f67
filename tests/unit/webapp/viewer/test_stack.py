"""What the viewer is told, and the volumes that it shows."""

import gzip
import time
import uuid
from collections.abc import Callable
from datetime import date

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import Account, SeriesStudyIds, make_series_study, phantom
from tests.statements import sent_to_database
from webapp.database import db
from webapp.studies.models import Image, Prediction, Series, Status, Study
from webapp.studies.queries import find_study
from webapp.tenancy import acting_for
from webapp.viewer.look import comparable_studies, look_at
from webapp.viewer.series import find_series
from webapp.viewer.stack import read_stack

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]


@pytest.fixture
def account(make_user: MakeUser) -> Account:
    return make_user()


@pytest.fixture
def browser(account: Account, sign_in: SignIn) -> FlaskClient:
    return sign_in(account)


def read_volume(content: bytes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Values and affine of a NIfTI file."""
    volume = nibabel.Nifti1Image.from_bytes(content)
    return np.asarray(volume.get_fdata()), np.asarray(volume.affine)


class TestLook:
    def test_study_that_is_done_starts_with_its_key_slice(
        self, app: Flask, account: Account
    ) -> None:
        ids = make_series_study(app, account, slices=30)
        with app.app_context(), acting_for(account.organisation_id):
            look = look_at(find_study(ids.study_id))
            assert look.selected is not None
            assert look.selected.position == look.keys[0].position == 14
            assert [key.label for key in look.keys] == ["glioma"] * 3
            assert (look.total, look.images) == (30, [])
            assert look.shown is not None
            assert look.shown.name == "Axial MR"

    def test_study_that_waits_starts_in_the_middle(self, app: Flask, account: Account) -> None:
        ids = make_series_study(app, account, slices=9, status=Status.QUEUED, decoded=False)
        with app.app_context(), acting_for(account.organisation_id):
            study = find_study(ids.study_id)
            look = look_at(study)
            assert look.selected is not None
            assert (look.selected.position, look.keys) == (4, [])
            for wrong in (-1, 9):
                assert look_at(study, position=wrong).selected == look.selected

    def test_single_pictures_in_a_row_are_one_stack(self, app: Flask, account: Account) -> None:
        ids = make_series_study(app, account, slices=3)
        with app.app_context(), acting_for(account.organisation_id):
            study = find_study(ids.study_id)
            for number in (1, 2):
                series = Series(study_id=study.id, position=number)
                picture = Image(
                    study_id=study.id,
                    position=2 + number,
                    source_format="PNG",
                    width=64,
                    height=64,
                )
                series.images = [picture]
                db.session.add(series)
            db.session.commit()
            look = look_at(study)
            assert [(one.first, one.count) for one in look.series] == [(0, 3), (3, 2)]
            told = read_stack(study).series
            assert [len(one.slices) for one in told] == [3, 2]
            assert not told[1].is_volume
            assert told[0].edges is not None
            assert told[1].edges is None


class TestSpeed:
    @pytest.mark.parametrize("status", [Status.RUNNING, Status.DONE])
    def test_polled_part_asks_as_little_for_400_slices_as_for_30(
        self, app: Flask, account: Account, browser: FlaskClient, status: Status
    ) -> None:
        asked = {}
        for slices in (30, 400):
            ids = make_series_study(app, account, slices=slices, status=status)
            address = f"/studies/{ids.study_id}/result?image=20"
            browser.get(address)
            with sent_to_database(app) as found:
                started = time.perf_counter()
                answer = browser.get(address)
            took = time.perf_counter() - started
            print(f"\n{slices} slices, {status}: {took * 1000:.1f} ms, {len(answer.data)} bytes")
            assert len(answer.data) < 16_000
            asked[slices] = len(found)
        assert asked[400] == asked[30]


class TestPage:
    def test_running_study_tells_how_far_it_is(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=60, status=Status.RUNNING, decoded=False)
        page = browser.get(f"/studies/{ids.study_id}").text
        assert "20 of 60 slices analysed" in page
        assert '<progress max="60" value="20"' in page
        assert "Still being processed" in page
        assert f"/images/{ids.image_ids[29]}/pixels" not in page

    def test_answer_for_the_study_names_share_keys_and_what_was_left_out(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=40)
        page = browser.get(f"/studies/{ids.study_id}").text
        assert "The study as a whole" in page
        assert "95% of the slices resemble the brain MRI" in page
        assert "2 files were left out:" in page
        assert f'href="/studies/{ids.study_id}?image=20"' in page
        assert page.count("/pixels") < 6  # no forty thumbnails

    def test_list_of_all_images_is_a_part_or_a_page(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=40)
        address = f"/studies/{ids.study_id}/images"
        part = browser.get(address, headers={"HX-Request": "true"}).text
        assert part.count("<li>") == 40
        assert "<html" not in part
        assert browser.get(address).text.count("<li><a id=") == 40

    def test_missing_and_doubled_slices_are_told(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=12)
        with app.app_context(), acting_for(account.organisation_id):
            series = find_series(ids.series_id)
            series.missing, series.duplicates = 1, 2
            db.session.commit()
        page = browser.get(f"/studies/{ids.study_id}").text
        assert "1 slice of this series is missing." in page
        assert "2 files repeated a slice and were left out." in page

    def test_same_patients_other_studies_are_offered_latest_first(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        first = make_series_study(app, account, code="C", acquired_on=date(2023, 1, 1))
        last = make_series_study(app, account, code="C", acquired_on=date(2025, 1, 1))
        this = make_series_study(app, account, code="C", acquired_on=date(2024, 1, 1))
        other_patient = make_series_study(app, account, code="D")
        running = make_series_study(app, account, code="C", status=Status.RUNNING)
        page = browser.get(f"/studies/{this.study_id}").text
        offered = [page.find(f'<option value="{one.study_id}"') for one in (last, first)]
        assert 0 < offered[0] < offered[1]
        for one in (other_patient, running):
            assert str(one.study_id) not in page
        with app.app_context(), acting_for(account.organisation_id):
            found = comparable_studies(find_study(this.study_id))
            assert [one.is_earlier for one in found] == [False, True]


class TestStack:
    def test_says_of_each_slice_what_the_viewer_needs(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=9, window=(300.0, 600.0))
        told = browser.get(f"/studies/{ids.study_id}/stack").get_json()
        assert told["status"] == "done"
        (series,) = told["series"]
        assert (series["is_volume"], series["normal"], series["spacing"]) == (True, [0, 0, 1], 5)
        assert series["edges"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
        assert [one["id"] for one in series["slices"]] == [str(one) for one in ids.image_ids]
        key = series["slices"][4]
        assert key["label"] == "Glioma"
        assert key["tumor"] == pytest.approx(0.976, abs=0.01)
        assert (key["spacing"], key["window"]) == ([1.2, 1.0], [300.0, 600.0])
        assert (key["scale"], key["offset"]) == (2.0, -10.0)
        assert (key["ready"], key["heat"], key["is_key"], key["strange"]) == (
            True,
            True,
            True,
            False,
        )
        assert series["slices"][0]["strange"]

    def test_slice_that_is_not_decoded_cannot_be_asked_for(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=3, status=Status.QUEUED, decoded=False)
        told = browser.get(f"/studies/{ids.study_id}/stack").get_json()
        assert [one["ready"] for one in told["series"][0]["slices"]] == [False] * 3
        for kind in ("pixels", "values"):
            assert browser.get(f"/images/{ids.image_ids[0]}/{kind}").status_code == 404
        assert browser.get(f"/series/{ids.series_id}/volume.nii").status_code == 404


class TestValues:
    def test_are_the_pixels_with_all_bits(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=3)
        answer = browser.get(f"/images/{ids.image_ids[1]}/values")
        found = np.frombuffer(answer.data, "<u2").reshape(96, 128)
        np.testing.assert_array_equal(found, phantom(3)[1])
        assert answer.headers["X-Bits"] == "16"
        assert answer.cache_control.private
        assert answer.cache_control.no_cache is True
        assert answer.cache_control.max_age is None
        known = {"If-None-Match": answer.headers["ETag"]}
        assert browser.get(f"/images/{ids.image_ids[1]}/values", headers=known).status_code == 304

    def test_window_of_the_file_is_what_is_shown(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        plain = make_series_study(app, account, slices=3)
        windowed = make_series_study(app, account, slices=3, window=(2000.0, 100.0))
        shown = [browser.get(f"/images/{one.image_ids[1]}/pixels") for one in (plain, windowed)]
        assert shown[0].headers["ETag"] != shown[1].headers["ETag"]
        assert shown[0].data != shown[1].data


class TestVolume:
    def test_lies_in_space_as_the_slices_do(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=6)
        answer = browser.get(f"/series/{ids.series_id}/volume.nii")
        values, affine = read_volume(answer.data)
        assert len(answer.data) == answer.content_length
        expected = np.stack(phantom(6)).transpose(2, 1, 0) * 2.0 - 10.0
        np.testing.assert_allclose(values, expected)
        # Left and back in DICOM are minus right and minus front in NIfTI.
        np.testing.assert_allclose(affine @ [0, 0, 0, 1], [64, 48, 0, 1])
        np.testing.assert_allclose(affine @ [10, 20, 3, 1], [54, 48 - 24, 15, 1], rtol=1e-6)

    def test_slices_of_different_scale_become_values(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=4)
        with app.app_context(), acting_for(account.organisation_id):
            db.session.get_one(Image, ids.image_ids[2]).value_scale = 4.0
            db.session.commit()
        values, _affine = read_volume(browser.get(f"/series/{ids.series_id}/volume.nii").data)
        np.testing.assert_allclose(values[..., 2].T, phantom(4)[2] * 4.0 - 10.0)
        np.testing.assert_allclose(values[..., 1].T, phantom(4)[1] * 2.0 - 10.0)

    def test_missing_slice_leaves_its_place_black(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=6)
        with app.app_context(), acting_for(account.organisation_id):
            db.session.delete(db.session.get_one(Image, ids.image_ids[2]))
            db.session.commit()
        values, _affine = read_volume(browser.get(f"/series/{ids.series_id}/volume.nii").data)
        assert values.shape == (128, 96, 6)
        assert np.ptp(values[..., 2]) == 0
        np.testing.assert_allclose(values[..., 5].T, phantom(6)[5] * 2.0 - 10.0)

    @pytest.mark.parametrize(
        ("distance", "status"), [(95.0, 200), (100.0, 409), (1e5, 409), (1e20, 409), (1e200, 404)]
    )
    def test_what_would_be_mostly_empty_is_not_made(
        self, app: Flask, account: Account, browser: FlaskClient, distance: float, status: int
    ) -> None:
        ids = make_series_study(app, account, slices=5)  # every 5 mm
        with app.app_context(), acting_for(account.organisation_id):
            last = db.session.get_one(Image, ids.image_ids[4])
            last.origin = [*last.origin[:2], last.origin[2] - 20 + distance]  # type: ignore[index]
            db.session.commit()
        for name in ("volume.nii", "heatmap.nii.gz"):
            answer = browser.get(f"/series/{ids.series_id}/{name}")
            assert answer.status_code == status, answer.text[:1000]
            assert len(answer.data) < 2_000_000

    def test_what_is_larger_than_the_setting_is_not_made(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=5)
        limit = 5 * 128 * 96 * 4
        for largest, status in ((limit, 200), (limit - 1, 409)):
            app.extensions["settings"] = app.extensions["settings"].model_copy(
                update={"max_volume_bytes": largest}
            )
            assert browser.get(f"/series/{ids.series_id}/volume.nii").status_code == status

    def test_heatmap_has_its_grid_and_grows_with_the_heat(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=9)
        answer = browser.get(f"/series/{ids.series_id}/heatmap.nii.gz")
        values, affine = read_volume(gzip.decompress(answer.data))
        _volume, expected = read_volume(browser.get(f"/series/{ids.series_id}/volume.nii").data)
        np.testing.assert_allclose(affine, expected)
        assert values.shape == (128, 96, 9)
        assert values[..., 4].max() > values[..., 3].max() > values[..., 0].max() == 0
        assert 150 < values.max() <= 217
        known = {"If-None-Match": answer.headers["ETag"]}
        again = browser.get(f"/series/{ids.series_id}/heatmap.nii.gz", headers=known)
        assert (again.status_code, again.data) == (304, b"")

    def test_is_only_there_where_it_can_be(
        self, app: Flask, account: Account, browser: FlaskClient
    ) -> None:
        ids = make_series_study(app, account, slices=4)
        with app.app_context(), acting_for(account.organisation_id):
            for prediction in db.session.query(Prediction):
                prediction.heatmap_key = None
            db.session.commit()
        assert browser.get(f"/series/{ids.series_id}/heatmap.nii.gz").status_code == 404
        with app.app_context(), acting_for(account.organisation_id):
            find_series(ids.series_id).is_volume = False
            db.session.commit()
        assert browser.get(f"/series/{ids.series_id}/volume.nii").status_code == 404
        assert browser.get(f"/series/{uuid.uuid4()}/volume.nii").status_code == 404


def test_nothing_of_it_is_there_for_another_organisation(
    app: Flask, account: Account, make_user: MakeUser, sign_in: SignIn
) -> None:
    ids: SeriesStudyIds = make_series_study(app, account, slices=3)
    stranger = sign_in(make_user(organisation="B"))
    for address in (
        f"/studies/{ids.study_id}/stack",
        f"/studies/{ids.study_id}/images",
        f"/images/{ids.image_ids[1]}/values",
        f"/series/{ids.series_id}/volume.nii",
        f"/series/{ids.series_id}/heatmap.nii.gz",
    ):
        assert stranger.get(address).status_code == 404


def test_studies_of_other_patients_are_never_compared(app: Flask, account: Account) -> None:
    ids = make_series_study(app, account, slices=3, code="A")
    make_series_study(app, account, slices=3, code="B")
    with app.app_context(), acting_for(account.organisation_id):
        study = db.session.get_one(Study, ids.study_id)
        assert comparable_studies(study) == []
