"""Assessments name what was seen: the analysis, the slices, or the study as a whole."""

import csv
import io
import json
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from tests.factories import (
    Account,
    SeriesStudyIds,
    StudyIds,
    assess,
    finish_series_study,
    make_series_study,
    make_study,
)
from webapp.accounts.models import Role, User
from webapp.audit import AuditEvent
from webapp.database import db, now
from webapp.errors import Conflict, InvalidInput, NotFound
from webapp.inference.analyses import request_analysis
from webapp.review.models import Assessment, AssessmentDraft, Verdict
from webapp.review.operations import DRAFTS_LAST, purge_drafts
from webapp.studies.models import Image, Study
from webapp.tenancy import acting_for
from webapp.worklist.queries import HistoryFilters, StudyRow, history

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
SQUARE = [[0.2, 0.2], [0.4, 0.2], [0.4, 0.4], [0.2, 0.4]]
HTMX = {"HX-Request": "true"}


@contextmanager
def acting(app: Flask, account: Account) -> Iterator[User]:
    with app.app_context(), acting_for(account.organisation_id):
        yield db.session.get_one(User, account.id)


def current(app: Flask, account: Account) -> list[Assessment]:
    """Those of the account's organisation, the study as a whole first, then by slice."""
    with acting(app, account):
        found = (
            select(Assessment)
            .outerjoin(Assessment.image)
            .where(Assessment.superseded_at.is_(None))
            .order_by(Image.position.nulls_first())
        )
        return list(db.session.scalars(found))


def analyse_again(app: Flask, account: Account, ids: SeriesStudyIds) -> uuid.UUID:
    """A newer analysis of the study, done; returns its id."""
    with acting(app, account):
        study = db.session.get_one(Study, ids.study_id)
        request_analysis(study)
        db.session.commit()
    finish_series_study(app, account, ids)
    return analysis_of(app, account, ids)


def analysis_of(app: Flask, account: Account, ids: SeriesStudyIds) -> uuid.UUID:
    with acting(app, account):
        found = db.session.get_one(Study, ids.study_id).current_analysis_id
        assert found is not None
        return found


def refuse(app: Flask, account: Account, ids: StudyIds | SeriesStudyIds, **given: Any) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        assess(app, account, ids, **given)
    return set(caught.value.fields)


class TestWhatWasSeen:
    def test_an_assessment_is_of_the_analysis_that_was_on_the_screen(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        reader = make_user()
        ids = make_series_study(app, reader, slices=6)
        seen = analysis_of(app, reader, ids)
        newer = analyse_again(app, reader, ids)
        assert newer != seen
        assess(app, reader, ids, analysis_id=seen)
        (row,) = current(app, reader)
        assert row.analysis_id == seen
        assess(app, reader, ids)
        (row,) = current(app, reader)
        assert row.analysis_id == newer

    def test_no_analysis_of_another_study_is_taken(self, app: Flask, make_user: MakeUser) -> None:
        reader = make_user()
        mine, other = make_study(app, reader), make_study(app, reader)
        wrong = refuse(app, reader, mine, analysis_id=other.analysis_id)
        assert wrong == {"analysis_id"}
        assert refuse(app, reader, mine, images=[other.image_id]) == {"image_id"}

    def test_an_analysis_that_has_not_ended_cannot_be_assessed(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        reader = make_user()
        ids = make_study(app, reader)
        with acting(app, reader):
            request_analysis(db.session.get_one(Study, ids.study_id))
            db.session.commit()
        with pytest.raises(Conflict):
            assess(app, reader, ids)
        assess(app, reader, ids, analysis_id=ids.analysis_id)  # what was seen before can

    def test_several_slices_become_one_row_each(self, app: Flask, make_user: MakeUser) -> None:
        reader = make_user()
        ids = make_series_study(app, reader, slices=8)
        chosen = ids.image_ids[2:6]
        assess(
            app, reader, ids, images=chosen, begun_on=chosen[1], region=SQUARE,
            verdict=Verdict.DISAGREE, label="no_tumor",
        )  # fmt: skip
        found = current(app, reader)
        assert [row.image_id for row in found] == chosen
        assert {row.label for row in found} == {"no_tumor"}
        # Where the model says the same, whoever says so agrees with it.
        assert {row.verdict for row in found} == {Verdict.AGREE, Verdict.DISAGREE}
        assert [row.region is not None for row in found] == [False, True, False, False]
        with acting(app, reader):
            (entry,) = db.session.scalars(
                select(AuditEvent).where(AuditEvent.action == "record_assessment")
            )
            assert entry.details["slices"] == 4

    def test_slices_without_an_answer_let_nothing_be_saved(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        reader = make_user()
        ids = make_study(app, reader)
        with pytest.raises(InvalidInput):
            assess(app, reader, ids, images=[ids.image_id, uuid.uuid4()])
        assert current(app, reader) == []

    def test_a_region_belongs_to_one_of_the_slices(self, app: Flask, make_user: MakeUser) -> None:
        reader = make_user()
        ids = make_series_study(app, reader, slices=4)
        two = ids.image_ids[:2]
        assert refuse(app, reader, ids, images=two, region=SQUARE) == {"region"}
        outside = {"images": two, "region": SQUARE, "begun_on": ids.image_ids[3]}
        assert refuse(app, reader, ids, **outside) == {"region"}
        assert refuse(app, reader, ids, images=None, region=SQUARE) == {"region"}

    def test_the_study_as_a_whole_stands_beside_its_slices(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        reader, other = make_user(), make_user()
        ids = make_series_study(app, reader, slices=4)
        assess(app, reader, ids)
        assess(app, reader, ids, images=None)
        assess(app, reader, ids, images=None, verdict=Verdict.UNSURE)
        assess(app, other, ids, images=None)
        found = current(app, reader)
        assert [row.image_id for row in found] == [None, None, ids.image_ids[0]]
        assert {(row.reader_id, row.verdict) for row in found[:2]} == {
            (reader.id, Verdict.UNSURE),
            (other.id, Verdict.AGREE),
        }


class TestSomethingElse:
    def test_needs_a_name_of_at_most_64_characters(self, app: Flask, make_user: MakeUser) -> None:
        reader = make_user()
        ids = make_study(app, reader)
        other = {"verdict": Verdict.DISAGREE, "label": "other"}
        for finding in ("", " \0 ", "x" * 65):
            assert refuse(app, reader, ids, **other, finding=finding) == {"finding"}
        assess(app, reader, ids, **other, finding=" colloid \n cyst ")
        (row,) = current(app, reader)
        assert (row.label, row.finding) == ("other", "colloid cyst")

    def test_suggestions_are_kept_alike_in_every_language(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        reader = make_user()
        ids = make_study(app, reader)
        for typed, kept in (("Post-operative change", "postoperative"), ("STROKE", "stroke")):
            assess(app, reader, ids, verdict=Verdict.DISAGREE, label="other", finding=typed)
            assert [row.finding for row in current(app, reader)] == [kept]

    def test_a_class_has_no_finding(self, app: Flask, make_user: MakeUser) -> None:
        reader = make_user()
        ids = make_study(app, reader)
        assess(app, reader, ids, verdict=Verdict.DISAGREE, label="no_tumor", finding="cyst")
        assert current(app, reader)[0].finding == ""

    def test_never_becomes_a_class_to_learn_from(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        reader = make_user(Role.REVIEWER)
        first, second = make_study(app, reader), make_study(app, reader)
        assess(app, reader, first, verdict=Verdict.DISAGREE, label="other", finding="stroke")
        assess(app, reader, second, images=None, verdict=Verdict.DISAGREE, label="no_tumor")
        archive = zipfile.ZipFile(io.BytesIO(sign_in(reader).get("/feedback/export").data))
        lines = {
            name: list(csv.DictReader(io.StringIO(archive.read(name).decode())))
            for name in ("manifest.csv", "unsure.csv", "studies.csv")
        }
        assert lines["manifest.csv"] == []
        (other,), (whole,) = lines["unsure.csv"], lines["studies.csv"]
        assert (other["label"], other["finding"], other["verdict"]) == ("", "stroke", "disagree")
        assert (whole["label"], whole["path"], whole["image_id"]) == ("no_tumor", "", "")

    def test_is_counted_by_the_command_line(
        self, app: Flask, make_user: MakeUser, tmp_path: Any
    ) -> None:
        reader = make_user()
        ids = make_study(app, reader)
        assess(app, reader, ids, verdict=Verdict.DISAGREE, label="other", finding="stroke")
        out = str(tmp_path / "out.zip")
        done = app.test_cli_runner().invoke(args=["feedback", "export", "--out", out])
        assert "1 of other diseases" in done.output


def filled(
    ids: SeriesStudyIds, analysis: uuid.UUID, number: int = 1, **given: str
) -> dict[str, str]:
    """The form of one slice, as the page sends it."""
    seen = {"image_id": str(ids.image_ids[number - 1]), "analysis_id": str(analysis)}
    return seen | {"verdict": "agree"} | given


class TestForm:
    @pytest.fixture
    def reader(self, make_user: MakeUser) -> Account:
        return make_user()

    @pytest.fixture
    def ids(self, app: Flask, reader: Account) -> SeriesStudyIds:
        return make_series_study(app, reader, slices=10)

    @pytest.fixture
    def seen(self, app: Flask, reader: Account, ids: SeriesStudyIds) -> uuid.UUID:
        return analysis_of(app, reader, ids)

    @pytest.fixture
    def browser(self, reader: Account, sign_in: SignIn) -> FlaskClient:
        return sign_in(reader)

    def test_says_which_slice_and_which_analysis_it_is_of(
        self, browser: FlaskClient, ids: SeriesStudyIds, seen: uuid.UUID
    ) -> None:
        page = browser.get(f"/studies/{ids.study_id}/assessment?image=3").text
        assert "Your assessment of slice 4" in page
        assert f'value="{ids.image_ids[3]}"' in page
        assert f'value="{seen}"' in page

    def test_is_kept_for_what_it_says_and_tells_of_a_newer_analysis(
        self, app: Flask, reader: Account, browser: FlaskClient, ids: SeriesStudyIds,
        seen: uuid.UUID,
    ) -> None:  # fmt: skip
        analyse_again(app, reader, ids)
        answer = browser.post(
            f"/studies/{ids.study_id}/assessments", data=filled(ids, seen, 4), headers=HTMX
        )
        assert answer.status_code == 200
        assert "Saved. Thank you." in answer.text
        assert "the study has been analysed again since" in answer.text
        (row,) = current(app, reader)
        assert (row.image_id, row.analysis_id) == (ids.image_ids[3], seen)

    def test_saves_a_range_of_slices(
        self, app: Flask, reader: Account, browser: FlaskClient, ids: SeriesStudyIds,
        seen: uuid.UUID,
    ) -> None:  # fmt: skip
        address = f"/studies/{ids.study_id}/assessments"
        for first, last in (
            ("0", "3"),
            ("3", "11"),
            ("5", "4"),
            ("", "4"),
            ("x", "4"),
            ("9" * 5000, "1"),
        ):
            data = filled(ids, seen, scope="range", first=first, last=last)
            assert browser.post(address, data=data, headers=HTMX).status_code == 422
        data = filled(ids, seen, 5, scope="range", first="3", last="6")
        answer = browser.post(address, data=data, headers=HTMX)
        assert "It is of 4 slices." in answer.text
        assert [row.image_id for row in current(app, reader)] == ids.image_ids[2:6]

    def test_saves_the_study_as_a_whole_without_a_region(
        self, app: Flask, reader: Account, browser: FlaskClient, ids: SeriesStudyIds,
        seen: uuid.UUID,
    ) -> None:  # fmt: skip
        data = filled(ids, seen, scope="study", region=json.dumps(SQUARE))
        browser.post(f"/studies/{ids.study_id}/assessments", data=data)
        (row,) = current(app, reader)
        assert (row.image_id, row.region) == (None, None)

    @pytest.mark.parametrize(
        "region",
        [
            "x", "{}", "1", "[1, 2, 3]", '[["a", "b"], [1, 1], [0, 0]]', "[[true, true]]",
            "[[0, 0], [1, 1], [2, 0]]", "[[0, 0], [1, 1], [NaN, 0]]", "[" * 10_000,
            "[[0,0],[1,1],[1e999,0]]", f"[[0,0],[1,1],[{'9' * 4000},0]]",
            "[[0,0]" + ",[0,0]" * 5000 + "]",
        ],
    )  # fmt: skip
    def test_a_region_that_is_none_is_refused_and_the_text_stays(
        self, app: Flask, reader: Account, browser: FlaskClient, ids: SeriesStudyIds,
        seen: uuid.UUID, region: str,
    ) -> None:  # fmt: skip
        data = filled(ids, seen, region=region, comment="my words")
        answer = browser.post(f"/studies/{ids.study_id}/assessments", data=data, headers=HTMX)
        assert answer.status_code == 422
        assert "my words" in answer.text
        assert current(app, reader) == []

    def test_a_body_beyond_64_kb_is_not_read(
        self, browser: FlaskClient, ids: SeriesStudyIds, seen: uuid.UUID
    ) -> None:
        for address in ("assessments", "draft"):
            data = filled(ids, seen, comment="x" * 70_000)
            answer = browser.post(f"/studies/{ids.study_id}/{address}", data=data)
            assert answer.status_code == 413
            assert "64 kB" in answer.text

    @pytest.mark.parametrize("missing", ["image_id", "analysis_id"])
    def test_a_form_that_does_not_say_what_was_seen_is_refused(
        self, app: Flask, reader: Account, browser: FlaskClient, ids: SeriesStudyIds,
        seen: uuid.UUID, missing: str,
    ) -> None:  # fmt: skip
        data = filled(ids, seen) | {missing: "x"}
        answer = browser.post(f"/studies/{ids.study_id}/assessments", data=data)
        assert answer.status_code == 422
        assert current(app, reader) == []

    def test_words_of_somebody_who_has_signed_out_are_not_taken_for_another_s(
        self, app: Flask, reader: Account, browser: FlaskClient, ids: SeriesStudyIds,
        seen: uuid.UUID,
    ) -> None:  # fmt: skip
        data = filled(ids, seen, reader=str(uuid.uuid4()))
        assert browser.post(f"/studies/{ids.study_id}/assessments", data=data).status_code == 409
        assert browser.post(f"/studies/{ids.study_id}/draft", data=data).status_code == 409
        assert current(app, reader) == []

    def test_a_form_whose_token_is_out_of_date_comes_back_with_its_text(
        self, app: Flask, reader: Account, browser: FlaskClient, ids: SeriesStudyIds,
        seen: uuid.UUID,
    ) -> None:  # fmt: skip
        app.config["WTF_CSRF_ENABLED"] = True
        data = filled(ids, seen, 4, comment="my words", csrf_token="old")
        for headers in (HTMX, {}):
            answer = browser.post(
                f"/studies/{ids.study_id}/assessments", data=data, headers=headers
            )
            assert answer.status_code == 400
            assert "my words" in answer.text
            assert "open for too long" in answer.text
            assert "Your assessment of slice 4" in answer.text
        assert current(app, reader) == []

    def test_a_browser_without_script_gets_its_form_back(
        self, browser: FlaskClient, ids: SeriesStudyIds, seen: uuid.UUID
    ) -> None:
        data = filled(ids, seen, 4, verdict="disagree", comment="my words")
        answer = browser.post(f"/studies/{ids.study_id}/assessments", data=data)
        assert answer.status_code == 422
        assert "<html" in answer.text
        assert "my words" in answer.text
        assert "Please choose the correct diagnosis." in answer.text

    def test_a_sentence_stands_once_beside_its_field(
        self, browser: FlaskClient, ids: SeriesStudyIds, seen: uuid.UUID
    ) -> None:
        data = filled(ids, seen, verdict="perhaps")
        answer = browser.post(f"/studies/{ids.study_id}/assessments", data=data)
        assert answer.status_code == 422
        assert answer.text.count("Not a valid choice") == 1


class TestDrafts:
    @pytest.fixture
    def reader(self, make_user: MakeUser) -> Account:
        return make_user()

    @pytest.fixture
    def ids(self, app: Flask, reader: Account) -> SeriesStudyIds:
        return make_series_study(app, reader, slices=10)

    def drafts(self, app: Flask, reader: Account) -> list[AssessmentDraft]:
        with acting(app, reader):
            return list(db.session.scalars(select(AssessmentDraft)))

    def begin(
        self, app: Flask, reader: Account, browser: FlaskClient, ids: SeriesStudyIds, **given: str
    ) -> dict[str, str]:
        data = filled(ids, analysis_of(app, reader, ids), 4, **given)
        assert browser.post(f"/studies/{ids.study_id}/draft", data=data).status_code == 204
        return data

    def test_what_was_begun_is_shown_again_and_ends_with_the_save(
        self, app: Flask, reader: Account, sign_in: SignIn, ids: SeriesStudyIds
    ) -> None:
        self.begin(app, reader, sign_in(reader), ids, comment="first")
        data = self.begin(app, reader, sign_in(reader), ids, comment="half a sen")
        assert len(self.drafts(app, reader)) == 1
        browser = sign_in(reader)
        page = browser.get(f"/studies/{ids.study_id}").text
        assert "Your assessment of slice 4" in page
        assert "half a sen" in page
        assert 'data-image="3"' in page  # and the viewer opens there
        browser.post(f"/studies/{ids.study_id}/assessments", data=data)
        assert self.drafts(app, reader) == []

    def test_another_slice_s_save_leaves_it(
        self, app: Flask, reader: Account, sign_in: SignIn, ids: SeriesStudyIds
    ) -> None:
        self.begin(app, reader, sign_in(reader), ids)
        assess(app, reader, ids, begun_on=ids.image_ids[0])
        assert len(self.drafts(app, reader)) == 1

    def test_others_do_not_see_it(
        self, app: Flask, reader: Account, make_user: MakeUser, sign_in: SignIn,
        ids: SeriesStudyIds,
    ) -> None:  # fmt: skip
        self.begin(app, reader, sign_in(reader), ids, comment="half a sen")
        assert "half a sen" not in sign_in(make_user()).get(f"/studies/{ids.study_id}").text
        stranger = sign_in(make_user(organisation="B"))
        assert stranger.post(f"/studies/{ids.study_id}/draft").status_code == 404

    def test_it_can_be_discarded(
        self, app: Flask, reader: Account, sign_in: SignIn, ids: SeriesStudyIds
    ) -> None:
        browser = sign_in(reader)
        self.begin(app, reader, browser, ids)
        for headers, status in ((HTMX, 200), ({}, 302)):
            answer = browser.post(f"/studies/{ids.study_id}/draft/discard", headers=headers)
            assert answer.status_code == status
        assert self.drafts(app, reader) == []

    def test_nonsense_in_it_breaks_no_page(
        self, app: Flask, reader: Account, sign_in: SignIn, ids: SeriesStudyIds
    ) -> None:
        browser = sign_in(reader)
        wild = {"verdict": "<b>", "scope": "x", "first": "x", "region": "[[[", "label": "\0"}
        self.begin(app, reader, browser, ids, **wild)
        assert browser.get(f"/studies/{ids.study_id}").status_code == 200
        for name in ("image_id", "analysis_id"):
            for value in ("x", str(uuid.uuid4())):
                self.begin(app, reader, browser, ids, **{name: value})
                assert browser.get(f"/studies/{ids.study_id}").status_code == 200

    def test_too_long_is_refused(
        self, reader: Account, sign_in: SignIn, ids: SeriesStudyIds
    ) -> None:
        data = {"comment": "x" * 50_000}
        answer = sign_in(reader).post(f"/studies/{ids.study_id}/draft", data=data)
        assert answer.status_code == 422

    def test_after_30_days_it_is_forgotten(
        self, app: Flask, reader: Account, sign_in: SignIn, ids: SeriesStudyIds
    ) -> None:
        browser = sign_in(reader)
        self.begin(app, reader, browser, ids, comment="half a sen")
        with acting(app, reader):
            assert purge_drafts() == 0
            (draft,) = db.session.scalars(select(AssessmentDraft))
            draft.updated_at = now() - DRAFTS_LAST - timedelta(minutes=1)
            db.session.commit()
        assert "half a sen" not in browser.get(f"/studies/{ids.study_id}").text
        with app.app_context():
            assert purge_drafts() == 1


class TestBlindReading:
    @pytest.fixture
    def reader(self, make_user: MakeUser) -> Account:
        return make_user(name="Dr Reader")

    @pytest.fixture
    def other(self, make_user: MakeUser) -> Account:
        return make_user(name="Dr Other")

    def panel(self, browser: FlaskClient, ids: SeriesStudyIds, position: int = 0) -> str:
        return browser.get(f"/studies/{ids.study_id}/assessment?image={position}").text

    def test_others_are_hidden_until_one_s_own_of_the_same_slice_is_saved(
        self, app: Flask, reader: Account, other: Account, sign_in: SignIn
    ) -> None:
        ids = make_series_study(app, reader, slices=4)
        assess(app, other, ids, images=ids.image_ids, comment="seen by the other")
        assess(app, other, ids, images=None, comment="of all of it")
        browser = sign_in(reader)
        assert "Dr Other" not in self.panel(browser, ids)
        assert "2 assessments are shown once you have saved" in self.panel(browser, ids)
        assess(app, reader, ids)
        assert "seen by the other" in self.panel(browser, ids)
        assert "of all of it" not in self.panel(browser, ids)
        assert "Dr Other" not in self.panel(browser, ids, 1)
        assess(app, reader, ids, images=None)
        assert "of all of it" in self.panel(browser, ids, 1)

    def test_an_administrator_decides(
        self, app: Flask, reader: Account, other: Account, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        ids = make_series_study(app, reader, slices=4)
        assess(app, other, ids)
        administrator = sign_in(make_user(Role.ADMIN))
        assert 'name="blind_reading" value="y" role="switch" checked' in (
            administrator.get("/admin/users").text
        )
        assert sign_in(reader).post("/admin/reading").status_code == 403
        administrator.post("/admin/reading")
        assert "Dr Other" in self.panel(sign_in(reader), ids)
        administrator.post("/admin/reading", data={"blind_reading": "y"})
        assert "Dr Other" not in self.panel(sign_in(reader), ids)
        with acting(app, reader):
            found = select(AuditEvent).where(AuditEvent.action == "set_blind_reading")
            entries = list(db.session.scalars(found.order_by(AuditEvent.created_at)))
            assert [entry.details for entry in entries] == [{"is_on": False}, {"is_on": True}]

    def test_lists_and_files_do_not_tell_either(
        self, app: Flask, reader: Account, other: Account, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        ids = make_series_study(app, reader, slices=4)
        assess(app, other, ids, verdict=Verdict.UNSURE)
        browser, reviewer = sign_in(reader), sign_in(make_user(Role.REVIEWER))
        assert str(ids.study_id) not in browser.get("/history?feedback=unsure").text
        assert "1 unsure" not in browser.get("/history.csv").text
        assert str(ids.study_id) in reviewer.get("/history?feedback=unsure").text
        assert "1 unsure" in reviewer.get("/history.csv").text
        assess(app, reader, ids)
        assert str(ids.study_id) in browser.get("/history?feedback=unsure").text
        assert "1 agree; 1 unsure" in browser.get("/history.csv").text


class TestLists:
    def row(self, app: Flask, reader: Account) -> StudyRow:
        with acting(app, reader) as user:
            (row,) = history(HistoryFilters(), reader=user, after=None).items
            return row

    def test_a_few_slices_are_not_the_study(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        reader = make_user()
        ids = make_series_study(app, reader, slices=12)
        browser = sign_in(reader)
        assert "not yet reviewed" in browser.get("/").text
        assess(app, reader, ids, images=ids.image_ids[:3])
        assert "3 of 12 slices assessed by you" in browser.get("/").text
        assert not self.row(app, reader).own.is_complete
        assess(app, reader, ids, images=ids.image_ids)
        assert self.row(app, reader).own.is_complete
        assert "assessed by you" in browser.get("/").text

    def test_all_key_slices_are(self, app: Flask, make_user: MakeUser) -> None:
        reader = make_user()
        ids = make_series_study(app, reader, slices=12)
        with acting(app, reader):
            analysis = db.session.get_one(Study, ids.study_id).current_analysis
            assert analysis is not None
            keys = [uuid.UUID(one) for one in analysis.key_image_ids or ()]
        assess(app, reader, ids, images=keys[:-1])
        assert not self.row(app, reader).own.is_complete
        assess(app, reader, ids, images=keys[-1:])
        assert self.row(app, reader).own.is_complete

    def test_the_study_as_a_whole_is_until_it_is_analysed_again(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        reader = make_user()
        ids = make_series_study(app, reader, slices=12)
        assess(app, reader, ids, images=None)
        assert self.row(app, reader).own.is_complete
        analyse_again(app, reader, ids)
        assert not self.row(app, reader).own.is_complete
        assert "assessed by you before it was analysed again" in sign_in(reader).get("/").text

    def test_others_assessments_are_not_one_s_own(self, app: Flask, make_user: MakeUser) -> None:
        reader, other = make_user(), make_user()
        ids = make_series_study(app, reader, slices=3)
        assess(app, other, ids, images=ids.image_ids)
        row = self.row(app, reader)
        assert (row.assessment_count, row.own.slices, row.own.is_complete) == (3, 0, False)


def test_nobody_assesses_a_study_of_another_organisation(app: Flask, make_user: MakeUser) -> None:
    ids = make_study(app, make_user(organisation="A"))
    for images in ([ids.image_id], None):
        with pytest.raises(NotFound):
            assess(app, make_user(organisation="B"), ids, images=images)
