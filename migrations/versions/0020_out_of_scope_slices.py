"""Snapshots' lists of slices that show none of the classes

Snapshots from before have none; their slices stay as they are.

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_INDEX = "ix_snapshot_out_of_scope_key"


def upgrade():
    op.add_column("snapshot", sa.Column("out_of_scope_key", sa.String(length=64), nullable=True))
    op.create_index(op.f(_INDEX), "snapshot", ["out_of_scope_key"])


def downgrade():
    op.drop_index(op.f(_INDEX), table_name="snapshot")
    op.execute("DELETE FROM snapshot_slice WHERE part = 'out_of_scope'")
    with op.batch_alter_table("snapshot") as batch:
        batch.drop_column("out_of_scope_key")
