"""Plans of change and decisions about them, and snapshots that are being made

Rows of ``plan_version`` and ``plan_decision`` can only be added: the database itself refuses to
change or delete one.

Revision ID: 0019
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_REFUSAL = "plans are only ever added"
_KEPT = ("plan_version", "plan_decision")


def _kind(name, *values):
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _to(table, column, target):
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name)


def _owned(table):
    return [
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        _to(table, "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    ]


def _unique(table, *columns):
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def _index(table, column):
    op.create_index(op.f(f"ix_{table}_{column}"), table, [column])


def upgrade():
    _create_plans()
    _create_requests()
    _change_modes("head", "full")


def _create_plans():
    op.create_table(
        "plan_version",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("proposed_by_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=False),
        *_owned("plan_version"),
        _to("plan_version", "proposed_by_id", "user"),
        _unique("plan_version", "organisation_id", "number"),
    )
    _index("plan_version", "organisation_id")
    op.create_table(
        "plan_decision",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("verdict", _kind("plan_verdict", "confirmed", "declined"), nullable=False),
        sa.Column("decided_by_id", sa.Uuid(), nullable=False),
        sa.Column("previous_signature", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=False),
        *_owned("plan_decision"),
        _to("plan_decision", "plan_id", "plan_version"),
        _to("plan_decision", "decided_by_id", "user"),
        _unique("plan_decision", "organisation_id", "number"),
        _unique("plan_decision", "plan_id"),
    )
    _index("plan_decision", "organisation_id")
    _refuse_changes()


def _refuse_changes():
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION plan_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
        )
        for table in _KEPT:
            op.execute(
                f"CREATE TRIGGER {table}_is_kept BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION plan_is_kept()"
            )
        return
    for table in _KEPT:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )


def _create_requests():
    op.create_table(
        "snapshot_request",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("requested_by_id", sa.Uuid(), nullable=False),
        sa.Column(
            "status",
            _kind("snapshot_request_status", "queued", "making", "done", "failed"),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sent_at", _MOMENT, nullable=False),
        sa.Column("lease_until", _MOMENT),
        sa.Column("finished_at", _MOMENT),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=500)),
        *_owned("snapshot_request"),
        _to("snapshot_request", "requested_by_id", "user"),
    )
    for column in ("organisation_id", "status"):
        _index("snapshot_request", column)


def _change_modes(*modes):
    allowed = ", ".join(f"'{mode}'" for mode in modes)
    with op.batch_alter_table("retraining") as batch:
        batch.drop_constraint(op.f("ck_retraining_retraining_mode"), type_="check")
        batch.create_check_constraint(op.f("ck_retraining_retraining_mode"), f"mode IN ({allowed})")


def downgrade():
    _change_modes("head")
    op.drop_table("snapshot_request")
    for table in reversed(_KEPT):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION plan_is_kept()")
