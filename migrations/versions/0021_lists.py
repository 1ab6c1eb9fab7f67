"""Rows that lists are made of, numbers of studies, and the search of their texts

Triggers keep them. Some indexes of ``organisation_id`` alone go: most rows have the same one, and a
planner without statistics reads all of them.

Revision ID: 0021
Revises: 0020
"""

import logging

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_LARGE = (
    "patient", "study", "series", "instance", "image", "analysis", "prediction", "assessment",
    "audit_event",
)  # fmt: skip
_READ = "agreeing + disagreeing + unsure"
_LISTED = {
    "newest": (["organisation_id"], None),
    "status": (["organisation_id", "status"], None),
    "label": (["organisation_id", "label"], None),
    "uploader": (["organisation_id", "uploaded_by_id"], None),
    "uploader_status": (["uploaded_by_id", "status"], None),
    "patient": (["patient_id"], None),
    "urgent": (["organisation_id"], "priority = 'urgent'"),
    "open_urgent": (
        ["organisation_id"],
        f"priority = 'urgent' AND {_READ} = 0 AND status NOT IN ('failed', 'rejected')",
    ),
    "unread": (["organisation_id"], f"{_READ} = 0"),
    "read": (["organisation_id"], f"{_READ} > 0"),
    "agreeing": (["organisation_id"], "agreeing > 0"),
    "disagreeing": (["organisation_id"], "disagreeing > 0"),
    "unsure": (["organisation_id"], "unsure > 0"),
}
_OTHERS = {
    "ix_instance_one_series": ("instance", ["organisation_id", "series_uid"], None),
    "ix_instance_newest": ("instance", ["organisation_id", "created_at", "study_uid"], None),
    "ix_instance_last": ("instance", ["organisation_id", "study_uid", "created_at", "id"], None),
    "ix_instance_patient": ("instance", ["organisation_id", "patient_code", "study_uid"], None),
    "ix_instance_date": ("instance", ["organisation_id", "acquired_on", "study_uid"], None),
    "ix_analysis_newest": ("analysis", ["organisation_id", "purpose", "created_at", "id"], None),
    "ix_analysis_states": (
        "analysis", ["organisation_id", "purpose", "status", "created_at"], None
    ),
    "ix_analysis_waiting": ("analysis", ["status", "purpose", "created_at"], None),
    "ix_analysis_started_at": ("analysis", ["started_at"], None),
    "ix_assessment_current": (
        "assessment", ["organisation_id", "created_at", "id"], "superseded_at IS NULL"
    ),
    "ix_assessment_progress": (
        "assessment", ["organisation_id", "reader_id", "created_at"],
        "superseded_at IS NULL AND image_id IS NOT NULL",
    ),
    "ix_audit_event_of_action": ("audit_event", ["organisation_id", "action", "created_at"], None),
}  # fmt: skip
_log = logging.getLogger(__name__)


def _kind(name, *values):
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _priority():
    return sa.Column("priority", _kind("priority", "routine", "urgent"), nullable=False)


def _status():
    states = ("queued", "running", "done", "failed", "rejected", "superseded")
    return sa.Column("status", _kind("status", *states), nullable=False)


def _to(table, column, target, **options):
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, **options)


def _is_postgresql():
    return op.get_bind().dialect.name == "postgresql"


def upgrade():
    for table in _LARGE:
        op.drop_index(op.f(f"ix_{table}_organisation_id"), table_name=table)
    _create_tables()
    _fill()
    _create_indexes()
    _create_search()
    for statement in _POSTGRESQL if _is_postgresql() else _SQLITE:
        op.execute(sa.text(statement.replace(":", "\\:")))


def _create_tables():
    op.create_table(
        "study_listing",
        sa.Column("number", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("uploaded_by_id", sa.Uuid(), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        _priority(),
        _status(),
        sa.Column("label", sa.String(length=16), nullable=True),
        sa.Column("agreeing", sa.Integer(), nullable=False),
        sa.Column("disagreeing", sa.Integer(), nullable=False),
        sa.Column("unsure", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        _to("study_listing", "study_id", "study", ondelete="CASCADE"),
        _to("study_listing", "organisation_id", "organisation"),
        _to("study_listing", "uploaded_by_id", "user"),
        _to("study_listing", "patient_id", "patient"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_study_listing")),
        sa.UniqueConstraint("study_id", name=op.f("uq_study_listing_study_id")),
    )
    op.create_table(
        "study_tally",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        sa.Column("uploaded_by_id", sa.Uuid(), nullable=False),
        _priority(),
        _status(),
        sa.Column("amount", sa.Integer(), nullable=False),
        _to("study_tally", "organisation_id", "organisation"),
        _to("study_tally", "uploaded_by_id", "user"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_tally")),
    )


def _fill():
    """What the triggers would have written."""
    op.execute(
        sa.text(f"""
        INSERT INTO study_listing (
            study_id, organisation_id, created_at, uploaded_by_id, patient_id, priority,
            status, label, agreeing, disagreeing, unsure, text
        )
        SELECT s.id, s.organisation_id, s.created_at, s.uploaded_by_id, s.patient_id, s.priority,
            coalesce(a.status, 'queued'), CASE WHEN a.status = 'done' THEN a.label END,
            {_counted("agree")}, {_counted("disagree")}, {_counted("unsure")},
            lower(p.code) || {_separator()} || lower(s.description)
        FROM study s JOIN patient p ON p.id = s.patient_id
        LEFT JOIN analysis a ON a.id = s.current_analysis_id
        """)
    )
    op.execute("""
        INSERT INTO study_tally (organisation_id, uploaded_by_id, priority, status, amount)
        SELECT organisation_id, uploaded_by_id, priority, status, count(*) FROM study_listing
        GROUP BY organisation_id, uploaded_by_id, priority, status
    """)


def _counted(verdict):
    return (
        "(SELECT count(*) FROM assessment o WHERE o.study_id = s.id"
        f" AND o.superseded_at IS NULL AND o.verdict = '{verdict}')"
    )


def _separator():
    return "chr(31)" if _is_postgresql() else "char(31)"


def _create_indexes():
    for name, (columns, where) in _LISTED.items():
        in_time = [*columns, "created_at", "study_id"]
        _index(f"ix_study_listing_{name}", "study_listing", in_time, where)
    kind = ["organisation_id", "status", "priority", "uploaded_by_id"]
    op.create_index("ix_study_tally_kind", "study_tally", kind)
    for name, (table, columns, where) in _OTHERS.items():
        _index(name, table, columns, where)


def _index(name, table, columns, where):
    condition = sa.text(where) if where else None
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def _create_search():
    if not _is_postgresql():
        op.execute(
            "CREATE VIRTUAL TABLE study_search USING fts5("
            "text, content='study_listing', content_rowid='number', "
            "tokenize='trigram case_sensitive 1', detail='full')"
        )
        op.execute("INSERT INTO study_search (study_search) VALUES ('rebuild')")
        return
    connection = op.get_bind()
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except DBAPIError as error:
        _log.warning(
            "the search of texts works without an index: the extension pg_trgm cannot be created"
            " (%s). A superuser's CREATE EXTENSION pg_trgm mends it; the index follows by itself",
            error.orig,
        )
        return
    op.execute("CREATE INDEX ix_study_listing_text ON study_listing USING gin (text gin_trgm_ops)")


def _verdicts(sign, row):
    """Assignments that count one current assessment more, or one less."""
    columns = {"agreeing": "agree", "disagreeing": "disagree", "unsure": "unsure"}
    return ", ".join(
        f"{column} = {column} {sign} CASE WHEN {row}.verdict = '{verdict}' THEN 1 ELSE 0 END"
        for column, verdict in columns.items()
    )


def _tally(row, amount):
    return (
        "INSERT INTO study_tally (organisation_id, uploaded_by_id, priority, status, amount)"
        f" VALUES ({row}.organisation_id, {row}.uploaded_by_id, {row}.priority, {row}.status,"
        f" {amount});"
    )


_COUNTED_COLUMNS = ("organisation_id", "uploaded_by_id", "priority", "status")


def _copies(separator):
    """Columns of a listing, computed from the new row of its study, by what they depend on."""
    current = "FROM analysis a WHERE a.id = NEW.current_analysis_id"
    plain = ("organisation_id", "created_at", "uploaded_by_id", "priority")
    return {
        plain: {column: f"NEW.{column}" for column in plain},
        ("patient_id", "description"): {
            "patient_id": "NEW.patient_id",
            "text": "(SELECT lower(p.code) FROM patient p WHERE p.id = NEW.patient_id)"
            f" || {separator} || lower(NEW.description)",
        },
        ("current_analysis_id",): {
            "status": f"coalesce((SELECT a.status {current}), 'queued')",
            "label": f"(SELECT a.label {current} AND a.status = 'done')",
        },
    }


def _insertion(separator):
    copy = {}
    for values in _copies(separator).values():
        copy |= values
    return (
        f"INSERT INTO study_listing (study_id, agreeing, disagreeing, unsure, {', '.join(copy)})"
        f" VALUES (NEW.id, 0, 0, 0, {', '.join(copy.values())});"
    )


def _renewals(separator):
    """What to do when some columns of a study change.

    Each leaves the others alone: a status read here may be older than the one that the worker
    writes at the same moment.
    """
    for columns, copy in _copies(separator).items():
        changes = ", ".join(f"{column} = {value}" for column, value in copy.items())
        yield columns, f"UPDATE study_listing SET {changes} WHERE study_id = NEW.id;"


_ANSWER = (
    "UPDATE study_listing SET status = NEW.status,"
    " label = CASE WHEN NEW.status = 'done' THEN NEW.label END"
    " WHERE study_id = NEW.study_id AND EXISTS"
    " (SELECT 1 FROM study s WHERE s.id = NEW.study_id AND s.current_analysis_id = NEW.id);"
)
_RENAMED = (
    "UPDATE study_listing SET text = lower(NEW.code)"
    " || substr(text, length(lower(OLD.code)) + 1) WHERE patient_id = NEW.id;"
)
_SAID = f"UPDATE study_listing SET {_verdicts('+', 'NEW')} WHERE study_id = NEW.study_id;"
_UNSAID = f"UPDATE study_listing SET {_verdicts('-', 'OLD')} WHERE study_id = OLD.study_id;"
_OTHER_KIND = " OR ".join(f"OLD.{column} <> NEW.{column}" for column in _COUNTED_COLUMNS)
_INTO_SEARCH = "INSERT INTO study_search (rowid, text) VALUES (NEW.number, NEW.text);"
_OUT_OF_SEARCH = (
    "INSERT INTO study_search (study_search, rowid, text) VALUES ('delete', OLD.number, OLD.text);"
)


def _on_sqlite(name, event, body, when=""):
    condition = f"WHEN {when} " if when else ""
    return f"CREATE TRIGGER {name} AFTER {event} FOR EACH ROW {condition}BEGIN {body} END"


_SQLITE = (
    _on_sqlite("study_is_listed", "INSERT ON study", _insertion("char(31)")),
    *(
        _on_sqlite(f"{columns[0]}_is_listed", f"UPDATE OF {', '.join(columns)} ON study", body)
        for columns, body in _renewals("char(31)")
    ),
    _on_sqlite(
        "analysis_is_listed",
        "UPDATE OF status, label ON analysis",
        _ANSWER,
        "OLD.status IS NOT NEW.status OR OLD.label IS NOT NEW.label",
    ),
    _on_sqlite("patient_is_listed", "UPDATE OF code ON patient", _RENAMED),
    _on_sqlite("assessment_is_counted", "INSERT ON assessment", _SAID, "NEW.superseded_at IS NULL"),
    _on_sqlite(
        "assessment_is_uncounted", "DELETE ON assessment", _UNSAID, "OLD.superseded_at IS NULL"
    ),
    # Two triggers, since only one of both rows may be current.
    _on_sqlite(
        "assessment_goes",
        "UPDATE OF superseded_at, verdict, study_id ON assessment",
        _UNSAID,
        "OLD.superseded_at IS NULL",
    ),
    _on_sqlite(
        "assessment_comes",
        "UPDATE OF superseded_at, verdict, study_id ON assessment",
        _SAID,
        "NEW.superseded_at IS NULL",
    ),
    _on_sqlite("listing_comes", "INSERT ON study_listing", _tally("NEW", 1) + _INTO_SEARCH),
    _on_sqlite("listing_goes", "DELETE ON study_listing", _tally("OLD", -1) + _OUT_OF_SEARCH),
    _on_sqlite(
        "listing_changes_kind",
        f"UPDATE OF {', '.join(_COUNTED_COLUMNS)} ON study_listing",
        _tally("OLD", -1) + _tally("NEW", 1),
        _OTHER_KIND,
    ),
    _on_sqlite(
        "listing_changes_text",
        "UPDATE OF text ON study_listing",
        _OUT_OF_SEARCH + _INTO_SEARCH,
        "OLD.text <> NEW.text",
    ),
)


def _function(name, body):
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {body} RETURN NULL; END $$"
    )


def _on_postgresql(function, name, event, when=""):
    condition = f"WHEN ({when}) " if when else ""
    return (
        f"CREATE TRIGGER {name} AFTER {event} FOR EACH ROW {condition}EXECUTE FUNCTION {function}()"
    )


_FUNCTIONS = {
    "list_study": _insertion("chr(31)"),
    **{f"list_{columns[0]}": body for columns, body in _renewals("chr(31)")},
    "list_analysis": _ANSWER,
    "list_patient": _RENAMED,
    "count_assessment": "IF TG_OP <> 'INSERT' THEN IF OLD.superseded_at IS NULL THEN"
    f" {_UNSAID} END IF; END IF; IF TG_OP <> 'DELETE' THEN IF NEW.superseded_at IS NULL THEN"
    f" {_SAID} END IF; END IF;",
    "tally_listing": f"IF TG_OP <> 'INSERT' THEN {_tally('OLD', -1)} END IF;"
    f" IF TG_OP <> 'DELETE' THEN {_tally('NEW', 1)} END IF;",
}
_POSTGRESQL = (
    *(_function(name, body) for name, body in _FUNCTIONS.items()),
    _on_postgresql("list_study", "study_is_listed", "INSERT ON study"),
    *(
        _on_postgresql(
            f"list_{columns[0]}",
            f"{columns[0]}_is_listed",
            f"UPDATE OF {', '.join(columns)} ON study",
        )
        for columns, _body in _renewals("chr(31)")
    ),
    _on_postgresql(
        "list_analysis",
        "analysis_is_listed",
        "UPDATE OF status, label ON analysis",
        "OLD.status IS DISTINCT FROM NEW.status OR OLD.label IS DISTINCT FROM NEW.label",
    ),
    _on_postgresql("list_patient", "patient_is_listed", "UPDATE OF code ON patient"),
    _on_postgresql(
        "count_assessment",
        "assessment_is_counted",
        "INSERT OR DELETE OR UPDATE OF superseded_at, verdict, study_id ON assessment",
    ),
    _on_postgresql("tally_listing", "listing_is_counted", "INSERT OR DELETE ON study_listing"),
    _on_postgresql(
        "tally_listing",
        "listing_changes_kind",
        f"UPDATE OF {', '.join(_COUNTED_COLUMNS)} ON study_listing",
        _OTHER_KIND,
    ),
)
_TRIGGERS = {
    "study": (
        "study_is_listed",
        *(f"{columns[0]}_is_listed" for columns, _body in _renewals("")),
    ),
    "analysis": ("analysis_is_listed",),
    "patient": ("patient_is_listed",),
    "assessment": (
        "assessment_is_counted", "assessment_is_uncounted", "assessment_goes", "assessment_comes"
    ),
}  # fmt: skip


def downgrade():
    for table, names in _TRIGGERS.items():
        for name in names:
            on = f" ON {table}" if _is_postgresql() else ""
            op.execute(f"DROP TRIGGER IF EXISTS {name}{on}")
    if not _is_postgresql():
        # Its triggers name the search, so they go first, with their table.
        op.drop_table("study_listing")
        op.execute("DROP TABLE study_search")
    else:
        op.drop_table("study_listing")
        for name in _FUNCTIONS:
            op.execute(f"DROP FUNCTION {name}()")
    op.drop_table("study_tally")
    for name, (table, _columns, _where) in _OTHERS.items():
        op.drop_index(name, table_name=table)
    for table in _LARGE:
        op.create_index(op.f(f"ix_{table}_organisation_id"), table, ["organisation_id"])
