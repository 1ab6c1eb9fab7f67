"""Worklist and history: order, filters, pages, number of statements, and the CSV export."""

import csv
import io
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from tests.factories import Account, make_study
from tests.statements import sent_to_database
from webapp.accounts.models import User
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.errors import InvalidInput
from webapp.inference.analyses import request_analysis
from webapp.review.models import Verdict
from webapp.review.operations import Opinion, Subject, record_assessments
from webapp.studies.models import Image, Patient, Priority, Series, Status, Study
from webapp.studies.paging import Cursor
from webapp.studies.spreadsheet import safe_cell
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
FIRST_DAY = datetime(2026, 1, 1, 12, tzinfo=UTC)


def add_studies(
    app: Flask, account: Account, count: int, *, status: Status = Status.QUEUED, **values: object
) -> list[uuid.UUID]:
    """Studies of one image each, an hour apart, oldest first; without blobs, for lists only."""
    with app.app_context(), acting_for(account.organisation_id):
        known = db.session.scalars(select(Study.id)).all()
        studies = [
            Study(
                patient=Patient(code=f"P-{len(known) + number:03d}"),
                uploaded_by_id=account.id,
                created_at=FIRST_DAY + timedelta(hours=len(known) + number),
                images=[
                    Image(position=0, blob_key="0" * 64, source_format="png", width=64, height=64)
                ],
                **values,
            )
            for number in range(count)
        ]
        for study in studies:
            study.series = [Series(position=0, images=list(study.images))]
        db.session.add_all(studies)
        for study in studies:
            request_analysis(study).status = status
        db.session.commit()
        return [study.id for study in studies]


def answer(app: Flask, account: Account, image_id: uuid.UUID, verdict: Verdict) -> None:
    with app.app_context(), acting_for(account.organisation_id):
        label = "no_tumor" if verdict is Verdict.DISAGREE else None
        user = db.session.get_one(User, account.id)
        study_id = db.session.get_one(Image, image_id).study_id
        record_assessments(
            actor=user, subject=Subject(study_id, (image_id,)), opinion=Opinion(verdict, label)
        )


def change(app: Flask, account: Account, study_id: uuid.UUID, **values: object) -> None:
    with app.app_context(), acting_for(account.organisation_id):
        study = db.session.get_one(Study, study_id)
        for name, value in values.items():
            setattr(study.current_analysis if name == "status" else study, name, value)
        db.session.commit()


def shown(page: str) -> list[str]:
    """The patient codes on a page, in their order."""
    return re.findall(r"<bdi>([^<]+)</bdi>", page)


def older_page(page: str) -> str | None:
    found = re.search(r'id="pager-older"[^>]* href="([^"]+)"', page)
    return found.group(1).replace("&amp;", "&") if found else None


class TestWorklist:
    def test_shows_the_newest_first_and_pages_without_loss(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        add_studies(app, account, 60)
        browser = sign_in(account)
        address: str | None = "/"
        pages = []
        while address:
            page = browser.get(address).text
            pages.append(shown(page))
            address = older_page(page)
        assert [len(page) for page in pages] == [25, 25, 10]
        assert [code for page in pages for code in page] == [
            f"P-{number:03d}" for number in reversed(range(60))
        ]

    def test_same_moment_loses_no_study_between_pages(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        for study_id in add_studies(app, account, 30):
            change(app, account, study_id, created_at=FIRST_DAY)
        browser = sign_in(account)
        first = browser.get("/").text
        second = browser.get(older_page(first) or "").text
        assert len({*shown(first), *shown(second)}) == 30

    def test_urgent_studies_without_an_answer_stand_on_top_of_the_first_page_only(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        urgent = add_studies(app, account, 2, priority=Priority.URGENT)
        change(app, account, urgent[0], status=Status.FAILED)
        add_studies(app, account, 30)
        browser = sign_in(account)
        first = browser.get("/").text
        assert shown(first)[:2] == ["P-001", "P-031"]
        assert len(shown(first)) == 25
        assert shown(browser.get(older_page(first) or "").text)[-2:] == ["P-001", "P-000"]

    def test_urgent_study_leaves_the_top_once_somebody_answered(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_study(app, account)
        change(app, account, study.study_id, priority=Priority.URGENT, created_at=FIRST_DAY)
        add_studies(app, account, 1)
        browser = sign_in(account)
        assert shown(browser.get("/").text)[1:] == ["P-001"]
        answer(app, account, study.image_id, Verdict.AGREE)
        assert shown(browser.get("/").text)[:1] == ["P-001"]

    def test_takes_fewer_than_ten_statements_for_25_studies(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        add_studies(app, account, 20)
        add_studies(app, account, 5, priority=Priority.URGENT)
        browser = sign_in(account)
        for address in ("/", "/worklist/rows", "/history"):
            with sent_to_database(app) as statements:
                page = browser.get(address)
            assert len(shown(page.text)) == 25
            assert len(statements) < 10, "\n".join(sql for sql, _values in statements)

    def test_chips_count_each_state_under_the_other_filters(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account, other = make_user(), make_user()
        add_studies(app, account, 2, status=Status.DONE)
        add_studies(app, other, 3, status=Status.FAILED)
        browser = sign_in(account)
        page = browser.get("/?mine=1&status=failed").text
        numbers = re.findall(r'id="chip-(\w+)".*?chip-number">(\d+)', page)
        assert dict(numbers) == {
            "all": "2", "done": "2", "failed": "0", "queued": "0", "running": "0", "rejected": "0"
        }  # fmt: skip
        assert shown(page) == []

    def test_shows_nothing_of_another_organisation(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        add_studies(app, make_user(organisation="B"), 3, priority=Priority.URGENT)
        browser = sign_in(make_user(organisation="A"))
        for address in ("/", "/history"):
            assert shown(browser.get(address).text) == []
        assert len(browser.get("/history.csv").text.splitlines()) == 1

    @pytest.mark.parametrize("query", ["before=%FF", "before=AAAA", "status=x&priority=y&mine=z"])
    def test_damaged_addresses_show_the_first_page(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn, query: str
    ) -> None:
        account = make_user()
        add_studies(app, account, 1)
        answer = sign_in(account).get(f"/?{query}")
        assert (answer.status_code, shown(answer.text)) == (200, ["P-000"])


class TestHistory:
    def test_filters_narrow_to_what_matches(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        ids = add_studies(app, account, 3)
        change(app, account, ids[0], description="FLAIR axial")
        change(app, account, ids[1], description="t1, 50% dose")
        done = make_study(app, account, label="glioma")
        next_day = FIRST_DAY.replace(day=2, hour=0, minute=0)
        change(app, account, done.study_id, description="Flair", created_at=next_day)
        answer(app, account, done.image_id, Verdict.DISAGREE)
        expected = {
            "": 4,
            "q=flair": 2,
            "q=p-001": 1,
            "q=50%25": 1,
            "q=_": 0,
            "q=%5C": 0,
            "q=%00": 4,
            "status=done": 1,
            "label=glioma": 1,
            "label=pituitary": 0,
            "label=nonsense": 4,
            "from=2026-01-01&to=2026-01-01": 3,
            "from=2026-01-02": 1,
            "to=2025-12-31": 0,
            "to=9999-12-31": 4,
            "from=0001-01-01": 4,
            "from=2026-13-45": 4,
            "uploader=nobody": 4,
            "feedback=none": 3,
            "feedback=any": 1,
            "feedback=disagree": 1,
            "feedback=agree": 0,
        }
        browser = sign_in(account)
        found = {query: len(shown(browser.get(f"/history?{query}").text)) for query in expected}
        assert found == expected

    def test_days_are_whole(self, app: Flask, make_user: MakeUser, sign_in: SignIn) -> None:
        account = make_user()
        early, late, _after = add_studies(app, account, 3)
        change(app, account, early, created_at=datetime(2026, 5, 4, tzinfo=UTC))
        change(app, account, late, created_at=datetime(2026, 5, 4, 23, 59, 59, 999999, UTC))
        page = sign_in(account).get("/history?from=2026-05-04&to=2026-05-04").text
        assert shown(page) == ["P-001", "P-000"]

    def test_uploader_and_paging_go_together(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account, other = make_user(), make_user()
        add_studies(app, account, 30)
        add_studies(app, other, 5)
        browser = sign_in(account)
        first = browser.get(f"/history?uploader={account.id}").text
        second = browser.get(older_page(first) or "").text
        assert (len(shown(first)), len(shown(second)), older_page(second)) == (25, 5, None)
        assert shown(first)[0] == "P-029"


class TestCsv:
    def rows(self, browser: FlaskClient, query: str = "") -> list[dict[str, str]]:
        answer = browser.get(f"/history.csv{query}")
        assert answer.status_code == 200
        assert answer.content_type == "text/csv; charset=utf-8"
        assert answer.data.startswith(b"\xef\xbb\xbf")
        return list(csv.DictReader(io.StringIO(answer.data.decode("utf-8-sig"))))

    def test_holds_every_match_with_result_and_verdicts(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account, other = make_user(name="Zoë Ärztin"), make_user()
        study = make_study(app, account, label="meningioma")
        answer(app, account, study.image_id, Verdict.AGREE)
        answer(app, other, study.image_id, Verdict.UNSURE)
        add_studies(app, account, 450)
        rows = self.rows(sign_in(account))
        assert len(rows) == 451
        row = rows[0]
        assert row["study_id"] == str(study.study_id)
        assert datetime.fromisoformat(row["created_at"]).tzinfo is not None
        assert (row["label"], row["probability_meningioma"]) == ("meningioma", "0.9")
        assert (row["prediction_set"], row["in_distribution"]) == ("meningioma", "yes")
        assert (row["images"], row["model"]) == ("1", f"test {'0' * 12}")
        assert (row["feedback"], row["uploader"]) == ("1 agree; 1 unsure", "Zoë Ärztin")
        assert rows[-1]["patient_code"] == "P-001"

    def test_takes_the_same_filters(self, app: Flask, make_user: MakeUser, sign_in: SignIn) -> None:
        account = make_user()
        add_studies(app, account, 3, status=Status.FAILED)
        add_studies(app, account, 2)
        assert len(self.rows(sign_in(account), "?status=failed")) == 3

    def test_runs_no_formula(self, app: Flask, make_user: MakeUser, sign_in: SignIn) -> None:
        account = make_user(name="=HYPERLINK(1)")
        (study_id,) = add_studies(app, account, 1)
        change(app, account, study_id, description="@SUM(A1)")
        (row,) = self.rows(sign_in(account))
        assert (row["description"], row["uploader"]) == ("'@SUM(A1)", "'=HYPERLINK(1)")

    def test_leaves_an_audit_entry_without_patient_data(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        add_studies(app, account, 2)
        self.rows(sign_in(account), "?q=P-001")
        with app.app_context(), acting_for(account.organisation_id):
            (entry,) = db.session.scalars(
                select(AuditEvent).where(AuditEvent.action == "export_history")
            )
            assert (entry.actor_id, entry.details) == (account.id, {"rows": 1})


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "@x", "\tx", "\rx", "＝1", "＋1", "－1", "＠x", "  =1"]
)
def test_text_that_a_spreadsheet_would_calculate_gets_a_quote(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-0.5, -3, 0, None, "-0.5", "glioma", "a=b", ""])
def test_other_values_stay_as_they_are(value: str | float | None) -> None:
    assert safe_cell(value) == value


def test_cursor_survives_the_way_through_an_address() -> None:
    cursor = Cursor(datetime(2026, 3, 29, 1, 2, 3, 456789, UTC), uuid.uuid4())
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["", "x", "ü" * 32, "A" * 31, "A" * 33, "f" * 32])
def test_cursor_that_was_not_given_out_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Cursor.parse(text)
