"""How the order of slices was found, and pixels of which only the shape is known

Both are unknown of what came before.

Revision ID: 0011
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a rebuild of the tables: others refer to them.
    op.add_column("series", sa.Column("slice_order", sa.String(length=16), nullable=True))
    op.add_column("image", sa.Column("pixel_aspect", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("image", "pixel_aspect")
    op.drop_column("series", "slice_order")
