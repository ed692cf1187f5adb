"""Indexes to list the jobs of a tenant: all but those of `default`, and all that are set aside."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_INDEXES: Final = {
    "jobs_tenant_submitted": (["tenant", "submitted_at", "job_id"], sa.text("tenant <> 'default'")),
    "jobs_aside_tenant": (["tenant", "set_aside_at", "job_id"], sa.text("set_aside_at IS NOT NULL")),
}


def upgrade() -> None:
    """Create them; on PostgreSQL concurrently if there are jobs, because control planes of the version before go on writing the table.

    An upgrade that was interrupted may leave an invalid index, so what is there is built anew.
    """
    connection = op.get_bind()
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql and connection.scalar(sa.text("SELECT EXISTS (SELECT FROM jobs)")):
        with op.get_context().autocommit_block():
            for name, (columns, where) in _INDEXES.items():
                op.drop_index(name, "jobs", if_exists=True, postgresql_concurrently=True)
                op.create_index(name, "jobs", columns, postgresql_where=where, postgresql_concurrently=True)
        return
    for name, (columns, where) in _INDEXES.items():
        op.drop_index(name, "jobs", if_exists=True)
        op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Drop them."""
    for name in _INDEXES:
        op.drop_index(name, "jobs")
