"""A job has the time at which somebody asked to cancel it after a run had begun."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_REQUESTED = sa.text("cancel_requested_at IS NOT NULL")
_COLUMNS = ["cancel_requested_at"]
_ADD_COLUMN = "ALTER TABLE jobs ADD COLUMN {} cancel_requested_at BIGINT"


def upgrade() -> None:
    """Nobody has asked so far. PostgreSQL writes no row for the new column.

    The index is built concurrently, because control planes of the version before go on writing the table. That commits the column first,
    so an upgrade that was interrupted finds it there, and perhaps an invalid index.
    """
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        op.execute(_ADD_COLUMN.format(""))
        op.create_index("jobs_cancel_requested", "jobs", _COLUMNS, sqlite_where=_REQUESTED)
        return
    op.execute(_ADD_COLUMN.format("IF NOT EXISTS"))
    if not connection.scalar(sa.text("SELECT EXISTS (SELECT FROM jobs)")):
        op.create_index("jobs_cancel_requested", "jobs", _COLUMNS, postgresql_where=_REQUESTED)
        return
    with op.get_context().autocommit_block():
        op.drop_index("jobs_cancel_requested", "jobs", if_exists=True, postgresql_concurrently=True)
        op.create_index("jobs_cancel_requested", "jobs", _COLUMNS, postgresql_where=_REQUESTED, postgresql_concurrently=True)


def downgrade() -> None:
    """Drop them: requests are forgotten."""
    op.drop_index("jobs_cancel_requested", "jobs")
    op.drop_column("jobs", "cancel_requested_at")
