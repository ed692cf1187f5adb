"""A job has a priority, and jobs of another than the default have an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_PRIORITIZED = sa.text("priority <> 'NORMAL'")
_COLUMNS = ["priority", "submitted_at", "job_id"]
_ADD_COLUMN = "ALTER TABLE jobs ADD COLUMN {} priority TEXT DEFAULT 'NORMAL' NOT NULL"


def upgrade() -> None:
    """Every job so far is NORMAL. PostgreSQL remembers a constant default once, and writes no row for it.

    The index is built concurrently, because control planes of the version before go on writing the table. That commits the column first,
    so an upgrade that was interrupted finds it there, and perhaps an invalid index.
    """
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        op.execute(_ADD_COLUMN.format(""))
        op.create_index("jobs_prioritized", "jobs", _COLUMNS, sqlite_where=_PRIORITIZED)
        return
    op.execute(_ADD_COLUMN.format("IF NOT EXISTS"))
    if not connection.scalar(sa.text("SELECT EXISTS (SELECT FROM jobs)")):
        op.create_index("jobs_prioritized", "jobs", _COLUMNS, postgresql_where=_PRIORITIZED)
        return
    with op.get_context().autocommit_block():
        op.drop_index("jobs_prioritized", "jobs", if_exists=True, postgresql_concurrently=True)
        op.create_index("jobs_prioritized", "jobs", _COLUMNS, postgresql_where=_PRIORITIZED, postgresql_concurrently=True)


def downgrade() -> None:
    """Drop them: what waits becomes NORMAL."""
    op.drop_index("jobs_prioritized", "jobs")
    op.drop_column("jobs", "priority")
