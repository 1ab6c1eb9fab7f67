"""No list reads a whole table: the plans of its statements name an index for every large one."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from benchmarks import lists
from tests.statements import Statement, sent_to_database
from webapp.accounts.queries import find_user_by_address
from webapp.database import db, renew_statistics
from webapp.studies.listing import merge_tallies

pytestmark = pytest.mark.integration
LARGE = {
    "patient", "study", "series", "instance", "image", "analysis", "prediction", "assessment",
    "study_listing", "telling_slice", "audit_event",
}  # fmt: skip
# The index by which a page of a list is found: the beginning of a range of it, in order.
IN_ORDER = {
    "/worklist/rows": "newest",
    "/worklist/rows?status=failed": "status",
    "/worklist/rows?priority=urgent": "urgent",
    "/worklist/rows?mine=1": "uploader",
    "/history": "newest",
    "/history?status=running": "status",
    "/history?label=glioma": "label",
    "/history?feedback=none": "unread",
    "/history?feedback=any": "read",
    "/history?feedback=agree": "agreeing",
    "/history?feedback=disagree": "disagreeing",
    "/history?feedback=unsure": "unsure",
    "/history?from=2025-12-26&to=2025-12-29": "newest",
    "/history?q=up": "newest",
    "/history.csv?status=failed": "status",
    "/api/v1/studies?limit=5": "newest",
}
OTHERS = (
    "/history?q=cavernoma",
    "/history?q=follow-up&status=done",
    "/history?uploader={uploader}",
    "/history.csv",
    "/api/v1/studies?patient_code=P-000002",
    "/api/v1/feedback?limit=5",
    "/dicomweb/studies?limit=5",
    "/dicomweb/studies?PatientID=P-000002",
    "/dicomweb/studies?StudyDate=20251226-20251229&limit=5",
    "/dicomweb/studies?ModalitiesInStudy=MR&limit=5",
    "/dicomweb/instances?limit=5",
    "/admin/jobs",
    "/reading",
    "/reading/mine",
    "/recall",
    "/disputes",
)
MOST_STATEMENTS = 30  # of a page, whatever it shows
NOTHING = "1 != 1"  # of a condition that an empty list cannot meet


@pytest.fixture
def filled(app: Flask) -> Flask:
    """A portal with studies of four organisations."""
    with app.app_context():
        people = lists._people()
        with db.engine.begin() as connection:
            lists._fill(connection, 1200, people)
        merge_tallies()
        with db.engine.connect() as connection:
            renew_statistics(connection)
        db.session.remove()
    return app


def plan_of(statement: Statement, *, in_order: bool) -> list[str]:
    """One line a step: how a table is read, and by which index.

    A table of a test is read at once: what counts is whether PostgreSQL has another way.
    """
    sql, values = statement
    with db.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
            return [row.detail for row in rows]
        for way in ("seqscan", *(("sort", "bitmapscan") if in_order else ())):
            connection.execute(text(f"SET LOCAL enable_{way} = off"))
        (found,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", values).scalars()
        plan = found if isinstance(found, list) else json.loads(found)
        return list(_steps(plan[0]["Plan"]))


def _steps(node: dict[str, Any]) -> Iterator[str]:
    table, index = node.get("Relation Name"), node.get("Index Name")
    if table and node["Node Type"] != "Bitmap Heap Scan":
        way = "SEARCH" if node.get("Index Cond") else "SCAN"
        yield f"{way} {table} USING INDEX {index}"
    elif index:  # of a bitmap, which names no table
        yield f"SEARCH BY {index}"
    elif node["Node Type"] == "Sort":
        yield f"SORT {node['Sort Key']}"
    for child in node.get("Plans", ()):
        yield from _steps(child)


def whole_tables(plan: list[str]) -> list[str]:
    """The steps that read all of a large table, or all of an index of it."""
    return [
        step
        for step in plan
        if (found := re.match(r"SCAN (\w+?)(_\d+)?( |$)", step)) and found[1] in LARGE
    ]


def ask(client: FlaskClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200, address
    assert answer.text  # a stream is read to its end


def test_lists_read_ranges_of_indexes(filled: Flask) -> None:
    with filled.app_context():
        uploader = find_user_by_address("clinician-0-a@example.org").id
        db.session.remove()
    # As a reviewer, and with a token as the program of one; the administrator sees jobs.
    page = lists._signed_in(filled, "admin-0-a@example.org")
    program = lists._with_token(filled, "reviewer-0-a@example.org")
    faults: dict[str, list[str]] = {}
    for address in (*IN_ORDER, *OTHERS):
        client = program if address.startswith(("/api", "/dicomweb")) else page
        with sent_to_database(filled) as statements:
            ask(client, address.format(uploader=uploader))
        with filled.app_context():
            plans = [
                plan_of(one, in_order=address in IN_ORDER)
                for one in statements
                if one[0].startswith("SELECT") and NOTHING not in one[0]
            ]
        read = [step for plan in plans for step in whole_tables(plan)]
        name = f"ix_study_listing_{IN_ORDER.get(address)}"
        listed = [plan for plan in plans if re.search(rf"{name}\b", " ".join(plan))]
        if address in IN_ORDER and not listed:
            read.append(f"not by {name}: {plans}")
        if len(statements) > MOST_STATEMENTS and ".csv" not in address:
            read.append(f"{len(statements)} statements")
        if read:
            faults[address] = read
    assert not faults, "\n".join(f"{address}: {found}" for address, found in faults.items())
