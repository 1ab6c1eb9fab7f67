"""The reading room: slices worth a look, readings without the model's answer, who saw it

Of analyses from before, the slices worth a look are found by what the database can compare: of
several classes the largest set, of unfamiliar slices the least familiar one.

Revision ID: 0016
Revises: 0015
"""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_REASONS = ("disputed", "candidate", "contradicting", "uncertain", "unfamiliar", "audit")
_AUDIT_SHARE = 0.02  # webapp.inference.telling.AUDIT_SHARE when this was written
_VOTES = "superseded_at IS NULL AND image_id IS NOT NULL"
_SHADOWS = "purpose = 'shadow' AND status = 'done'"


def _to(table, column, target, **options):
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, **options)


def _owned(table, *key):
    return [
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        _to(table, "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint(*(key or ("id",)), name=op.f(f"pk_{table}")),
    ]


def _index(table, *columns):
    for column in columns:
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column])


def _index_where(condition, name, table, columns):
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _telling_slices():
    op.create_table(
        "telling_slice",
        sa.Column("analysis_id", sa.Uuid(), nullable=False),
        sa.Column(
            "reason",
            sa.Enum(
                *_REASONS,
                name="reading_reason",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        *_owned("telling_slice", "analysis_id", "reason"),
        _to("telling_slice", "analysis_id", "analysis", ondelete="CASCADE"),
        _to("telling_slice", "image_id", "image", ondelete="CASCADE"),
    )
    _index("telling_slice", "image_id", "organisation_id")
    op.create_index(
        "ix_telling_slice_queue",
        "telling_slice",
        ["organisation_id", "reason", "score", "image_id"],
    )
    _find_earlier_ones()


def _find_earlier_ones():
    bound = uuid.UUID(int=int(_AUDIT_SHARE * 2**128))
    limit = bound.hex if op.get_bind().dialect.name == "sqlite" else str(bound)
    several = "json_array_length(p.prediction_set) <> 1"
    _insert("uncertain", several, "json_array_length(p.prediction_set) DESC, p.image_id", "0.0")
    strange = "NOT p.in_distribution"
    score = "CASE WHEN p.ood_score > 0 THEN p.ood_score / (1 + p.ood_score) ELSE 0.0 END"
    _insert("unfamiliar", strange, "p.ood_score DESC, p.image_id", score)
    _insert("audit", f"p.image_id < '{limit}'", "p.image_id", "0.0")
    against = "p.label <> a.label AND p.label <> 'no_tumor' AND a.label <> 'no_tumor'"
    named = f"{against} AND CAST(a.contradicting_images AS TEXT) LIKE {_as_text('p.image_id')}"
    _insert("contradicting", named, "p.image_id", "0.0")


def _as_text(column):
    """The id as it stands in JSON, between per cent signs; SQLite stores it without hyphens."""
    if op.get_bind().dialect.name != "sqlite":
        return f"'%' || CAST({column} AS TEXT) || '%'"
    parts = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)]
    cut = " || '-' || ".join(f"substr({column}, {start}, {size})" for start, size in parts)
    return f"'%' || {cut} || '%'"


def _insert(reason, condition, order, score):
    op.execute(
        sa.text(
            f"""
            INSERT INTO telling_slice
                (analysis_id, reason, image_id, score, created_at, organisation_id)
            SELECT analysis_id, '{reason}', image_id, score, created_at, organisation_id
            FROM (
                SELECT p.analysis_id, p.image_id, {score} AS score, p.created_at,
                    p.organisation_id,
                    ROW_NUMBER() OVER (PARTITION BY p.analysis_id ORDER BY {order}) AS place
                FROM prediction p
                JOIN study s ON s.current_analysis_id = p.analysis_id
                JOIN analysis a ON a.id = p.analysis_id AND a.status = 'done'
                WHERE {condition}
            ) found
            WHERE place = 1
            """
        )
    )


def upgrade():
    op.add_column(
        "organisation",
        sa.Column("blind_share", sa.Integer(), nullable=False, server_default="0"),
    )
    op.add_column(
        "assessment",
        sa.Column("model_shown", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    op.create_index("ix_assessment_of_reader", "assessment", ["reader_id", "created_at", "id"])
    votes = ["organisation_id", "image_id", "label", "created_at"]  # all that the queue compares
    _index_where(_VOTES, "ix_assessment_votes", "assessment", votes)
    _index_where(_SHADOWS, "ix_analysis_shadow", "analysis", ["organisation_id", "finished_at"])
    _index("snapshot_slice", "image_id")
    op.create_table(
        "study_sight",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("reader_id", sa.Uuid(), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("image_id", sa.Uuid()),
        sa.Column("answer_shown_at", _MOMENT),
        *_owned("study_sight"),
        _to("study_sight", "reader_id", "user"),
        _to("study_sight", "study_id", "study", ondelete="CASCADE"),
        _to("study_sight", "image_id", "image", ondelete="CASCADE"),
        sa.UniqueConstraint(
            "reader_id", "study_id", name=op.f("uq_study_sight_reader_id_study_id")
        ),
    )
    _index("study_sight", "study_id", "image_id", "organisation_id")
    op.create_table(
        "blind_reading",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("reader_id", sa.Uuid(), nullable=False),
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("first_id", sa.Uuid(), nullable=False),
        sa.Column("final_id", sa.Uuid()),
        sa.Column("first_label", sa.String(length=16)),
        sa.Column("model_label", sa.String(length=16), nullable=False),
        sa.Column("final_label", sa.String(length=16)),
        *_owned("blind_reading"),
        _to("blind_reading", "reader_id", "user"),
        _to("blind_reading", "image_id", "image", ondelete="CASCADE"),
        _to("blind_reading", "first_id", "assessment", ondelete="CASCADE"),
        _to("blind_reading", "final_id", "assessment", ondelete="CASCADE"),
        sa.UniqueConstraint("first_id", name=op.f("uq_blind_reading_first_id")),
    )
    _index("blind_reading", "reader_id", "image_id", "final_id", "organisation_id")
    _telling_slices()


def downgrade():
    for name in ("telling_slice", "blind_reading", "study_sight"):
        op.drop_table(name)
    op.drop_index(op.f("ix_snapshot_slice_image_id"), table_name="snapshot_slice")
    op.drop_index("ix_analysis_shadow", table_name="analysis")
    op.drop_index("ix_assessment_votes", table_name="assessment")
    op.drop_index("ix_assessment_of_reader", table_name="assessment")
    op.drop_column("assessment", "model_shown")
    op.drop_column("organisation", "blind_share")
