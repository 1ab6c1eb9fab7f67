"""Sessions live on the server, tokens of the API expire and have a scope

Everybody signs in once more: sessions of before are not known to the new table. Tokens of before
never expire and may write, as they could.

On the way back, tokens that have expired or may only read are revoked: the old table has no place
for that, and they must not gain by it.

Revision ID: 0009
Revises: 0008
"""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_SCOPE = sa.Enum(
    "read", "write", name="scope", native_enum=False, create_constraint=True, length=16
)


def upgrade():
    op.create_table(
        "user_session",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("last_seen_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("is_remembered", sa.Boolean(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user.id"], name=op.f("fk_user_session_user_id_user")
        ),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name=op.f("fk_user_session_organisation_id_organisation"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_session")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_user_session_token_hash")),
    )
    with op.batch_alter_table("user_session") as batch:
        for name in ("user_id", "organisation_id", "expires_at"):
            batch.create_index(batch.f(f"ix_user_session_{name}"), [name], unique=False)
    # Without a rebuild of the table: everything refers to it.
    op.drop_column("user", "session_key")
    with op.batch_alter_table("api_token") as batch:
        batch.add_column(sa.Column("expires_at", _MOMENT))
        batch.add_column(sa.Column("scope", _SCOPE, nullable=False, server_default="write"))


def downgrade():
    token = sa.table(
        "api_token",
        sa.column("revoked_at", _MOMENT),
        sa.column("expires_at", _MOMENT),
        sa.column("scope", sa.String()),
    )
    moment = datetime.now(UTC)
    op.execute(
        sa.update(token)
        .where(
            token.c.revoked_at.is_(None),
            sa.or_(token.c.scope == "read", token.c.expires_at < moment),
        )
        .values(revoked_at=moment)
    )
    with op.batch_alter_table("api_token") as batch:
        batch.drop_constraint(batch.f("ck_api_token_scope"), type_="check")
        batch.drop_column("scope")
        batch.drop_column("expires_at")
    op.add_column(
        "user",
        sa.Column("session_key", sa.String(length=32), nullable=False, server_default=""),
    )
    user = sa.table("user", sa.column("id", sa.Uuid()), sa.column("session_key", sa.String()))
    connection = op.get_bind()
    for identifier in connection.scalars(sa.select(user.c.id)).all():
        connection.execute(
            sa.update(user).where(user.c.id == identifier).values(session_key=secrets.token_hex(16))
        )
    op.drop_table("user_session")
