"""Where a job goes after a run: one pure, table-tested function. Read it beside the table "Outcomes" of the breaker's specification.

| outcome | breaker admits jobs | breaker refuses now |
|---|---|---|
| success | Done | Done |
| systemic, transient, unknown | Retry, attempt charged; after the last one SetAside RETRIES_EXHAUSTED | SetAside CIRCUIT_OPEN, uncharged |
| data | Retry, attempt charged; after the last one SetAside RETRIES_EXHAUSTED | the same |
| cancelled | GiveBack, nothing charged | the same |

A fault of the worker itself is not an outcome of a run: see `after_fault`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sickbay.domain.breaker import BreakerState
from sickbay.domain.job import Failure, Job, JobState, Reason
from sickbay.domain.outcome import Outcome, OutcomeKind


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a failed job runs again: `max_retries` after the first run, or what `retries_by_code` says; ms."""

    max_retries: int = 3
    delay_ms: int = 5_000
    retries_by_code: Mapping[str, int] = field(default_factory=dict)

    def retries(self, code: str) -> int:
        """How many retries a failure with this code allows."""
        return self.retries_by_code.get(code, self.max_retries)


PolicyOf = Callable[[str, Mapping[str, int]], RetryPolicy]
"""The policy in force for a job type whose handler has these `retries_by_code`; asked at each decision, because it may change."""


def same_for_all(policy: RetryPolicy) -> PolicyOf:
    """One policy for all job types."""
    return lambda _, by_code: replace(policy, retries_by_code=by_code)


@dataclass(frozen=True, slots=True)
class Done:
    """The job succeeded."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The run proved nothing: the same copy goes back to the queue."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The copy for the next attempt, and after which delay (ms) it runs."""

    job: Job
    delay_ms: int

    @property
    def state(self) -> JobState:
        """RETRYING."""
        return JobState.RETRYING


@dataclass(frozen=True, slots=True)
class SetAside:
    """The copy for the quarantine, and why it goes there."""

    job: Job
    reason: Reason

    @property
    def state(self) -> JobState:
        """PARKED if the job is not at fault, else QUARANTINED."""
        return JobState.PARKED if self.reason is Reason.CIRCUIT_OPEN else JobState.QUARANTINED


Route = Done | GiveBack | Retry | SetAside


MAX_FAULTS: Final = 3
"""After so many faults of the worker itself a job is quarantined for a person to look at."""


def after_fault(job: Job, message: str, policy: RetryPolicy, now: int, traceback: str = "") -> Retry | SetAside:
    """Where a job goes when the worker itself failed while processing it: retried after a growing delay, charged, finally quarantined."""
    code = Reason.WORKER_FAULT.value
    failure = Failure(now, job.generation, job.attempt, code, message, traceback)
    failed = job.failed(failure)
    faults = sum(failure.code == code and failure.generation == job.generation for failure in failed.failures)
    if faults < MAX_FAULTS:
        return _retry(job, failure, policy.delay_ms << (faults - 1))
    return SetAside(failed, Reason.WORKER_FAULT)


def after_run(job: Job, outcome: Outcome, breaker: BreakerState, policy: RetryPolicy, now: int) -> Route:
    """Decide where the job goes after one run; `breaker` is the breaker's state after the outcome was settled, `now` in ms."""
    if outcome.kind is OutcomeKind.SUCCESS:
        return Done()
    if outcome.kind is OutcomeKind.CANCELLED:
        return GiveBack()
    failure = Failure(now, job.generation, job.attempt, outcome.code, outcome.message, outcome.traceback)
    failed = job.failed(failure)
    if outcome.kind.is_breaker_failure and breaker.refuses:
        return SetAside(failed, Reason.CIRCUIT_OPEN)
    if job.attempt < policy.retries(outcome.code):
        return _retry(job, failure, policy.delay_ms if outcome.retry_after_ms is None else outcome.retry_after_ms)
    return SetAside(failed, Reason.RETRIES_EXHAUSTED)


def _retry(job: Job, failure: Failure, delay_ms: int) -> Retry:
    return Retry(job.failed(replace(failure, retry_ms=delay_ms)).charged(), delay_ms)
