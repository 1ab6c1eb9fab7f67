"""How the order of a series' slices was found; unknown of series from before

Revision ID: 0011
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a rebuild of the table: images refer to it.
    op.add_column("series", sa.Column("slice_order", sa.String(length=16), nullable=True))


def downgrade() -> None:
    op.drop_column("series", "slice_order")
