"""A requeued lost job has the generation up to which a copy that turns up after all must not run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty."""
    op.add_column("jobs", sa.Column("called_off", sa.BigInteger))
    only = sa.text("called_off IS NOT NULL")
    op.create_index("jobs_called_off", "jobs", ["updated_at"], sqlite_where=only, postgresql_where=only)


def downgrade() -> None:
    """Drop the column."""
    op.drop_index("jobs_called_off")
    op.drop_column("jobs", "called_off")
