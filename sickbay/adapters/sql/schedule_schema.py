"""The tables of schedules: `schedules` has a row for each, `schedule_runs` what became of each of its times. And what all tables belong to.

As in `schema.py`, which has the others.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, SmallInteger, Table, Text, text

metadata = MetaData()
"""Of all tables."""

_DUE: Final = text("next_at IS NOT NULL")
_BUFFERED: Final = text("buffered_at IS NOT NULL")
_UNSETTLED: Final = text("settled = 0")
_MANUAL: Final = text("\"trigger\" = 'MANUAL'")

schedules = Table(
    "schedules",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("schedule_id", Text, primary_key=True),
    Column("job_type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("origin", Text, nullable=False),
    # Its next time; NULL unless it is ACTIVE.
    Column("next_at", BigInteger),
    # The clock when `next_at` was found: a later one shows that the clock was set back.
    Column("looked_at", BigInteger, nullable=False),
    Column("buffered_at", BigInteger),
    Column("revision", BigInteger, nullable=False),
    # Its latest run that has a job, as JSON: apart from the body, which may be a megabyte and is not written at each of its times.
    Column("last_run", LargeBinary),
    # The whole schedule as JSON; the columns above are for queries, and count where both have a value.
    Column("body", LargeBinary, nullable=False),
)
Index("schedules_due", schedules.c.next_at, sqlite_where=_DUE, postgresql_where=_DUE)
Index("schedules_looked", schedules.c.looked_at, sqlite_where=_DUE, postgresql_where=_DUE)
Index("schedules_buffered", schedules.c.buffered_at, sqlite_where=_BUFFERED, postgresql_where=_BUFFERED)

schedule_runs = Table(
    "schedule_runs",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("schedule_id", Text, primary_key=True),
    Column("tick_at", BigInteger, primary_key=True, autoincrement=False),
    # TICK and BACKFILL with a job are one kind: a time has one job, however it came about. MANUAL ones have a kind each, and so has each
    # outcome without a job, which may stand for several times.
    Column("kind", Text, primary_key=True),
    Column("trigger", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    # As far as the schedule has heard; empty if there is no job.
    Column("job_state", Text, nullable=False),
    # 0 while the job has not ended for good.
    Column("settled", SmallInteger, nullable=False),
    Column("handled_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("times", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
)
# By state, so that jobs which wait in quarantine cost nothing when a schedule asks whether one of its jobs has not ended.
Index(
    "schedule_runs_unsettled",
    schedule_runs.c.tenant,
    schedule_runs.c.schedule_id,
    schedule_runs.c.job_state,
    schedule_runs.c.job_id,
    sqlite_where=_UNSETTLED,
    postgresql_where=_UNSETTLED,
)
Index(
    "schedule_runs_manual",
    schedule_runs.c.tenant,
    schedule_runs.c.schedule_id,
    schedule_runs.c.kind,
    sqlite_where=_MANUAL,
    postgresql_where=_MANUAL,
)
Index("schedule_runs_handled", schedule_runs.c.handled_at)
