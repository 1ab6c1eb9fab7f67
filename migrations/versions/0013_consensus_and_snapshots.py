"""Data stewards; readers who agree, disagree and are flagged; snapshots

Assessments say whether they were given before another reader's could be seen. Of those from
before only so much is known: the first ones of a slice were.

On the way back, data stewards become reviewers: the old check has no place for them.

Revision ID: 0013
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None

_ROLES = ("clinician", "reviewer", "steward", "admin")
_WITH_ROLES = ("user", "invitation")


def _allow_roles(*roles: str) -> None:
    for table in _WITH_ROLES:
        name = f"ck_{table}_role"
        values = ", ".join(f"'{role}'" for role in roles)
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(batch.f(name), type_="check")
            batch.create_check_constraint(batch.f(name), f"role IN ({values})")


_MOMENT = sa.DateTime(timezone=True)


def _row(*columns: sa.Column) -> list[sa.Column]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        *columns,
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
    ]


def _reference(table: str, column: str, target: str, ondelete: str | None = None):
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, ondelete=ondelete)


def _index(table: str, *columns: str) -> None:
    for column in columns:
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column], unique=False)


def _unique_while(condition: str, name: str, table: str, column: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, [column], unique=True, sqlite_where=where, postgresql_where=where)


def _say_what_was_blind() -> None:
    columns = ("id", "study_id", "image_id", "reader_id", "created_at", "blind")
    said = sa.table("assessment", *(sa.column(name) for name in columns))
    other = said.alias("other")
    about_the_same = sa.or_(
        other.c.image_id == said.c.image_id,
        sa.and_(other.c.study_id == said.c.study_id, other.c.image_id.is_(None)),
    )
    before = sa.exists().where(
        about_the_same,
        other.c.reader_id != said.c.reader_id,
        other.c.created_at <= said.c.created_at,
    )
    op.execute(sa.update(said).where(~before).values(blind=sa.true()))


def _consensus() -> None:
    op.add_column(
        "assessment",
        sa.Column("blind", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    _say_what_was_blind()
    op.create_table(
        "adjudication",
        *_row(
            sa.Column("image_id", sa.Uuid(), nullable=False),
            sa.Column("adjudicator_id", sa.Uuid(), nullable=False),
            sa.Column("label", sa.String(length=16), nullable=False),
            sa.Column("finding", sa.String(length=64), nullable=False),
            sa.Column("comment", sa.Text(), nullable=False),
            sa.Column("about", sa.JSON(), nullable=False),
            sa.Column("superseded_at", _MOMENT),
        ),
        _reference("adjudication", "image_id", "image", "CASCADE"),
        _reference("adjudication", "adjudicator_id", "user"),
        _reference("adjudication", "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjudication")),
    )
    _index("adjudication", "image_id", "adjudicator_id", "organisation_id")
    _unique_while(
        "superseded_at IS NULL AND image_id IS NOT NULL",
        "uq_adjudication_current",
        "adjudication",
        "image_id",
    )
    op.create_table(
        "reader_flag",
        *_row(
            sa.Column("reader_id", sa.Uuid(), nullable=False),
            sa.Column("evidence", sa.JSON(), nullable=False),
            sa.Column("lifted_at", _MOMENT),
            sa.Column("lifted_by_id", sa.Uuid()),
        ),
        _reference("reader_flag", "reader_id", "user"),
        _reference("reader_flag", "lifted_by_id", "user"),
        _reference("reader_flag", "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reader_flag")),
    )
    _index("reader_flag", "reader_id", "organisation_id")
    _unique_while("lifted_at IS NULL", "uq_reader_flag_standing", "reader_flag", "reader_id")


def _snapshots() -> None:
    op.create_table(
        "snapshot",
        *_row(
            sa.Column("name", sa.String(length=120), nullable=False),
            sa.Column("created_by_id", sa.Uuid()),
            sa.Column("plan_version", sa.Integer(), nullable=False),
            sa.Column("plan_sha256", sa.String(length=64), nullable=False),
            sa.Column("counts", sa.JSON(), nullable=False),
            sa.Column("left_out", sa.JSON(), nullable=False),
            sa.Column("manifest_sha256", sa.String(length=64), nullable=False),
            sa.Column("images_sha256", sa.String(length=64), nullable=False),
            sa.Column("manifest_key", sa.String(length=64), nullable=False),
            sa.Column("card_key", sa.String(length=64), nullable=False),
        ),
        _reference("snapshot", "created_by_id", "user"),
        _reference("snapshot", "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot")),
        sa.UniqueConstraint(
            "organisation_id", "name", name=op.f("uq_snapshot_organisation_id_name")
        ),
    )
    _index("snapshot", "organisation_id", "manifest_key", "card_key")
    op.create_table(
        "snapshot_slice",
        *_row(
            sa.Column("snapshot_id", sa.Uuid(), nullable=False),
            sa.Column("image_id", sa.Uuid(), nullable=False),
            sa.Column("blob_key", sa.String(length=64), nullable=False),
            sa.Column("label", sa.String(length=16), nullable=False),
            sa.Column("patient_group", sa.String(length=64), nullable=False),
            sa.Column("part", sa.String(length=16), nullable=False),
            sa.Column("fold", sa.Integer(), nullable=False),
            sa.Column("rule", sa.String(length=16), nullable=False),
        ),
        _reference("snapshot_slice", "snapshot_id", "snapshot", "CASCADE"),
        _reference("snapshot_slice", "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_slice")),
        sa.UniqueConstraint(
            "snapshot_id", "blob_key", name=op.f("uq_snapshot_slice_snapshot_id_blob_key")
        ),
    )
    _index("snapshot_slice", "organisation_id", "blob_key")
    op.create_index(
        "ix_snapshot_slice_group", "snapshot_slice", ["organisation_id", "patient_group"]
    )
    op.create_table(
        "withdrawal",
        *_row(
            sa.Column("patient_group", sa.String(length=64), nullable=False),
            sa.Column("study_ids", sa.JSON(), nullable=False),
            sa.Column("patient_id", sa.Uuid()),
            sa.Column("withdrawn_by_id", sa.Uuid(), nullable=False),
        ),
        _reference("withdrawal", "patient_id", "patient", "SET NULL"),
        _reference("withdrawal", "withdrawn_by_id", "user"),
        _reference("withdrawal", "organisation_id", "organisation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withdrawal")),
        sa.UniqueConstraint(
            "organisation_id",
            "patient_group",
            name=op.f("uq_withdrawal_organisation_id_patient_group"),
        ),
    )
    _index("withdrawal", "organisation_id", "patient_id")


def upgrade() -> None:
    _allow_roles(*_ROLES)
    _consensus()
    _snapshots()


def downgrade() -> None:
    op.drop_table("withdrawal")
    op.drop_table("snapshot_slice")
    op.drop_table("snapshot")
    op.drop_table("reader_flag")
    op.drop_table("adjudication")
    op.drop_column("assessment", "blind")
    for name in _WITH_ROLES:
        rows = sa.table(name, sa.column("role", sa.String()))
        op.execute(sa.update(rows).where(rows.c.role == "steward").values(role="reviewer"))
    _allow_roles(*(role for role in _ROLES if role != "steward"))
