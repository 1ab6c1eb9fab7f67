"""Many requests for the same thing at once, in two web processes: all are answered, all count."""

import uuid
from typing import Any

import pytest
from sqlalchemy import select

from tests.at_once import all_at_once, slices_at_once
from tests.dicoms import axial_series
from tests.factories import make_study
from tests.portal import Portal
from webapp.database import db
from webapp.review.models import Assessment
from webapp.studies.models import Analysis, Image, Study
from webapp.tenancy import unscoped

pytestmark = pytest.mark.integration
MANY = 20  # benchmarks/uploads_at_once.py: a hundred, in three processes


@pytest.fixture
def web(portal: Portal) -> str:
    """The address of two web processes."""
    portal.environment |= {"SULCUS_WEB_WORKERS": "2", "SULCUS_WEB_THREADS": "12"}
    return portal.start_web()


def test_slices_of_one_study_sent_one_by_one_make_one_study(portal: Portal, web: str) -> None:
    account = portal.make_user()
    assert slices_at_once(web, portal.token(account.email), MANY) == {202: MANY}
    with portal.app.app_context(), unscoped():
        (study,) = db.session.scalars(select(Study))
        images = db.session.scalars(select(Image).order_by(Image.position)).all()
        assert [image.position for image in images] == list(range(MANY))
        places = [image.origin[2] for image in images if image.origin]
        assert places == sorted(places)
        newest = db.session.get_one(Analysis, study.current_analysis_id)
        assert newest.images_total == MANY


def test_same_upload_sent_many_times_makes_one_study(portal: Portal, web: str) -> None:
    account = portal.make_user()
    (slice_,) = axial_series(1, size=64)
    bodies = [{"files": [("files", ("one.dcm", slice_))]} for _n in range(MANY)]
    token = portal.token(account.email)
    statuses = all_at_once(f"{web}/api/v1/studies", token, bodies)
    assert set(statuses) <= {200, 202}, statuses
    assert portal.count(Study) == 1
    assert portal.count(Image) == 1


def test_answers_of_one_reader_at_once_leave_one_current(portal: Portal, web: str) -> None:
    account = portal.make_user()
    study = make_study(portal.app, account)
    address = f"{web}/api/v1/studies/{study.study_id}/feedback"
    bodies: list[dict[str, Any]] = [
        {"json": {"image_id": str(study.image_id), "verdict": "agree", "comment": uuid.uuid4().hex}}
        for _n in range(MANY)
    ]
    statuses = all_at_once(address, portal.token(account.email), bodies)
    assert sum(statuses.values()) == MANY
    assert all(status < 300 for status in statuses), statuses
    with portal.app.app_context(), unscoped():
        rows = db.session.scalars(select(Assessment)).all()
        assert len(rows) == MANY
        assert sum(row.superseded_at is None for row in rows) == 1
