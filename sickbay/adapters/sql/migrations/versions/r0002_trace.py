"""A set-aside job keeps its trace context, so that its release continues the trace."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty: jobs set aside before continue in a new trace."""
    op.add_column("jobs", sa.Column("trace", sa.Text))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("jobs", "trace")
