"""The port of schedules, with the rules of the package.

A job of a schedule is a SCHEDULED job that is written in the same transaction as what became of its time: so there is exactly one for each
time, however many control planes there are, wherever one of them dies. What sends it to the workers is what sends all SCHEDULED jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sickbay.domain.queries import Page
from sickbay.domain.schedule import Decision, NewRun, RunOutcome, Schedule, ScheduleKey, ScheduleQuery, ScheduleRun, Situation

Decide = Callable[[Schedule, Situation], Decision]
"""What a schedule does now: pure, since it is called in a transaction."""
IsOpen = Callable[[str, str], bool]
"""Whether the circuit that decides about the jobs of a type and a tenant is open; of what is known already, as it is called there, too."""


@dataclass(frozen=True, slots=True)
class Fired:
    """What a schedule has done: its runs, also those without a job. `late_ms` is how long after its time the first job was submitted."""

    schedule: Schedule
    runs: Sequence[ScheduleRun]
    late_ms: int = 0


class Schedules(Protocol):
    """Schedules, and what became of their times. The clock is the database's, or this machine's where one process has the ledger."""

    async def now(self) -> int:
        """The time by that clock (ms)."""

    async def create_schedule(self, schedule: Schedule) -> Schedule:
        """Keep a new schedule; `next_at` is its first time. AlreadyExists(SCHEDULE_EXISTS), ResourceExhausted(TOO_MANY_SCHEDULES)."""

    async def get_schedule(self, key: ScheduleKey) -> Schedule:
        """A schedule with its payload; NotFound(SCHEDULE_NOT_FOUND)."""

    async def list_schedules(self, query: ScheduleQuery, limit: int, cursor: str) -> Page[Schedule]:
        """By tenant and id, with payloads; InvalidArgument(INVALID_PAGE_TOKEN) if the cursor is not from this list."""

    async def change_schedule(self, key: ScheduleKey, change: Callable[[Schedule, int], Schedule], etag: str = "") -> Schedule:
        """Replace a schedule by what `change` makes of it and of the time, in one transaction; its revision grows unless it is the same.

        NotFound(SCHEDULE_NOT_FOUND), Aborted(ETAG_MISMATCH); what `change` raises has no effect.
        """

    async def delete_schedule(self, key: ScheduleKey, etag: str = "") -> None:
        """Delete a schedule and its runs; its jobs stay. The errors of `change_schedule`."""

    async def next_due_ms(self) -> int | None:
        """In how many ms the next schedule is due; 0 or less if one is due, or waits for a job that has ended; None if there is none."""

    async def fire_due(self, decide: Decide, is_open: IsOpen, limit: int) -> Sequence[Fired]:
        """Let schedules that are due do what `decide` says, in one transaction with their jobs and their next times; at most `limit`.

        A schedule that another control plane is about to fire is left to it. A time that has a job already, because a clock was set
        back, gets no other one. After that next times are found anew. A schedule whose decision fails is paused.
        """

    async def submit_runs(self, key: ScheduleKey, runs: Sequence[NewRun]) -> Sequence[ScheduleRun | None]:
        """Submit jobs for these times, MANUAL or BACKFILL, in one transaction; None for one that had a job already.

        A MANUAL one that was submitted before with the same `request_id` is returned as it is. NotFound(SCHEDULE_NOT_FOUND).
        """

    async def times_with_jobs(self, key: ScheduleKey, start: int, end: int) -> frozenset[int]:
        """The times from `start` to before `end` (ms) for which `submit_runs` would submit no job, because there was one."""

    async def settle_runs(self, limit: int) -> Sequence[tuple[Schedule, ScheduleRun]]:
        """Look what has become of the jobs of runs, keep it with them, and return those that are news, with their schedules.

        At most `limit` runs are looked at; the next call goes on after them. A job that the ledger has deleted has ended. A schedule with
        `pause_on_failure` is paused in the same transaction if its job was quarantined or discarded.
        """

    async def list_runs(self, key: ScheduleKey, outcome: RunOutcome | None, limit: int, cursor: str) -> Page[ScheduleRun]:
        """Newest first. NotFound(SCHEDULE_NOT_FOUND)."""

    async def prune_runs(self) -> int:
        """Delete runs past their retention (30 days), except the latest of each schedule; return how many."""
