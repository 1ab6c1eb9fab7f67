"""Assessments name the analysis, the study and the slice that their readers saw

The table ``feedback`` becomes ``assessment``. Each row gets the analysis of its prediction and
the study of its image; an assessment may be of a study as a whole, and may name a disease that
the model does not know. Drafts are kept, and an organisation says whether its readers are blind
to each other.

On the way back, assessments of studies as a whole and those of other diseases are removed: the
old table has no place for them. Drafts are removed, too.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_OLD = ("id", "image_id", "prediction_id", "reader_id", "verdict", "label", "confidence",
        "comment", "region", "superseded_at", "created_at", "organisation_id")  # fmt: skip


def _enum(name, *values):
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _column(name, kind, nullable=True, default=None):
    return sa.Column(name, kind, nullable=nullable, server_default=default)


def _moment():
    return sa.DateTime(timezone=True)


def _reference(table, column, target, ondelete=None):
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, ondelete=ondelete)


def _names(table, *columns):
    return sa.table(table, *(sa.column(name) for name in columns))


def _common():
    return [
        _column("reader_id", sa.Uuid(), nullable=False),
        _column("verdict", _enum("verdict", "agree", "disagree", "unsure"), nullable=False),
        _column("label", sa.String(length=16)),
        _column("confidence", _enum("confidence", "low", "medium", "high")),
        _column("comment", sa.Text(), nullable=False),
        _column("region", sa.JSON()),
        _column("superseded_at", _moment()),
        _column("created_at", _moment(), nullable=False),
        _column("organisation_id", sa.Uuid(), nullable=False),
    ]


def upgrade():
    op.create_table(
        "assessment",
        _column("id", sa.Uuid(), nullable=False),
        _column("study_id", sa.Uuid(), nullable=False),
        _column("analysis_id", sa.Uuid(), nullable=False),
        _column("image_id", sa.Uuid()),
        _column("prediction_id", sa.Uuid()),
        _column("finding", sa.String(length=64), nullable=False),
        *_common(),
        _reference("assessment", "study_id", "study", "CASCADE"),
        _reference("assessment", "analysis_id", "analysis", "CASCADE"),
        _reference("assessment", "image_id", "image", "CASCADE"),
        _reference("assessment", "prediction_id", "prediction", "CASCADE"),
        _reference("assessment", "reader_id", "user"),
        _reference("assessment", "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assessment")),
    )
    old = _names("feedback", *_OLD)
    new = _names("assessment", *_OLD, "study_id", "analysis_id", "finding")
    image = _names("image", "id", "study_id")
    prediction = _names("prediction", "id", "analysis_id")
    moved = (
        sa.select(
            *(old.c[name] for name in _OLD),
            image.c.study_id,
            prediction.c.analysis_id,
            sa.literal("").label("finding"),
        )
        .join_from(old, image, image.c.id == old.c.image_id)
        .join(prediction, prediction.c.id == old.c.prediction_id)
    )
    op.execute(sa.insert(new).from_select([*_OLD, "study_id", "analysis_id", "finding"], moved))
    op.drop_table("feedback")
    with op.batch_alter_table("assessment") as batch:
        for name in ("study_id", "analysis_id", "image_id", "reader_id", "organisation_id"):
            batch.create_index(batch.f(f"ix_assessment_{name}"), [name], unique=False)
    for name, column, kind in (
        ("uq_assessment_current_of_image", "image_id", "image_id IS NOT NULL"),
        ("uq_assessment_current_of_study", "study_id", "image_id IS NULL"),
    ):
        condition = sa.text(f"superseded_at IS NULL AND {kind}")
        op.create_index(
            name,
            "assessment",
            [column, "reader_id"],
            unique=True,
            sqlite_where=condition,
            postgresql_where=condition,
        )
    op.create_table(
        "assessment_draft",
        _column("id", sa.Uuid(), nullable=False),
        _column("reader_id", sa.Uuid(), nullable=False),
        _column("study_id", sa.Uuid(), nullable=False),
        _column("payload", sa.JSON(), nullable=False),
        _column("updated_at", _moment(), nullable=False),
        _column("created_at", _moment(), nullable=False),
        _column("organisation_id", sa.Uuid(), nullable=False),
        _reference("assessment_draft", "reader_id", "user"),
        _reference("assessment_draft", "study_id", "study", "CASCADE"),
        _reference("assessment_draft", "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assessment_draft")),
        sa.UniqueConstraint(
            "reader_id", "study_id", name=op.f("uq_assessment_draft_reader_id_study_id")
        ),
    )
    with op.batch_alter_table("assessment_draft") as batch:
        for name in ("study_id", "updated_at", "organisation_id"):
            batch.create_index(batch.f(f"ix_assessment_draft_{name}"), [name], unique=False)
    # Without a rebuild of the table: everything refers to it.
    op.add_column(
        "organisation",
        _column("blind_reading", sa.Boolean(), nullable=False, default=sa.sql.true()),
    )


def downgrade():
    op.drop_column("organisation", "blind_reading")
    op.drop_table("assessment_draft")
    op.create_table(
        "feedback",
        _column("id", sa.Uuid(), nullable=False),
        _column("image_id", sa.Uuid(), nullable=False),
        _column("prediction_id", sa.Uuid(), nullable=False),
        *_common(),
        _reference("feedback", "image_id", "image", "CASCADE"),
        _reference("feedback", "prediction_id", "prediction", "CASCADE"),
        _reference("feedback", "reader_id", "user"),
        _reference("feedback", "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    old, new = _names("feedback", *_OLD), _names("assessment", *_OLD)
    kept = sa.select(*(new.c[name] for name in _OLD)).where(
        new.c.image_id.is_not(None),
        new.c.prediction_id.is_not(None),
        sa.or_(new.c.label.is_(None), new.c.label != "other"),
    )
    op.execute(sa.insert(old).from_select(list(_OLD), kept))
    op.drop_table("assessment")
    with op.batch_alter_table("feedback") as batch:
        for name in ("image_id", "organisation_id", "reader_id"):
            batch.create_index(batch.f(f"ix_feedback_{name}"), [name], unique=False)
    op.create_index(
        "uq_feedback_current",
        "feedback",
        ["image_id", "reader_id"],
        unique=True,
        sqlite_where=sa.text("superseded_at IS NULL"),
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
