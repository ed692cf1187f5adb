"""Reconstructs the history of a job from its row and the few stored changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sickbay.adapters.sql.merge import began_at_attempt
from sickbay.adapters.sql.rows import AnyRow
from sickbay.domain.job import JobState, StateChange
from sickbay.domain.truth import CANCELLED_OR_DISCARDED, truth


def history(job: AnyRow, changes: Iterable[AnyRow]) -> list[StateChange]:
    """Every state change known, oldest first.

    In the order of truth, which is the order of time except for clock differences between machines: the release may be recorded a moment
    after the start of the run by a fast worker.
    """
    lines: dict[tuple[JobState, int, int], StateChange] = {}
    for row in changes:
        state = JobState(row.state)
        if _is_repeated(state, row, job):
            continue
        _add_run(lines, row, state, row.actor)
        lines[(state, row.generation, row.attempt)] = StateChange(
            row.at, state, row.generation, row.attempt, row.code, row.message, row.actor
        )
    state = JobState(job.state)
    if job.submitted_at and (JobState.SCHEDULED, 0, 0) not in lines:
        lines.setdefault((JobState.QUEUED, 0, 0), StateChange(job.submitted_at, JobState.QUEUED, 0, 0))
    worker = job.run.rpartition(".")[0]  # a run is named `<worker>.<number>`
    _add_run(lines, job, state, worker)
    actor = worker if state in {JobState.RUNNING, JobState.SUCCEEDED} else ""
    lines.setdefault((state, job.generation, job.attempt), StateChange(job.updated_at, state, job.generation, job.attempt, actor=actor))
    return sorted(lines.values(), key=lambda line: (truth(line.state, line.generation, line.attempt), line.at))


def _is_repeated(state: JobState, change: AnyRow, job: AnyRow) -> bool:
    """Whether it is another end of a job that has ended so: two that cancel it may know of different attempts."""
    if state not in CANCELLED_OR_DISCARDED or JobState(job.state) not in CANCELLED_OR_DISCARDED:
        return False
    return bool(change.generation == job.generation) and (change.state, change.attempt) != (job.state, job.attempt)


def _add_run(lines: dict[tuple[JobState, int, int], StateChange], row: AnyRow, state: JobState, worker: str) -> None:
    if row.started_at is not None:
        attempt = began_at_attempt(state, row.attempt)
        began = StateChange(row.started_at, JobState.RUNNING, row.generation, attempt, actor=worker)
        lines.setdefault((JobState.RUNNING, row.generation, attempt), began)
