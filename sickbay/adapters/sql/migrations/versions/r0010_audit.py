"""The audit log: a new table, and a trigger that keeps what has a result."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TEXTS: Final = (
    "action", "result", "principal", "kind", "credential", "claimed_actor", "note", "target_kind", "target", "tenant", "source",
    "door", "reason", "message", "before", "after", "request",
)  # fmt: skip
_FILTERS: Final = ("principal", "action", "target", "tenant", "result")

_POSTGRESQL: Final = (
    """
    CREATE OR REPLACE FUNCTION audit_entry_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'an entry of the audit log that has a result does not change'; END $$
    """,
    """
    CREATE TRIGGER audit_entries_final BEFORE UPDATE ON audit_entries
    FOR EACH ROW WHEN (OLD.result <> 'STARTED') EXECUTE FUNCTION audit_entry_is_final()
    """,
)
_SQLITE: Final = (
    """
    CREATE TRIGGER audit_entries_final BEFORE UPDATE ON audit_entries FOR EACH ROW WHEN OLD.result <> 'STARTED'
    BEGIN SELECT RAISE(ABORT, 'an entry of the audit log that has a result does not change'); END
    """,
)


def upgrade() -> None:
    """Create it, empty: no other table is locked."""
    op.create_table(
        "audit_entries",
        sa.Column("entry_id", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in _TEXTS),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    op.create_index("audit_entries_at", "audit_entries", ["at", "entry_id"])
    for name in _FILTERS:
        op.create_index(f"audit_entries_{name}", "audit_entries", [name, "at", "entry_id"])
    for statement in _POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    """Drop it, with all entries."""
    op.drop_table("audit_entries")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_entry_is_final()")
