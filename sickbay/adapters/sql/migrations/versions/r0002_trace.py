"""A set-aside job keeps the context of its trace, so that its release continues it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty: what was set aside before goes on in a trace of its own."""
    op.add_column("jobs", sa.Column("trace", sa.Text))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("jobs", "trace")
