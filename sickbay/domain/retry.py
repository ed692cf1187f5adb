"""Where a job goes after a run: one pure, table-tested function. Read it beside the table "Outcomes" of `docs/breaker.md`.

| outcome | breaker admits jobs | breaker refuses now |
|---|---|---|
| success | Done | Done |
| systemic, transient | Retry, attempt charged, without end | SetAside CIRCUIT_OPEN, uncharged |
| unknown | Retry, attempt charged; after the last one SetAside RETRIES_EXHAUSTED | SetAside CIRCUIT_OPEN, uncharged |
| data | Retry, attempt charged; after the last one SetAside RETRIES_EXHAUSTED | the same |
| cancelled | GiveBack, nothing charged | the same |
| lost (cancelled with the code PROGRAM_LOST) | HandBack, nothing charged | the same |

If somebody asked to cancel the job meanwhile, every outcome but a success leads to Cancelled (`after_cancel_request`).

A systemic or transient failure is blameless: the job is not at fault, so it never uses up the retries, and no person is needed. Only a code
whose number of retries somebody has set (`retries_by_code`) ends like the others. A fault of the worker itself is not an outcome of a
run: see `after_fault`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sickbay.domain.breaker import BreakerState
from sickbay.domain.failure import Failure
from sickbay.domain.job import Job, JobState, Reason
from sickbay.domain.outcome import LOST, Outcome, OutcomeKind
from sickbay.domain.result import Result

MAX_DELAY_MS: Final = 600_000
"""The longest pause between two runs of a job, unless a setting or the dependency itself asks for a longer one."""
BEYOND_LIMIT_MS: Final = 10_000
"""The least pause once a blameless job has used as many retries as others have; doubled each time."""
BEYOND_LIMIT_BACKOFF: Final = 2.0
JITTER: Final = 0.2
"""By how much of their length growing pauses, and those that the dependency asks for, are extended at random."""
LONGEST_WAIT_MS: Final = 86_400_000
"""A dependency cannot ask for more than a day."""
SPREAD: Final = 1_000
"""The jitter's randomness is a whole number from 0 (none) to this (all of it)."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a failed job runs again; times in ms.

    `max_retries` after the first run, or what `retries_by_code` says of its code. The pause is `delay_ms`, multiplied by `backoff` with
    each retry, at most `max_delay_ms` (or `delay_ms`, if that is longer). It is extended at random by up to `jitter` of its length; None
    means 0 for pauses that do not grow, and JITTER for others.
    """

    max_retries: int = 3
    delay_ms: int = 5_000
    backoff: float = 1.0
    max_delay_ms: int = MAX_DELAY_MS
    jitter: float | None = None
    retries_by_code: Mapping[str, int] = field(default_factory=dict)

    def retries(self, outcome: Outcome) -> int | None:
        """How many retries such a failure allows; None if they do not end."""
        own = self.retries_by_code.get(outcome.code)
        return own if own is not None or outcome.kind.is_blameless else self.max_retries

    def pause_ms(self, retries: int, spread: int, *, beyond_limit: bool) -> int:
        """The pause before the next run, after so many retries; `beyond_limit`: others would be quarantined by now."""
        grows = beyond_limit or self.backoff > 1
        jitter = self.jitter if self.jitter is not None else JITTER if grows else 0.0
        longest = max(self.max_delay_ms, self.delay_ms)
        pause = _grown(self.delay_ms, self.backoff, retries, longest)
        if beyond_limit:
            backoff = self.backoff if self.backoff > 1 else BEYOND_LIMIT_BACKOFF
            pause = max(pause, _grown(BEYOND_LIMIT_MS, backoff, retries - self.max_retries, longest))
        pause = max(self.delay_ms, min(pause, longest / (1 + jitter)))  # so that the longest pauses differ, too
        return min(longest, _extended(pause, jitter, spread))


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """What a handler or a table of the settings file says of retries; None means "not set here". The fields are those of RetryPolicy."""

    max_retries: int | None = None
    delay_ms: int | None = None
    backoff: float | None = None
    max_delay_ms: int | None = None
    jitter: float | None = None
    retries_by_code: Mapping[str, int] = field(default_factory=dict)

    def over(self, policy: RetryPolicy) -> RetryPolicy:
        """The policy with everything that is set here in place of its own."""
        return RetryPolicy(
            max_retries=policy.max_retries if self.max_retries is None else self.max_retries,
            delay_ms=policy.delay_ms if self.delay_ms is None else self.delay_ms,
            backoff=policy.backoff if self.backoff is None else self.backoff,
            max_delay_ms=policy.max_delay_ms if self.max_delay_ms is None else self.max_delay_ms,
            jitter=policy.jitter if self.jitter is None else self.jitter,
            retries_by_code={**policy.retries_by_code, **self.retries_by_code},
        )


NO_OPTIONS: Final = RetryOptions()

PolicyOf = Callable[[str, RetryOptions], RetryPolicy]
"""The policy in force for a job type whose handler has these options; asked at each decision, because it may change."""


def same_for_all(policy: RetryPolicy) -> PolicyOf:
    """One policy for all job types, changed only by their handlers."""
    return lambda _, options: options.over(policy)


@dataclass(frozen=True, slots=True)
class Done:
    """The job succeeded; `result` is what its handler returned, None if that was None."""

    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job has ended, because somebody asked for it; `message` says how its run ended, if there was one."""

    message: str = ""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The run proved nothing: the same copy goes back to the queue."""


@dataclass(frozen=True, slots=True)
class HandBack:
    """The program that ran the job is gone: another one runs it, unless it has lost too many."""

    job: Job


@dataclass(frozen=True, slots=True)
class Retry:
    """The copy for the next attempt, and after which delay (ms) it runs.

    `beyond_limit`: a job that is at fault would be quarantined by now.
    """

    job: Job
    delay_ms: int
    beyond_limit: bool = False

    @property
    def state(self) -> JobState:
        """RETRYING."""
        return JobState.RETRYING


PARKING: Final = frozenset({Reason.CIRCUIT_OPEN, Reason.RATE_LIMITED})
"""Reasons of which the job is not to blame: it comes back by itself."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """The copy for the quarantine, and why it goes there."""

    job: Job
    reason: Reason

    @property
    def state(self) -> JobState:
        """PARKED if the job is not at fault, else QUARANTINED."""
        return JobState.PARKED if self.reason in PARKING else JobState.QUARANTINED


Route = Done | Cancelled | GiveBack | HandBack | Retry | SetAside


MAX_FAULTS: Final = 3
"""After so many faults of the worker itself a job is quarantined for a person to look at."""


def after_fault(job: Job, message: str, policy: RetryPolicy, now: int, traceback: str = "") -> Retry | SetAside:
    """Where a job goes when the worker itself failed while processing it: retried after a growing delay, charged, finally quarantined."""
    code = Reason.WORKER_FAULT.value
    failure = Failure(now, job.generation, job.attempt, code, message, traceback)
    faults = 1 + sum(failure.code == code and failure.generation == job.generation for failure in job.failures)
    if faults < MAX_FAULTS:
        delay_ms = policy.delay_ms << (faults - 1)
        return Retry(job.failed(replace(failure, retry_at=now + delay_ms)).charged(), delay_ms)
    return SetAside(job.failed(failure), Reason.WORKER_FAULT)


def after_cancel_request(outcome: Outcome) -> Done | Cancelled:
    """Where a job goes whose run ended after somebody had asked to cancel it: only a success makes that void."""
    if outcome.kind is OutcomeKind.SUCCESS:
        return Done(outcome.result)
    if not outcome.code:
        return Cancelled("its run was cancelled")
    return Cancelled(f"its run ended with {outcome.code}{f': {outcome.message}' if outcome.message else ''}")


def after_run(job: Job, outcome: Outcome, breaker: BreakerState, policy: RetryPolicy, now: int, *, spread: int = 0) -> Route:
    """Decide where the job goes after one run; `breaker` is the breaker's state after the outcome was settled, `now` in ms.

    `spread` is a random number from 0 to SPREAD.
    """
    if outcome.kind is OutcomeKind.SUCCESS:
        return Done(outcome.result)
    if outcome.kind is OutcomeKind.CANCELLED:
        return HandBack(job) if outcome.code == LOST.code else GiveBack()
    failure = Failure(now, job.generation, job.attempt, outcome.code, outcome.message, outcome.traceback)
    if outcome.kind.is_breaker_failure and breaker.refuses:
        return SetAside(job.failed(failure), Reason.CIRCUIT_OPEN)
    most = policy.retries(outcome)
    # What the job is not to blame for is counted apart, so that an outage leaves it all the retries for its own failures.
    retries = job.blameless if most is None else job.attempt - job.blameless
    if most is not None and retries >= most:
        return SetAside(job.failed(failure), Reason.RETRIES_EXHAUSTED)
    beyond_limit = most is None and retries >= policy.max_retries
    delay_ms = policy.pause_ms(retries, spread, beyond_limit=beyond_limit)
    if outcome.retry_after_ms is not None:
        asked_ms = min(_extended(outcome.retry_after_ms, JITTER, spread), LONGEST_WAIT_MS)
        delay_ms = max(asked_ms, delay_ms) if beyond_limit else asked_ms
    failed = job.failed(replace(failure, retry_at=now + delay_ms), blameless=most is None)
    return Retry(failed.charged(), delay_ms, beyond_limit)


def _grown(first: int, factor: float, times: int, longest: int) -> float:
    """`first` multiplied so often, at most `longest`."""
    if first == 0:
        return 0.0
    if times * math.log(factor) > math.log(longest + 1) - math.log(first):  # the power may be larger than any float
        return longest
    return min(longest, first * factor**times)


def _extended(pause: float, jitter: float, spread: int) -> int:
    """The pause, longer by so much of the jitter as `spread` says."""
    return math.ceil(pause * (1 + jitter * spread / SPREAD))
