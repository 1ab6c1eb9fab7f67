"""Workers say that they are there, and ended analyses are counted by an index

On PostgreSQL the index is made beside writers, so that a running portal goes on.

Revision ID: 0023
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0021"
branch_labels = None
depends_on = None

_INDEX = "ix_analysis_finished_at"


def upgrade():
    if op.get_bind().dialect.name == "postgresql":
        # First, and only if it is missing: this block commits, and may be run again.
        with op.get_context().autocommit_block():
            op.create_index(
                _INDEX,
                "analysis",
                ["finished_at"],
                if_not_exists=True,
                postgresql_concurrently=True,
            )
    else:
        op.create_index(_INDEX, "analysis", ["finished_at"])
    op.create_table(
        "worker_process",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=16), nullable=False),
        sa.Column("queues", sa.JSON(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("tasks_done", sa.Integer(), nullable=False),
        sa.Column("doing", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker_process")),
    )


def downgrade():
    op.drop_table("worker_process")
    op.drop_index(_INDEX, table_name="analysis")
