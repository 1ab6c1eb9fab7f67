"""Shadow runs, trials and recalls: other models asked beside the one that serves

Revision ID: 0017
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_REFUSAL = "deployments are only ever added"
_KINDS = ("promotion", "rollback", "off", "on")


def _kind(name, *values):
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _to(table, column, target, **options):
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, **options)


def _row(table, *columns):
    """The columns of a table of an organisation, with its keys."""
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        *columns,
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        _to(table, "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    ]


def upgrade():
    with op.batch_alter_table("analysis") as batch:
        batch.add_column(sa.Column("candidate_id", sa.Uuid()))
        batch.add_column(sa.Column("compared_with_id", sa.Uuid()))
        batch.create_foreign_key(
            batch.f("fk_analysis_candidate_id_candidate"), "candidate", ["candidate_id"], ["id"]
        )
        batch.create_foreign_key(
            batch.f("fk_analysis_compared_with_id_analysis"),
            "analysis",
            ["compared_with_id"],
            ["id"],
            ondelete="CASCADE",
        )
        batch.create_index(batch.f("ix_analysis_candidate_id"), ["candidate_id"])
        batch.create_index(batch.f("ix_analysis_compared_with_id"), ["compared_with_id"])
    op.add_column("proposal", sa.Column("share", sa.Integer()))
    _rebuild_deployments((*_KINDS, "canary"), is_new=True)
    _create_shadow()
    _create_recall()


def _create_shadow():
    op.create_table(
        "shadow_run",
        *_row(
            "shadow_run",
            sa.Column("candidate_id", sa.Uuid(), nullable=False),
            sa.Column("share", sa.Integer(), nullable=False),
            sa.Column("most", sa.Integer(), nullable=False),
            sa.Column("taken", sa.Integer(), nullable=False),
            sa.Column(
                "status",
                _kind("shadow_status", "running", "finished", "stopped"),
                nullable=False,
            ),
            sa.Column("reached", _MOMENT, nullable=False),
            sa.Column("started_by_id", sa.Uuid(), nullable=False),
            sa.Column("ended_by_id", sa.Uuid()),
            sa.Column("ended_at", _MOMENT),
            _to("shadow_run", "candidate_id", "candidate"),
            _to("shadow_run", "started_by_id", "user"),
            _to("shadow_run", "ended_by_id", "user"),
        ),
    )
    for column in ("candidate_id", "organisation_id"):
        op.create_index(op.f(f"ix_shadow_run_{column}"), "shadow_run", [column])
    runs = sa.text("status = 'running'")
    op.create_index(
        "uq_shadow_run_running",
        "shadow_run",
        ["organisation_id"],
        unique=True,
        sqlite_where=runs,
        postgresql_where=runs,
    )


def _create_recall():
    op.create_table(
        "recall_run",
        *_row(
            "recall_run",
            sa.Column("deployment_id", sa.Uuid(), nullable=False),
            sa.Column("candidate_id", sa.Uuid(), nullable=False),
            sa.Column("everything", sa.Boolean(), nullable=False),
            sa.Column(
                "status",
                _kind("recall_status", "running", "paused", "done", "stopped", "withdrawn"),
                nullable=False,
            ),
            sa.Column("taken", sa.Integer(), nullable=False),
            sa.Column("reached", _MOMENT),
            sa.Column("changed_by_id", sa.Uuid()),
            _to("recall_run", "deployment_id", "deployment"),
            _to("recall_run", "candidate_id", "candidate"),
            _to("recall_run", "changed_by_id", "user"),
            sa.UniqueConstraint("deployment_id", name=op.f("uq_recall_run_deployment_id")),
        ),
    )
    for column in ("candidate_id", "status", "organisation_id"):
        op.create_index(op.f(f"ix_recall_run_{column}"), "recall_run", [column])
    op.create_table(
        "recall_case",
        *_row(
            "recall_case",
            sa.Column("run_id", sa.Uuid(), nullable=False),
            sa.Column("study_id", sa.Uuid(), nullable=False),
            sa.Column("before_id", sa.Uuid(), nullable=False),
            sa.Column("after_id", sa.Uuid(), nullable=False),
            sa.Column(
                "change",
                _kind("change", "tumour_found", "class_changed", "less_ruled_out"),
                nullable=False,
            ),
            sa.Column("acknowledged_by_id", sa.Uuid()),
            sa.Column("acknowledged_at", _MOMENT),
            sa.Column("note", sa.String(length=1000), nullable=False),
            _to("recall_case", "run_id", "recall_run", ondelete="CASCADE"),
            _to("recall_case", "study_id", "study", ondelete="CASCADE"),
            _to("recall_case", "before_id", "analysis", ondelete="CASCADE"),
            _to("recall_case", "after_id", "analysis", ondelete="CASCADE"),
            _to("recall_case", "acknowledged_by_id", "user"),
            sa.UniqueConstraint("run_id", "study_id", name=op.f("uq_recall_case_run_id_study_id")),
        ),
    )
    for column in ("study_id", "organisation_id"):
        op.create_index(op.f(f"ix_recall_case_{column}"), "recall_case", [column])
    op.create_index("ix_recall_case_open", "recall_case", ["organisation_id", "acknowledged_at"])


def _rebuild_deployments(kinds, *, is_new):
    """Other kinds and columns; the triggers that keep the rows are put back afterwards."""
    _let_change()
    if not is_new:
        op.execute("DELETE FROM deployment WHERE kind = 'canary' OR decided_by_id IS NULL")
    name = "ck_deployment_deployment_kind"
    values = ", ".join(f"'{kind}'" for kind in kinds)
    with op.batch_alter_table("deployment") as batch:
        batch.drop_constraint(batch.f(name), type_="check")
        batch.create_check_constraint(batch.f(name), f"kind IN ({values})")
        batch.alter_column("decided_by_id", existing_type=sa.Uuid(), nullable=is_new)
        if is_new:
            batch.add_column(sa.Column("share", sa.Integer()))
        else:
            batch.drop_column("share")
    _refuse_changes()


def _let_change():
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER deployment_is_kept ON deployment")
        return
    for verb in ("update", "delete"):
        op.execute(f"DROP TRIGGER deployment_no_{verb}")


def _refuse_changes():
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER deployment_is_kept BEFORE UPDATE OR DELETE ON deployment "
            "FOR EACH ROW EXECUTE FUNCTION deployment_is_kept()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER deployment_no_{verb.lower()} BEFORE {verb} ON deployment "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )


def downgrade():
    for table in ("recall_case", "recall_run", "shadow_run"):
        op.drop_table(table)
    _rebuild_deployments(_KINDS, is_new=False)
    op.drop_column("proposal", "share")
    # SQLite's foreign keys are off here: nothing follows by itself.
    op.execute(
        "DELETE FROM prediction WHERE analysis_id IN "
        "(SELECT id FROM analysis WHERE candidate_id IS NOT NULL)"
    )
    op.execute("DELETE FROM analysis WHERE candidate_id IS NOT NULL")
    with op.batch_alter_table("analysis") as batch:
        for column, target in (("candidate_id", "candidate"), ("compared_with_id", "analysis")):
            batch.drop_index(batch.f(f"ix_analysis_{column}"))
            batch.drop_constraint(batch.f(f"fk_analysis_{column}_{target}"), type_="foreignkey")
            batch.drop_column(column)
