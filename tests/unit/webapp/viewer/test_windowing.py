"""One window for a slice, wherever it is shown, and one that shows something."""

import io
import uuid
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from ml.imaging import NO_LIMITS, read_bytes
from tests.dicoms import as_bytes, head, mr_slice
from tests.factories import Account, make_api_token
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.extensions import current_blobs, current_room
from webapp.inference import analyses
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.reporting.content import ReportedAnswer, ReportedSlice
from webapp.reporting.pictures import grey_slice
from webapp.studies.models import Image, Instance
from webapp.tenancy import acting_for
from webapp.viewer.stack import read_stack
from webapp.viewer.windowing import Suggestion, shown_in_grey, suggestion_of
from worker.decoding import Decoder

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
Grey = npt.NDArray[Any]


def ramp() -> npt.NDArray[np.uint16]:
    return np.arange(4096, dtype=np.uint16).reshape(64, 64)


def dicom(window: tuple[Any, Any] | None) -> bytes:
    dataset = mr_slice(head(3, 6, 96))
    if window is None:
        del dataset.WindowCenter, dataset.WindowWidth
    else:
        dataset.WindowCenter, dataset.WindowWidth = window
    return as_bytes(dataset)


def picture(content: bytes) -> Grey:
    shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown is not None
    return np.asarray(shown)


def test_the_files_window_is_linear_between_the_ends_of_the_standard() -> None:
    shown = shown_in_grey(ramp(), Suggestion(centre=1000, width=2001)).ravel()
    # PS3.3 C.11.2.1.2: black up to c - 0.5 - (w - 1) / 2, white above c - 0.5 + (w - 1) / 2.
    assert (shown[0], shown[2000], shown[4000]) == (0, 255, 255)
    assert shown[999] in {127, 128}


@pytest.mark.parametrize(
    "window", [(1000, 1), (1000, 0), (1000, 0.3), (1000, -5), (1000, 2), (float("nan"), 100)]
)
def test_a_window_that_shows_nothing_gives_way_to_the_slices_own_grey_values(
    window: tuple[float, float],
) -> None:
    shown = shown_in_grey(ramp(), Suggestion(*window))
    assert len(np.unique(shown)) > 200
    assert np.array_equal(shown, shown_in_grey(ramp()))


def test_width_one_is_a_threshold_where_there_are_only_two_grey_levels() -> None:
    mask = np.kron(np.eye(8, dtype=np.uint16), np.ones((8, 8), np.uint16))
    shown = shown_in_grey(mask, Suggestion(centre=1, width=1))
    assert np.array_equal(shown, mask * 255)


def test_a_window_that_a_person_asks_for_is_used_as_it_is() -> None:
    shown = shown_in_grey(ramp(), wanted=Suggestion(centre=1000, width=1))
    assert set(np.unique(shown)) == {0, 255}
    assert shown.ravel()[999] == 0
    assert shown.ravel()[1000] == 255


def test_slices_at_the_end_of_a_head_stay_dark() -> None:
    air = np.random.default_rng(0).integers(0, 20, (64, 64)).astype(np.uint16)
    assert shown_in_grey(air, Suggestion(centre=1000, width=2000)).max() < 8


@pytest.mark.parametrize("window", [None, (1000, 2000), (300, 1), (300, 0), ("", ""), (300, 2)])
def test_page_report_and_dicomweb_show_the_same_picture(
    app: Flask, make_user: MakeUser, sign_in: SignIn, window: tuple[Any, Any] | None
) -> None:
    account = make_user()
    image_id, address, reported, offered = kept(app, account, dicom(window))
    page = picture(sign_in(account).get(f"/images/{image_id}/pixels").data)
    _id, token = make_api_token(app, account)
    headers = {"Authorization": f"Bearer {token}", "Accept": "image/png"}
    rendered = picture(app.test_client().get(f"{address}/rendered", headers=headers).data)
    assert np.array_equal(page, reported)
    assert np.array_equal(page, rendered)
    assert len(np.unique(page)) > 50
    # The viewer offers and shows the file's window only where the page does.
    assert offered == (window if window == (1000, 2000) else None)


def kept(
    app: Flask, account: Account, content: bytes
) -> tuple[uuid.UUID, str, Grey, tuple[float, float] | None]:
    """Upload and decode a file: its image, its address, its picture in a report, its window."""
    with app.app_context(), acting_for(account.organisation_id):
        files = [UploadedFile("slice.dcm", content)]
        study = submit_files(actor=find_user_by_address(account.email), files=files).study
        assert study.current_analysis is not None
        claim = analyses.claim_analysis(study.current_analysis.id)
        assert claim is not None
        with Decoder(current_blobs(), current_room()) as decoder:
            (opened,) = decoder.decode(claim.images)
        assert opened.decoded is not None
        analyses.record_progress(claim, images_done=1, decoded=[opened.decoded])
        db.session.expire_all()
        image = db.session.query(Image).one()
        instance = db.session.query(Instance).one()
        key = ReportedSlice(
            id=image.id,
            number=1,
            answer=ReportedAnswer("glioma", {"glioma": 1.0, "no_tumor": 0.0}, ("glioma",), True),
            blob_key=image.blob_key or "",
            heatmap_key=None,
            width=image.width,
            height=image.height,
            row_spacing=None,
            column_spacing=None,
            orientation=None,
            source=None,
            window=suggestion_of(image),
        )
        address = (
            f"/dicomweb/studies/{instance.study_uid}/series/{instance.series_uid}"
            f"/instances/{instance.uid}"
        )
        window = read_stack(study).series[0].slices[0].window
        return image.id, address, grey_slice(key, current_blobs()), window


def test_the_pixels_of_a_file_with_such_a_window_are_read_as_ever() -> None:
    (one,) = read_bytes(io.BytesIO(dicom((300, 1))).read(), NO_LIMITS)
    assert one.pixels.max() > 1000
