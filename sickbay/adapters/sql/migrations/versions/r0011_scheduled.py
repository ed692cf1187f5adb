"""Jobs that are to run later, and schedules: columns and an index of `jobs`, and two tables."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_JOB_COLUMNS: Final = {"run_at": "BIGINT", "schedule_id": "TEXT", "tick_at": "BIGINT"}
_SCHEDULED: Final = sa.text("state || '' = 'SCHEDULED'")
_INDEXED: Final = ["run_at", "job_id"]


def upgrade() -> None:
    """No job is SCHEDULED so far. PostgreSQL writes no row for the new columns.

    The index is built concurrently, because control planes of the version before go on writing the table. That commits what is before it,
    so an upgrade that was interrupted finds it there, and perhaps an invalid index.
    """
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        for name, kind in _JOB_COLUMNS.items():
            op.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")
        op.create_index("jobs_scheduled", "jobs", _INDEXED, sqlite_where=_SCHEDULED)
        _create_tables()
        return
    for name, kind in _JOB_COLUMNS.items():
        op.execute(f"ALTER TABLE jobs ADD COLUMN IF NOT EXISTS {name} {kind}")
    _create_tables()
    if not connection.scalar(sa.text("SELECT EXISTS (SELECT FROM jobs)")):
        op.create_index("jobs_scheduled", "jobs", _INDEXED, postgresql_where=_SCHEDULED, if_not_exists=True)
        return
    with op.get_context().autocommit_block():
        op.drop_index("jobs_scheduled", "jobs", if_exists=True, postgresql_concurrently=True)
        op.create_index("jobs_scheduled", "jobs", _INDEXED, postgresql_where=_SCHEDULED, postgresql_concurrently=True)


def _create_tables() -> None:
    op.create_table(
        "schedules",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("schedule_id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("job_type", "state", "origin")),
        sa.Column("next_at", sa.BigInteger),
        sa.Column("looked_at", sa.BigInteger, nullable=False),
        sa.Column("buffered_at", sa.BigInteger),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("last_run", sa.LargeBinary),
        sa.Column("body", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    _index("schedules_due", "schedules", ["next_at"], "next_at IS NOT NULL")
    _index("schedules_looked", "schedules", ["looked_at"], "next_at IS NOT NULL")
    _index("schedules_buffered", "schedules", ["buffered_at"], "buffered_at IS NOT NULL")
    op.create_table(
        "schedule_runs",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("schedule_id", sa.Text, primary_key=True),
        sa.Column("tick_at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("trigger", "outcome", "job_id", "job_state")),
        sa.Column("settled", sa.SmallInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("handled_at", "ended_at", "times")),
        sa.Column("actor", sa.Text, nullable=False),
        if_not_exists=True,
    )
    _index("schedule_runs_unsettled", "schedule_runs", ["tenant", "schedule_id", "job_state", "job_id"], "settled = 0")
    _index("schedule_runs_manual", "schedule_runs", ["tenant", "schedule_id", "kind"], "\"trigger\" = 'MANUAL'")
    op.create_index("schedule_runs_handled", "schedule_runs", ["handled_at"], if_not_exists=True)


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition, if_not_exists=True)


def downgrade() -> None:
    """Drop them, with all schedules. SCHEDULED jobs are lost: cancel them, or let them run, before."""
    op.drop_table("schedule_runs")
    op.drop_table("schedules")
    op.drop_index("jobs_scheduled", "jobs")
    for name in _JOB_COLUMNS:
        op.drop_column("jobs", name)
