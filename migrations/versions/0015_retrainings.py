"""Retrainings: models made anew from snapshots

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def _kind(name, *values):
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _to(column, target):
    name = op.f(f"fk_retraining_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name)


def upgrade():
    op.create_table(
        "retraining",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("snapshot_id", sa.Uuid(), nullable=False),
        sa.Column("mode", _kind("retraining_mode", "head"), nullable=False),
        sa.Column("requested_by_id", sa.Uuid(), nullable=False),
        sa.Column(
            "status",
            _kind("retraining_status", "queued", "running", "done", "failed", "cancelled"),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sent_at", _MOMENT, nullable=False),
        sa.Column("lease_until", _MOMENT),
        sa.Column("started_at", _MOMENT),
        sa.Column("finished_at", _MOMENT),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("started_from", sa.String(length=64)),
        sa.Column("step", sa.String(length=80), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(length=500)),
        sa.Column("candidate_id", sa.Uuid()),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        _to("snapshot_id", "snapshot"),
        _to("requested_by_id", "user"),
        _to("candidate_id", "candidate"),
        _to("organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retraining")),
    )
    for name in ("snapshot_id", "status", "organisation_id"):
        op.create_index(op.f(f"ix_retraining_{name}"), "retraining", [name])


def downgrade():
    op.drop_table("retraining")
