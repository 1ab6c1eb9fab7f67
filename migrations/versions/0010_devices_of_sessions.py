"""Sessions know the family of browser and operating system that they were begun with

Those of before do not, and are listed as of an unknown device.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS = ("browser", "system")


def upgrade():
    for name in _COLUMNS:
        op.add_column(
            "user_session",
            sa.Column(name, sa.String(length=20), nullable=False, server_default=""),
        )


def downgrade():
    for name in _COLUMNS:
        op.drop_column("user_session", name)
