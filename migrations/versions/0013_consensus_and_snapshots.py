"""Data stewards, between reviewers and administrators

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


def upgrade() -> None:
    _allow_roles(*_ROLES)


def downgrade() -> None:
    for name in _WITH_ROLES:
        rows = sa.table(name, sa.column("role", sa.String()))
        op.execute(sa.update(rows).where(rows.c.role == "steward").values(role="reviewer"))
    _allow_roles(*(role for role in _ROLES if role != "steward"))
