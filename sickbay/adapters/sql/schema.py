"""The tables of the ledger, the same on SQLite and PostgreSQL; all times are milliseconds since the epoch.

A healthy job needs one row. Other jobs need more: `job_changes` has the state changes that the history cannot be reconstructed without,
`job_revisions` the edits, `job_results` what handlers returned, `job_progress` how far runs are whose handlers say so, `job_duplicates`
one row per extra run or dropped copy (a set, so that counting is idempotent), `suspects` the starts of runs of copies that may have killed
their worker. `incidents` has a row for each outage of a breaker, `incident_notices` those that a webhook has not been told yet.
`audit_entries` has one row per action and per refused call. The tables of schedules are in `schedule_schema.py`.

Every change here needs a migration; a test compares the two.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, SmallInteger, Table, Text, text

from sickbay.adapters.sql import schedule_schema

HEAD: Final = "0011"
"""The revision this code works with: the newest file in `migrations/versions`."""

metadata: Final = schedule_schema.metadata
"""Of all tables, those of schedules, too."""

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("job_type", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("rank", SmallInteger, nullable=False),
    Column("submitted_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("run", Text, nullable=False),
    Column("errors", LargeBinary),
    Column("code", Text, nullable=False),
    # Only while the job is set aside (the payload until it has ended, if it is not too large):
    Column("set_aside_at", BigInteger),
    Column("reason", Text),
    Column("message", Text),
    Column("fingerprint", Text),
    Column("payload", LargeBinary),
    # Only while it is being released: the end of the lease, the attempt of the new copy, and the actor.
    Column("lease_until", BigInteger),
    Column("claim_attempt", BigInteger),
    Column("claim_actor", Text),
    Column("revision", BigInteger, nullable=False, server_default=text("0")),
    # Again only while the job is set aside, so that its trace continues when it is released:
    Column("trace", Text),
    # Only after a lost job was requeued: the generation up to which its copies are revoked.
    Column("called_off", BigInteger),
    Column("priority", Text, nullable=False, server_default=text("'NORMAL'")),
    # Only if somebody asked to cancel the job after a run had begun.
    Column("cancel_requested_at", BigInteger),
    # Only of a job that was to run later: when, and the schedule and its time that it is of.
    Column("run_at", BigInteger),
    Column("schedule_id", Text),
    Column("tick_at", BigInteger),
)

_ASIDE: Final = text("set_aside_at IS NOT NULL")
_OF_TENANTS: Final = text("tenant <> 'default'")
_LEASED: Final = text("lease_until IS NOT NULL")
_CALLED_OFF: Final = text("called_off IS NOT NULL")
_PRIORITIZED: Final = text("priority <> 'NORMAL'")
_CANCEL_REQUESTED: Final = text("cancel_requested_at IS NOT NULL")
_SCHEDULED: Final = text("state || '' = 'SCHEDULED'")

Index("jobs_submitted", jobs.c.submitted_at, jobs.c.job_id)
Index("jobs_type_submitted", jobs.c.job_type, jobs.c.submitted_at, jobs.c.job_id)
Index("jobs_state_updated", jobs.c.state, jobs.c.updated_at)
# Without tenants it is empty, and costs nothing.
Index("jobs_tenant_submitted", jobs.c.tenant, jobs.c.submitted_at, jobs.c.job_id, sqlite_where=_OF_TENANTS, postgresql_where=_OF_TENANTS)
# The partial indexes contain only set-aside jobs, so healthy jobs never touch them.
Index("jobs_aside", jobs.c.set_aside_at, jobs.c.job_id, sqlite_where=_ASIDE, postgresql_where=_ASIDE)
Index(
    "jobs_aside_circuit",
    jobs.c.state,
    jobs.c.job_type,
    jobs.c.tenant,
    jobs.c.set_aside_at,
    jobs.c.job_id,
    sqlite_where=_ASIDE,
    postgresql_where=_ASIDE,
)
Index("jobs_aside_tenant", jobs.c.tenant, jobs.c.set_aside_at, jobs.c.job_id, sqlite_where=_ASIDE, postgresql_where=_ASIDE)
Index("jobs_aside_group", jobs.c.job_type, jobs.c.code, jobs.c.fingerprint, sqlite_where=_ASIDE, postgresql_where=_ASIDE)
# Jobs of the default priority, most of all, do not touch this one.
Index(
    "jobs_prioritized",
    jobs.c.priority,
    jobs.c.submitted_at,
    jobs.c.job_id,
    sqlite_where=_PRIORITIZED,
    postgresql_where=_PRIORITIZED,
)
Index("jobs_called_off", jobs.c.updated_at, sqlite_where=_CALLED_OFF, postgresql_where=_CALLED_OFF)
Index("jobs_cancel_requested", jobs.c.cancel_requested_at, sqlite_where=_CANCEL_REQUESTED, postgresql_where=_CANCEL_REQUESTED)
# Only SCHEDULED jobs are in it, so the dispatcher's look at what is due is one descent, however many jobs there are. Its condition is one
# that no other index fits: by `state = 'SCHEDULED'` SQLite, and PostgreSQL if it knows little of the table, would find all of them by
# `jobs_state_updated`, and sort them at each look.
Index("jobs_scheduled", jobs.c.run_at, jobs.c.job_id, sqlite_where=_SCHEDULED, postgresql_where=_SCHEDULED)
Index("jobs_leased", jobs.c.lease_until, sqlite_where=_LEASED, postgresql_where=_LEASED)

job_changes = Table(
    "job_changes",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("actor", Text, nullable=False),
)
Index("job_changes_at", job_changes.c.at)

job_revisions = Table(
    "job_revisions",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("before", LargeBinary, nullable=False),
    Column("after", LargeBinary, nullable=False),
)

job_duplicates = Table(
    "job_duplicates",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
)

job_results = Table(
    "job_results",
    metadata,
    Column("job_id", Text, primary_key=True),
    # The successful run that returned it: only if the job's row names the same run is it the job's result.
    Column("generation", BigInteger, nullable=False),
    Column("run", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    # JSON text; NULL if it was not kept, and then the note says why.
    Column("result", LargeBinary),
    Column("note", Text, nullable=False),
)

job_progress = Table(
    "job_progress",
    metadata,
    Column("job_id", Text, primary_key=True),
    # The run that reported it: only while the job's row is RUNNING in the same attempt is it the job's progress.
    Column("generation", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("fraction", Double, nullable=False),
    Column("message", Text, nullable=False),
)

suspects = Table(
    "suspects",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("starts", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("submitted_at", BigInteger, nullable=False, index=True),
    Column("lease_until", BigInteger),  # NULL: the job was accepted
)

write_check = Table(
    "write_check",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
)
"""One row, written to test whether the database accepts writes."""

_OPEN: Final = text("closed_at IS NULL")
_UNFINISHED: Final = text("unfinished = 1")

incidents = Table(
    "incidents",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_type", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    # 1 while it is open, and until its parked jobs have been brought back.
    Column("unfinished", SmallInteger, nullable=False),
    # The whole incident as JSON; the columns above are for queries.
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
Index("incidents_of_breaker", incidents.c.job_type, incidents.c.tenant, incidents.c.number)
Index("incidents_open", incidents.c.job_type, incidents.c.tenant, unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("incidents_unfinished", incidents.c.number, sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED)

incident_notices = Table(
    "incident_notices",
    metadata,
    Column("notice_id", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("change", Text, nullable=False),
    # Its order among those of its incident.
    Column("place", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # When it is to be sent, or sent again; whoever sends it moves this on first.
    Column("due_at", BigInteger, nullable=False, index=True),
    Column("attempts", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

audit_entries = Table(
    "audit_entries",
    metadata,
    Column("entry_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("credential", Text, nullable=False),
    Column("claimed_actor", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("target_kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("door", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
)
"""A trigger refuses to update a row that has a result (migration 0010)."""
Index("audit_entries_at", audit_entries.c.at, audit_entries.c.entry_id)
for _name in ("principal", "action", "target", "tenant", "result"):
    Index(f"audit_entries_{_name}", audit_entries.c[_name], audit_entries.c.at, audit_entries.c.entry_id)
