"""What a schedule does when its time has come. Pure: the ledger calls it in the transaction that writes what it says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from sickbay.domain.schedule import (
    Decision,
    NewRun,
    Overlap,
    RunOutcome,
    Schedule,
    ScheduleRun,
    ScheduleState,
    Situation,
    Timing,
    Trigger,
    WhileOpen,
    jitter_of,
)
from sickbay.domain.schedule_changes import paused
from sickbay.domain.schedule_times import count_between, last_time, next_time, times

MOST_RUNS: Final = 100
"""The jobs that one decision submits; there may be more after an outage, and those are for the next one."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Consecutive times: how many, and the last one."""

    count: int
    last: int


def decide(schedule: Schedule, situation: Situation) -> Decision:
    """What a schedule does about all of its times that have come; `next_at` is the first that has not, or is left for the next decision."""
    turn = _Turn(schedule, situation)
    turn.end_wait()
    if schedule.state is ScheduleState.ACTIVE and 0 < schedule.next_at <= situation.now:
        turn.miss()
        if turn.is_refused:
            turn.skip(RunOutcome.SKIPPED_CIRCUIT_OPEN)
        elif schedule.spec.overlap is Overlap.ALLOW:
            turn.run_all()
        else:
            turn.run_one()
        turn.next_at = next_time(schedule.spec.timing, turn.done)
    return Decision(tuple(turn.runs), tuple(turn.others), turn.next_at, turn.buffered_at)


def found_anew(schedule: Schedule, now: int) -> Schedule:
    """The same after the clock was set back: its times begin with the first after `now`. Those that have a job get no other one."""
    first = next_time(schedule.spec.timing, now)
    return replace(schedule, next_at=min(schedule.next_at, first)) if first and schedule.next_at else schedule


def advanced(schedule: Schedule, decision: Decision, now: int, last_run: ScheduleRun | None) -> Schedule:
    """The schedule after a decision. Its revision grows only if its state changes: it is paused, or has ended."""
    schedule = replace(schedule, last_run=last_run)
    if decision.pauses:
        return stopped(schedule, now, decision.pauses)
    if schedule.state is ScheduleState.ACTIVE and not decision.next_at:
        schedule = replace(schedule, state=ScheduleState.ENDED, revision=schedule.revision + 1, updated_at=now)
    return replace(schedule, next_at=decision.next_at, buffered_at=decision.buffered_at)


def stopped(schedule: Schedule, now: int, note: str) -> Schedule:
    """The schedule, paused by itself until somebody resumes it."""
    return replace(paused(schedule, note, ""), revision=schedule.revision + 1, updated_at=now)


class _Turn:
    """One decision in the making: `done` is the latest time that it has decided about."""

    def __init__(self, schedule: Schedule, situation: Situation) -> None:
        self._schedule = schedule
        self._timing = schedule.spec.timing
        self._now = situation.now
        self._is_running = situation.is_running
        self.is_refused = situation.is_open and schedule.spec.while_open is WhileOpen.SKIP
        self.done = schedule.next_at - 1
        self.next_at = schedule.next_at
        self.buffered_at = schedule.buffered_at
        self.runs: list[NewRun] = []
        self.others: list[ScheduleRun] = []

    def end_wait(self) -> None:
        """The time that waits for a job to end runs if that has."""
        if not self.buffered_at or self._is_running:
            return
        if self.is_refused:
            self._note(RunOutcome.SKIPPED_CIRCUIT_OPEN, _Span(1, self.buffered_at))
        else:
            self._run(self.buffered_at)
        self.buffered_at = 0

    def miss(self) -> None:
        """Times that are too long ago are missed."""
        before = self._now - self._schedule.spec.catches_up_ms - 1
        if before > self.done:
            self._note(RunOutcome.MISSED, _span(self._timing, self.done, before))
            self.done = before

    def skip(self, outcome: RunOutcome) -> None:
        """No job for any of the others."""
        if self._now > self.done:
            self._note(outcome, _span(self._timing, self.done, self._now))
            self.done = self._now

    def run_all(self) -> None:
        """A job for each of the others, as many as there may be at a time."""
        for at in islice(times(self._timing, self.done), MOST_RUNS):
            if at > self._now:
                break
            self._run(at)
            self.done = at

    def run_one(self) -> None:
        """A job for the first of the others unless one runs; perhaps one more waits; the rest are skipped."""
        first = self._next_due()
        if first and not self._is_running:
            self._run(first)
            self.done = first
            first = self._next_due()
        if first and not self.buffered_at and self._schedule.spec.overlap is Overlap.BUFFER_ONE:
            self.buffered_at = self.done = first
        self.skip(RunOutcome.SKIPPED_OVERLAP)

    def _next_due(self) -> int:
        at = next_time(self._timing, self.done)
        return at if at <= self._now else 0

    def _run(self, at: int) -> None:
        self.runs.append(NewRun(at, at + jitter_of(self._schedule.key, at, self._timing.jitter_ms)))
        self._is_running = True

    def _note(self, outcome: RunOutcome, span: _Span) -> None:
        if span.count:
            self.others.append(ScheduleRun(span.last, Trigger.TICK, outcome, handled_at=self._now, count=span.count))


def _span(timing: Timing, after: int, until: int) -> _Span:
    """The times after `after`, up to and including `until`; there may be millions, which are not walked."""
    count = count_between(timing, after + 1, until + 1)
    return _Span(count, last_time(timing, after + 1, until + 1) if count else 0)
