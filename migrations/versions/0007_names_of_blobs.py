"""Blobs are found by their names, so that those that nothing names can be removed

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_INDEXES = (
    ("ix_image_blob", "image", "blob_key"),
    ("ix_image_source", "image", "source_key"),
    ("ix_instance_blob", "instance", "blob_key"),
    ("ix_prediction_heatmap", "prediction", "heatmap_key"),
)


def upgrade() -> None:
    for name, table, column in _INDEXES:
        op.create_index(name, table, [column])


def downgrade() -> None:
    for name, table, _column in reversed(_INDEXES):
        op.drop_index(name, table_name=table)
