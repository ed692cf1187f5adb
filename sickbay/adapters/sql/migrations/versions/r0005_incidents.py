"""Incidents, the notices of them for a webhook, and an index to count the jobs that were set aside meanwhile."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OPEN = sa.text("closed_at IS NULL")
_UNFINISHED = sa.text("unfinished = 1")


_IS_VALID = sa.text(
    """
    SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = CAST('job_changes' AS regclass) AND relname = 'job_changes_at'
    """
)


def upgrade() -> None:
    """Create the tables, empty: outages that go on now are recorded by the first control plane that sees them."""
    _index_changes()
    op.create_table(
        "incidents",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("job_type", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("unfinished", sa.SmallInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("incidents_of_breaker", "incidents", ["job_type", "tenant", "number"])
    op.create_index("incidents_open", "incidents", ["job_type", "tenant"], unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_index("incidents_unfinished", "incidents", ["number"], sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED)
    op.create_table(
        "incident_notices",
        sa.Column("notice_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("change", sa.Text, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_incident_notices_due_at", "incident_notices", ["due_at"])


def _index_changes() -> None:
    """Index a table that may be large; on PostgreSQL concurrently, because control planes of the version before go on writing it.

    That commits what was done before. So it comes first, and can be repeated: an upgrade that was interrupted leaves an invalid index.
    """
    connection = op.get_bind()
    is_valid: bool | None = None
    is_large = False
    if connection.dialect.name == "postgresql":
        is_valid = connection.scalar(_IS_VALID)
        is_large = bool(connection.scalar(sa.text("SELECT EXISTS (SELECT FROM job_changes)")))
    if is_valid is None and not is_large:
        op.create_index("job_changes_at", "job_changes", ["at"])
    elif not is_valid:
        with op.get_context().autocommit_block():
            op.drop_index("job_changes_at", "job_changes", if_exists=True, postgresql_concurrently=True)
            op.create_index("job_changes_at", "job_changes", ["at"], postgresql_concurrently=True)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("job_changes_at", "job_changes")
    op.drop_table("incident_notices")
    op.drop_table("incidents")
