"""The first ledger: jobs, their changes, revisions and duplicates, suspects and idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ASIDE = sa.text("set_aside_at IS NOT NULL")
_LEASED = sa.text("lease_until IS NOT NULL")


def upgrade() -> None:
    """Create the tables."""
    _create_jobs()
    _create_companions()
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("submitted_at", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger),
    )
    op.create_index("ix_idempotency_keys_submitted_at", "idempotency_keys", ["submitted_at"])


def downgrade() -> None:
    """Drop all tables."""
    for table in ("idempotency_keys", "suspects", "job_duplicates", "job_revisions", "job_changes", "jobs"):
        op.drop_table(table)


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("job_type", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("rank", sa.SmallInteger, nullable=False),
        sa.Column("submitted_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("errors", sa.LargeBinary),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("set_aside_at", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("fingerprint", sa.Text),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("claim_attempt", sa.BigInteger),
        sa.Column("claim_actor", sa.Text),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.create_index("jobs_submitted", "jobs", ["submitted_at", "job_id"])
    op.create_index("jobs_type_submitted", "jobs", ["job_type", "submitted_at", "job_id"])
    op.create_index("jobs_state_updated", "jobs", ["state", "updated_at"])
    _create_partial_index("jobs_aside", ["set_aside_at", "job_id"], _ASIDE)
    _create_partial_index("jobs_aside_circuit", ["state", "job_type", "tenant", "set_aside_at", "job_id"], _ASIDE)
    _create_partial_index("jobs_aside_group", ["job_type", "code", "fingerprint"], _ASIDE)
    _create_partial_index("jobs_leased", ["lease_until"], _LEASED)


def _create_partial_index(name: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)


def _create_companions() -> None:
    op.create_table(
        "job_changes",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
    )
    op.create_table(
        "job_revisions",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("before", sa.LargeBinary, nullable=False),
        sa.Column("after", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "job_duplicates",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("run", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "suspects",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("starts", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
