"""Archives find the same studies, in the same order, whichever way they are looked up."""

from datetime import datetime

import pytest
from flask import Flask
from sqlalchemy import func, select
from werkzeug.datastructures import MultiDict

from benchmarks import lists
from webapp.database import db
from webapp.dicomweb import searching
from webapp.dicomweb.criteria import parse_query
from webapp.dicomweb.searching import find_series, find_studies
from webapp.studies.models import Instance
from webapp.tenancy import acting_for

QUERIES = (
    {},
    {"limit": "7", "offset": "3"},
    {"StudyDate": "20251231"},
    {"StudyDate": "-20251230", "limit": "5"},
    {"StudyDate": "20251230-"},
    {"ModalitiesInStudy": "CT,MR", "limit": "9"},
    {"Modality": "CT"},
    {"PatientID": "P-00000*", "limit": "4"},
    {"Rows": "64", "StudyDate": "20251231", "offset": "2"},
)


def uids(found: searching.Found) -> list[str]:
    return [one["0020000D"]["Value"][0] for one in found.results]


def received(*conditions: object) -> list[str]:
    """Studies with an instance that meets the conditions, latest received first."""
    last: dict[str, datetime] = dict(
        db.session.execute(
            select(Instance.study_uid, func.max(Instance.created_at)).group_by(Instance.study_uid)
        ).all()
    )
    wanted = set(db.session.scalars(select(Instance.study_uid).where(*conditions)))
    return sorted(wanted, key=lambda uid: last[uid], reverse=True)


def test_studies_are_found_one_by_one_and_back_in_time(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with app.app_context():
        people = lists._people()
        with db.engine.begin() as connection:
            lists._fill(connection, 200, people)
        db.session.remove()
    with app.test_request_context(), acting_for(people["A"][0]):
        for values in QUERIES:
            query = parse_query(MultiDict(values))
            expected = received(*query.conditions)
            page = expected[query.offset : query.offset + query.limit]
            for few in (1000, 0):
                monkeypatch.setattr(searching, "_FEW", few)
                found = find_studies(query)
                assert uids(found) == page, (values, few)
                assert found.more == (len(expected) > query.offset + query.limit)
            assert page or values == {"Modality": "CT"}
        one = expected[0]
        series = find_series(parse_query(MultiDict({"StudyInstanceUID": one})))
        assert uids(series) == [one]
