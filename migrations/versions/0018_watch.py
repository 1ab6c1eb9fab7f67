"""The watch: what is observed of slices, baselines, weeks that were compared, and alarms

Revision ID: 0018
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def _kind(name, *values):
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _to(table, column, target, **options):
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, **options)


def _table(name, *parts):
    op.create_table(
        name,
        sa.Column("id", sa.Uuid(), nullable=False),
        *parts,
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        _to(name, "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
    )
    op.create_index(op.f(f"ix_{name}_organisation_id"), name, ["organisation_id"])


def upgrade():
    _table(
        "slice_observation",
        sa.Column("analysis_id", sa.Uuid(), nullable=False),
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("stands_for_study", sa.Boolean(), nullable=False),
        sa.Column("figures", sa.LargeBinary(), nullable=False),
        _to("slice_observation", "analysis_id", "analysis", ondelete="CASCADE"),
        _to("slice_observation", "image_id", "image", ondelete="CASCADE"),
    )
    for name, columns in {
        op.f("ix_slice_observation_analysis_id"): ["analysis_id"],
        op.f("ix_slice_observation_image_id"): ["image_id"],
        "ix_slice_observation_window": ["organisation_id", "stands_for_study", "created_at"],
        "ix_slice_observation_age": ["created_at"],
    }.items():
        op.create_index(name, "slice_observation", columns)
    _table(
        "watch_baseline",
        sa.Column("frozen_by_id", sa.Uuid(), nullable=False),
        sa.Column("model_sha256", sa.String(length=64), nullable=False),
        sa.Column("first_at", _MOMENT, nullable=False),
        sa.Column("last_at", _MOMENT, nullable=False),
        sa.Column("studies", sa.Integer(), nullable=False),
        sa.Column("figures", sa.LargeBinary(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("overrides", sa.JSON(), nullable=False),
        _to("watch_baseline", "frozen_by_id", "user"),
    )
    against = ("own", "published", "nothing")
    _table(
        "drift_run",
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        sa.Column("studies", sa.Integer(), nullable=False),
        sa.Column("against", _kind("drift_against", *against), nullable=False),
        sa.Column("baseline_id", sa.Uuid()),
        sa.Column("model_sha256", sa.String(length=64)),
        sa.Column(
            "verdict",
            _kind("drift_verdict", "too_few", "no_baseline", "steady", "changed"),
            nullable=False,
        ),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("assessed", sa.Integer(), nullable=False),
        sa.Column("overridden", sa.Integer(), nullable=False),
        _to("drift_run", "baseline_id", "watch_baseline"),
        sa.UniqueConstraint(
            "organisation_id", "week", "scope", name=op.f("uq_drift_run_organisation_id_week_scope")
        ),
    )
    _table(
        "drift_alarm",
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("family", sa.String(length=16), nullable=False),
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("against", _kind("drift_against", *against), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("cleared_at", _MOMENT),
        sa.Column("acknowledged_at", _MOMENT),
        sa.Column("acknowledged_by_id", sa.Uuid()),
        sa.Column("note", sa.String(length=1000), nullable=False),
        _to("drift_alarm", "acknowledged_by_id", "user"),
    )
    still = sa.text("cleared_at IS NULL")
    op.create_index(
        "uq_drift_alarm_open",
        "drift_alarm",
        ["organisation_id", "scope", "family"],
        unique=True,
        sqlite_where=still,
        postgresql_where=still,
    )


def downgrade():
    for name in ("drift_alarm", "drift_run", "watch_baseline", "slice_observation"):
        op.drop_table(name)
