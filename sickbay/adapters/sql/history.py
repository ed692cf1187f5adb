"""Tells the history of a job from its row and the few changes that were written down. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sickbay.adapters.sql.merge import began_at_attempt
from sickbay.adapters.sql.rows import AnyRow
from sickbay.domain.job import Change, State
from sickbay.domain.truth import truth


def history(job: AnyRow, changes: Iterable[AnyRow]) -> list[Change]:
    """Every state change known, oldest first.

    In the order of truth, which is the order of time but for differences between the clocks of several machines: the ledger may learn
    of a release a moment after a fast worker has told of the run.
    """
    lines: dict[tuple[State, int, int], Change] = {}
    for row in changes:
        state = State(row.state)
        _run(lines, row, state, row.actor)
        lines[(state, row.generation, row.attempt)] = Change(row.at, state, row.generation, row.attempt, row.code, row.message, row.actor)
    state = State(job.state)
    if job.submitted_at:
        lines.setdefault((State.QUEUED, 0, 0), Change(job.submitted_at, State.QUEUED, 0, 0))
    worker = job.run.rpartition(".")[0]  # a run's name is that of its worker and a number
    _run(lines, job, state, worker)
    actor = worker if state in {State.RUNNING, State.SUCCEEDED} else ""
    lines.setdefault((state, job.generation, job.attempt), Change(job.updated_at, state, job.generation, job.attempt, actor=actor))
    return sorted(lines.values(), key=lambda line: (truth(line.state, line.generation, line.attempt), line.at))


def _run(lines: dict[tuple[State, int, int], Change], row: AnyRow, state: State, worker: str) -> None:
    if row.started_at is not None:
        attempt = began_at_attempt(state, row.attempt)
        began = Change(row.started_at, State.RUNNING, row.generation, attempt, actor=worker)
        lines.setdefault((State.RUNNING, row.generation, attempt), began)
