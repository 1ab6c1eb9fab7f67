"""Candidates, what the gates said about them, proposals, and the list of deployments

Rows of ``deployment`` can only be added: the database itself refuses to change or delete one.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_REFUSAL = "deployments are only ever added"


def _kind(name, *values):
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _to(table, column, target, **options):
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, **options)


def _owned(table):
    return [
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        _to(table, "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    ]


def _index(table, *columns):
    op.create_index(op.f(f"ix_{table}_{columns[0]}"), table, list(columns))


def upgrade():
    op.create_table(
        "candidate",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("card_name", sa.String(length=200), nullable=False),
        sa.Column("registered_by_id", sa.Uuid(), nullable=False),
        *_owned("candidate"),
        _to("candidate", "model_version_id", "model_version"),
        _to("candidate", "registered_by_id", "user"),
        sa.UniqueConstraint(
            "organisation_id",
            "model_version_id",
            name=op.f("uq_candidate_organisation_id_model_version_id"),
        ),
    )
    _index("candidate", "organisation_id")
    op.create_table(
        "candidate_file",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("blob_key", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        *_owned("candidate_file"),
        _to("candidate_file", "candidate_id", "candidate", ondelete="CASCADE"),
        sa.UniqueConstraint(
            "candidate_id", "name", name=op.f("uq_candidate_file_candidate_id_name")
        ),
    )
    _index("candidate_file", "organisation_id")
    op.create_index("ix_candidate_file_blob", "candidate_file", ["blob_key"])
    op.create_table(
        "gate_run",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("requested_by_id", sa.Uuid(), nullable=False),
        sa.Column(
            "status",
            _kind("gate_status", "queued", "running", "passed", "failed", "broken"),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sent_at", _MOMENT, nullable=False),
        sa.Column("lease_until", _MOMENT),
        sa.Column("finished_at", _MOMENT),
        sa.Column("report", sa.JSON()),
        sa.Column("signature", sa.String(length=64)),
        sa.Column("reason", sa.String(length=500)),
        *_owned("gate_run"),
        _to("gate_run", "candidate_id", "candidate", ondelete="CASCADE"),
        _to("gate_run", "requested_by_id", "user"),
        sa.UniqueConstraint("candidate_id", "number", name=op.f("uq_gate_run_candidate_id_number")),
    )
    _index("gate_run", "organisation_id")
    _index("gate_run", "status")
    op.create_table(
        "proposal",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("gate_run_id", sa.Uuid(), nullable=False),
        sa.Column("proposed_by_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("decision", _kind("decision", "confirmed", "declined")),
        sa.Column("decided_by_id", sa.Uuid()),
        sa.Column("decided_at", _MOMENT),
        *_owned("proposal"),
        _to("proposal", "candidate_id", "candidate"),
        _to("proposal", "gate_run_id", "gate_run"),
        _to("proposal", "proposed_by_id", "user"),
        _to("proposal", "decided_by_id", "user"),
    )
    _index("proposal", "organisation_id")
    _index("proposal", "candidate_id")
    is_open = sa.text("decision IS NULL")
    op.create_index(
        "uq_proposal_open",
        "proposal",
        ["organisation_id"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_table(
        "deployment",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            _kind("deployment_kind", "promotion", "rollback", "off", "on"),
            nullable=False,
        ),
        sa.Column("candidate_id", sa.Uuid()),
        sa.Column("gate_run_id", sa.Uuid()),
        sa.Column("proposed_by_id", sa.Uuid()),
        sa.Column("decided_by_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("previous_signature", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=False),
        *_owned("deployment"),
        _to("deployment", "candidate_id", "candidate"),
        _to("deployment", "gate_run_id", "gate_run"),
        _to("deployment", "proposed_by_id", "user"),
        _to("deployment", "decided_by_id", "user"),
        sa.UniqueConstraint(
            "organisation_id", "number", name=op.f("uq_deployment_organisation_id_number")
        ),
    )
    _index("deployment", "organisation_id")
    _refuse_changes()


def _refuse_changes():
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION deployment_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
        )
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
    for table in ("deployment", "proposal", "gate_run", "candidate_file", "candidate"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION deployment_is_kept()")
