"""Reconstructs the changes of a job since a watcher's last one, from the job's row, its history and the notices of writes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from sickbay.adapters.sql.details import detailed_record_of
from sickbay.adapters.sql.history import history
from sickbay.adapters.sql.merge import began_at_attempt
from sickbay.adapters.sql.notices import Notice
from sickbay.adapters.sql.rows import AnyRow, etag
from sickbay.adapters.sql.subscribers import JobChange
from sickbay.domain.job import JobRecord, JobState, StateChange
from sickbay.domain.truth import Truth, truth

NOTHING: Final[Truth] = (-1, 0, 0, 0)
"""The truth of an unknown job."""


def changes_since(row: AnyRow, changes: Iterable[AnyRow], notices: Sequence[Notice], known: Truth, limit: Truth) -> Iterator[JobChange]:
    """The changes after `known` up to `limit`, each later in the order of truth than the one before."""
    current = detailed_record_of(row)
    now = truth_of(current)
    lines = [*history(row, changes), *_from_notices(notices)]
    began = {(line.generation, line.attempt): line.at for line in lines if line.state is JobState.RUNNING}
    # Of two lines with the same key, the one that the row confirms is right.
    lines.sort(key=lambda line: (_truth(line), line.state is not current.state))
    for line in lines:
        if known < _truth(line) <= min(now, limit):
            known = _truth(line)
            yield (current if known == now else _as_of(current, row.revision, line, began)), line


def truth_of(record: JobRecord) -> Truth:
    """The key of a record in the order of truth."""
    return truth(record.state, record.job.generation, record.job.attempt)


def truth_of_notice(notice: Notice) -> Truth:
    """The key of a notice in the order of truth."""
    return truth(notice.state, notice.generation, notice.attempt)


def _truth(line: StateChange) -> Truth:
    return truth(line.state, line.generation, line.attempt)


def _from_notices(notices: Iterable[Notice]) -> Iterator[StateChange]:
    """History entries that the tables may no longer have: runs and successes that the next write replaced."""
    for notice in notices:
        if notice.started_at is not None:
            yield StateChange(notice.started_at, JobState.RUNNING, notice.generation, began_at_attempt(notice.state, notice.attempt))
        if notice.state in {JobState.QUEUED, JobState.SUCCEEDED}:
            yield StateChange(notice.at, notice.state, notice.generation, notice.attempt)


def _as_of(record: JobRecord, revision: int, line: StateChange, began: dict[tuple[int, int], int]) -> JobRecord:
    """The record as it was at an earlier entry, without payload, reason and fingerprint, which are the current ones."""
    failures = tuple(failure for failure in record.job.failures if failure.at <= line.at)
    job = replace(record.job, generation=line.generation, attempt=line.attempt, failures=failures, payload_json=b"")
    run = (line.generation, began_at_attempt(line.state, line.attempt))
    return JobRecord(
        job=job,
        state=line.state,
        updated_at=line.at,
        started_at=None if line.state is JobState.QUEUED else began.get(run),
        duplicates=record.duplicates,
        etag=etag(job.job_id, line.generation, line.attempt, line.state, revision),
        cancel_requested_at=record.cancel_requested_at if record.cancel_requested_at <= line.at else 0,
    )
