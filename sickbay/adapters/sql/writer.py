"""The writing side of the ledger: merges batches of events, counts, and deletes jobs past their retention."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Text, and_, bindparam, case, exists, func, literal_column, not_, null, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from sickbay.adapters.sql.cancel_requests import mark, without_further_runs
from sickbay.adapters.sql.change_feed import ChangeFeed
from sickbay.adapters.sql.chunks import chunks
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.engines import Insert
from sickbay.adapters.sql.long_history import shorten_histories
from sickbay.adapters.sql.merge import Folded, fold
from sickbay.adapters.sql.progress import ProgressWriter
from sickbay.adapters.sql.results import ResultWriter
from sickbay.adapters.sql.retention import prune
from sickbay.adapters.sql.rows import JOB_VALUES, change_values, event_of, values_of
from sickbay.adapters.sql.schema import job_changes, job_duplicates, job_progress, job_results, jobs
from sickbay.adapters.sql.starts import Starts
from sickbay.concurrency.tasks import detached
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.run_rate import OVER_RATE
from sickbay.domain.truth import CANCELLED_OR_DISCARDED, truth

_REPLACED: Final = (
    *("state", "generation", "attempt", "rank", "updated_at", "started_at", "run", "errors", "code"),
    *("set_aside_at", "reason", "message", "fingerprint", "payload", "trace"),
)
# Constants are written into the statement, so that its parameters are the columns and nothing else.
_NOTHING: Final = literal_column("''", Text)
_ZERO: Final = literal_column("0", BigInteger)
_FINAL: Final = literal_column(str(JobState.SUCCEEDED.rank), BigInteger)
_SUCCEEDED: Final = literal_column(f"'{JobState.SUCCEEDED.value}'", Text)
_CANCELLED_OR_DISCARDED: Final = [literal_column(f"'{state.value}'", Text) for state in sorted(CANCELLED_OR_DISCARDED)]
_KEEP_PAYLOAD: Final = (
    update(jobs)
    .where(
        jobs.c.job_id == bindparam("job"),
        jobs.c.generation == bindparam("in_generation"),
        jobs.c.rank < JobState.PARKED.rank,
        jobs.c.payload.is_(None),
    )
    .values(payload=bindparam("kept"))
)
_RUN_LATER: Final = (
    update(jobs)
    # Said so that no index fits but that of ids: a plan of PostgreSQL's that was made while the table was empty is kept.
    .where(jobs.c.job_id == bindparam("job"), func.coalesce(jobs.c.run_at, 0) == 0)
    .values(run_at=bindparam("due_at"), schedule_id=bindparam("of_schedule"), tick_at=bindparam("of_tick"))
)
_IN_LEDGER_ALONE: Final = (
    jobs.c.code == OVER_RATE,  # for the index of groups; a handler may use the same word
    func.coalesce(jobs.c.reason, "") == Reason.RATE_LIMITED.value,
    jobs.c.state == JobState.PARKED.value,
)
_RELEASED: Final = {"lease_until": null(), "claim_attempt": null(), "claim_actor": null()}


class SqlWriter:
    """Implements `LedgerWriter`. Several of them on one database are harmless: every write is guarded by the order of truth."""

    def __init__(self, store: Database, feed: ChangeFeed, starts: Starts) -> None:
        self._store = store
        self.detached = store.detached
        self._feed = feed
        self._starts = starts
        self._merge = store.bulk(_merge_statement(store.insert(jobs)), JOB_VALUES)
        self._add_changes = store.bulk(store.insert(job_changes).on_conflict_do_nothing(), job_changes.c.keys())
        self._add_dropped = store.bulk(store.insert(job_duplicates).on_conflict_do_nothing(), job_duplicates.c.keys())
        self._add_second_run = _second_run_statement(store.insert(job_duplicates))
        self._results = ResultWriter(store.insert(job_results))
        self._progress = ProgressWriter(store.insert(job_progress))

    @detached
    async def apply(self, events: Sequence[JobEvent]) -> None:
        """Merge by the order of truth: replays, reordering and several writers are harmless.

        Nothing is added to the generation of a job that is being released, so a cancellation that comes then changes nothing.
        """
        requests = [event for event in events if event.cancel_requested]
        # A transaction of their own, so that no two writers wait for each other's rows.
        new = await self._apply_requests(requests)
        await self._apply([event for event in events if not event.cancel_requested] if requests else events)
        await self._apply_requests([event for event in requests if event.job.job_id not in new])  # the rest of the batch may have its job

    async def _apply(self, events: Sequence[JobEvent]) -> None:
        if not events:
            return
        async with self._feed.write({event.job.job_id for event in events if not event.duplicate}) as write:
            events = await without_further_runs(write.connection, events)
            await write.announce(events)
            revoked = await self._write(write.connection, fold(events))
            write.revoke(revoked)
        self._starts.revoke(revoked)

    async def _apply_requests(self, requests: Sequence[JobEvent]) -> Collection[str]:
        """Store requests to cancel running jobs; returns the jobs of which one is new."""
        if not requests:
            return ()
        async with self._feed.write([event.job.job_id for event in requests]) as write:
            await write.announce(requests)
            new = await mark(write.connection, requests)
            write.request_cancel(new)
        self._starts.request_cancel(new)
        return new

    async def _write(self, connection: AsyncConnection, folded: Folded) -> Sequence[tuple[str, int]]:
        """Write a batch; returns the revoked copies: job id and generation."""
        second_runs = folded.losers
        # In the order of ids, so that two writers never deadlock.
        rows = [values_of(folded.latest[job_id]) for job_id in sorted(folded.latest)]
        if not await self._merge.run(connection, rows):
            # Some event changed nothing: a success among those may be a second run. Rare, so healthy batches skip this.
            second_runs = [*second_runs, *(event for event in folded.latest.values() if event.state is JobState.SUCCEEDED)]
            await _keep_payloads(connection, folded)
        await _schedule(connection, folded)
        await self._results.write(connection, folded.latest.values())
        await self._progress.write(connection, folded.progress)
        revoked = await self._revoked_by(connection, folded)
        applied = [event for event in folded.changes if event.state not in CANCELLED_OR_DISCARDED or _copy(event) in revoked]
        await self._add_changes.run(connection, [change_values(event) for event in applied])
        await shorten_histories(connection, applied)
        await self._add_dropped.run(connection, sorted(map(_duplicate_values, folded.dropped)))
        if second_runs := [event for event in second_runs if event.run]:
            await connection.execute(self._add_second_run, [_second_run_values(event) for event in second_runs])
        return revoked

    async def _revoked_by(self, connection: AsyncConnection, folded: Folded) -> Sequence[tuple[str, int]]:
        """Which cancellations and discards of a batch took effect, now or by an earlier event."""
        ids = [event.job.job_id for event in folded.changes if event.state in CANCELLED_OR_DISCARDED]
        if not ids:
            return ()
        ended = jobs.c.state.in_([state.value for state in CANCELLED_OR_DISCARDED])
        query = select(jobs.c.job_id, jobs.c.generation).where(jobs.c.job_id.in_(ids), ended)
        return [(row.job_id, row.generation) for row in await connection.execute(query)]

    @detached
    async def check_copies(self, jobs_asked: Sequence[Job]) -> Mapping[str, bool | None]:
        """By job id: True if this very copy is set aside now, False if there is a later event, None if the ledger does not know it yet.

        Of several copies of one job in one call the most current decides, so that none is dropped by mistake.
        """
        answer: dict[str, bool | None] = {}
        for chunk in chunks(jobs_asked):
            query = select(jobs.c.job_id, jobs.c.generation, jobs.c.attempt, jobs.c.state).where(
                jobs.c.job_id.in_({job.job_id for job in chunk})
            )
            async with self._store.read() as connection:
                rows = {row.job_id: row for row in await connection.execute(query)}
            for job in chunk:
                found = _is_live(job, rows.get(job.job_id))
                answer[job.job_id] = max(answer.get(job.job_id, False), found, key=(False, None, True).index)
        return answer

    @detached
    async def list_set_aside(self, after: str, limit: int, before: int) -> Sequence[JobEvent]:
        """Jobs set aside before `before` (ms), by job id, starting after `after`, each as the event in its copy, if they have one."""
        wanted = (jobs.c.set_aside_at.is_not(None), jobs.c.set_aside_at < before, jobs.c.job_id > after, not_(and_(*_IN_LEDGER_ALONE)))
        query = select(jobs).where(*wanted).order_by(jobs.c.job_id).limit(limit)
        async with self._store.read() as connection:
            return [event_of(row) for row in await connection.execute(query)]

    @detached
    async def in_ledger_alone(self) -> int:
        """How many jobs are set aside without a copy in `jobs.quarantine`: those that wait for the rate of their type."""
        query = select(func.count()).select_from(jobs).where(jobs.c.set_aside_at.is_not(None), *_IN_LEDGER_ALONE)
        async with self._store.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    def sweep_lock(self) -> AbstractAsyncContextManager[bool]:
        """True for one process at a time, until the context ends; False for the others, which may try again."""
        return self._store.exclusive("sweep")

    @detached
    async def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state; all states are included."""
        async with self._store.read() as connection:
            rows = await connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
        return dict.fromkeys(JobState, 0) | {JobState(state): count for state, count in rows}

    @detached
    async def duplicates(self) -> int:
        """Extra executions and dropped copies of all jobs still known."""
        known = exists().where(jobs.c.job_id == job_duplicates.c.job_id)
        async with self._store.read() as connection:
            return (await connection.execute(select(func.count()).select_from(job_duplicates).where(known))).scalar_one()

    async def prune(self, now: int) -> int:
        """Delete jobs past their retention (succeeded 24 h, cancelled and discarded 30 days), never set-aside ones; return how many."""
        self._starts.forget(now)
        return await prune(self._store, now)


async def _keep_payloads(connection: AsyncConnection, folded: Folded) -> None:
    """Store payloads that came late: only the event of the submission has it, and may come after that of a run."""
    late = [event.job for event in folded.latest.values() if event.state is JobState.QUEUED and event.job.payload_json]
    if late:
        values = [{"job": job.job_id, "kept": job.payload_json, "in_generation": job.generation} for job in late]
        await connection.execute(_KEEP_PAYLOAD, values)


async def _schedule(connection: AsyncConnection, folded: Folded) -> None:
    """Store when SCHEDULED jobs are to run: columns of their own, so that healthy jobs do not pay for them.

    Also if the event comes late, so that it is known when a job was due. What a person has changed stays.
    """
    later = [event.job for event in folded.changes if event.state is JobState.SCHEDULED]
    if later:
        values = [
            {"job": job.job_id, "due_at": job.run_at, "of_schedule": job.schedule_id or None, "of_tick": job.tick_at or None}
            for job in later
        ]
        await connection.execute(_RUN_LATER, values)


def _merge_statement(insert: Insert) -> Insert:
    """Insert a job, or replace its row if the event is later in the order of truth: `truth.py`, in SQL."""
    new = insert.excluded
    kept: dict[str, ColumnElement[Any]] = {
        "job_type": case((new.job_type == _NOTHING, jobs.c.job_type), else_=new.job_type),
        "tenant": case((new.tenant == _NOTHING, jobs.c.tenant), else_=new.tenant),
        "priority": case((new.job_type == _NOTHING, jobs.c.priority), else_=new.priority),
        "submitted_at": case((jobs.c.submitted_at > _ZERO, jobs.c.submitted_at), else_=new.submitted_at),
        "payload": case((and_(new.payload.is_(None), new.rank < _FINAL), jobs.c.payload), else_=new.payload),
    }
    replaced = {name: new[name] for name in _REPLACED}
    return insert.on_conflict_do_update(index_elements=[jobs.c.job_id], set_={**replaced, **kept, **_RELEASED}, where=_is_later(new))


def _is_later(new: ReadOnlyColumnCollection[str, Any]) -> ColumnElement[bool]:
    return or_(
        new.generation > jobs.c.generation,
        and_(
            new.generation == jobs.c.generation,
            jobs.c.lease_until.is_(None),
            jobs.c.state != _SUCCEEDED,
            or_(
                new.state == _SUCCEEDED,
                and_(
                    jobs.c.state.not_in(_CANCELLED_OR_DISCARDED),
                    or_(
                        new.state.in_(_CANCELLED_OR_DISCARDED),
                        new.attempt > jobs.c.attempt,
                        and_(new.attempt == jobs.c.attempt, new.rank > jobs.c.rank),
                    ),
                ),
            ),
        ),
    )


def _second_run_statement(insert: Insert) -> Insert:
    """Store a run that succeeded although the row names another run of the same generation."""
    seen = select(bindparam("job", type_=Text), bindparam("second_run", type_=Text), bindparam("seen_at", type_=BigInteger)).where(
        exists().where(
            jobs.c.job_id == bindparam("job", type_=Text),
            jobs.c.generation == bindparam("in_generation", type_=BigInteger),
            jobs.c.state == JobState.SUCCEEDED.value,
            jobs.c.run.not_in(["", bindparam("second_run", type_=Text)]),
        )
    )
    return insert.from_select(["job_id", "run", "at"], seen).on_conflict_do_nothing()


def _second_run_values(event: JobEvent) -> dict[str, object]:
    return {"job": event.job.job_id, "second_run": event.run, "seen_at": event.at, "in_generation": event.job.generation}


def _copy(event: JobEvent) -> tuple[str, int]:
    return (event.job.job_id, event.job.generation)


def _duplicate_values(event: JobEvent) -> tuple[str, str, int]:
    return (event.job.job_id, event.run or f"@{event.at}", event.at)


def _is_live(job: Job, row: Any) -> bool | None:
    if row is None:
        return None
    state = JobState(row.state)
    copy, known = truth(JobState.PARKED, job.generation, job.attempt), truth(state, row.generation, row.attempt)
    if copy > known:
        return None
    return copy == known and state.in_quarantine
