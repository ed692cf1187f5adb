"""Runs a handler once and says where its job would go, with the parts that a worker has: outcome, classification, result, retries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypedDict, Unpack

from sickbay.domain.breaker import BreakerState
from sickbay.domain.failure import Failure
from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome
from sickbay.domain.priority import Priority
from sickbay.domain.retry import RetryPolicy, Route, after_run
from sickbay.handlers.classify import blame_unreadable_payload
from sickbay.handlers.payloads.typing import PayloadObject
from sickbay.handlers.registry import HandlerSpec
from sickbay.handlers.resources import bind
from sickbay.testing.jobs import make_job, spec_of
from sickbay.testing.result import Result
from sickbay.testing.running import Run

HANDLER_TIMEOUT_S: Final = 30.0
"""The product's default for handlers without a timeout of their own."""
Payload = Mapping[str, Any] | bytes | Job[Any] | PayloadObject | None


class Options(TypedDict, total=False):
    """What can be said about a run besides handler and payload."""

    attempt: int
    """Which run of the job this is, 1 for the first; those before failed like this one."""
    tenant: str
    priority: Priority | str
    job_id: str
    generation: int
    """How often the job was released from the quarantine."""
    job_type: str
    """Which one, if the function handles several."""
    timeout: float
    """Seconds, in place of the handler's own or the product's 30. With `math.inf`, none, a plain function is called in this thread."""
    max_retries: int
    """MAX_RETRIES (3); the handler's own options come first, here and in the next."""
    retry_delay: float
    """RETRY_DELAY_MS, in seconds (5)."""
    circuit_open: bool
    """Whether the breaker has opened by this run (False), so that the job is parked if the breaker counts the failure."""
    given: Mapping[str, Any]
    """What the handler gets, by name, in place of what the lifespans of its module give: these are not entered then."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be run, for how many seconds at most, and the settings for what comes after it."""

    spec: HandlerSpec
    job: Job
    seconds: float
    policy: RetryPolicy
    circuit_open: bool = False

    def perform(self) -> Result:
        """Run it where no event loop runs."""
        return self._result(Run(self.spec, self.job, self.seconds).perform())

    async def perform_async(self) -> Result:
        """Run it where an event loop runs."""
        return self._result(await Run(self.spec, self.job, self.seconds).perform_async())

    def _result(self, run: Run) -> Result:
        outcome = blame_unreadable_payload(run.outcome, self.job, self.spec)
        return Result(self.job, outcome, self._route(outcome), run.exception, tuple(run.progress), run.seconds, tuple(run.submitted))

    def _route(self, outcome: Outcome) -> Route:
        """By the product's own decision; earlier runs that the job does not tell of failed like this one."""
        job, now = self.job, time.time_ns() // 1_000_000
        if job.attempt and not job.failures:
            blameless = job.attempt if self.policy.retries(outcome) is None else 0
            before = Failure(now, job.generation, job.attempt - 1, outcome.code, outcome.message, blameless=blameless)
            job = replace(job, failures=(before,))
        return after_run(job, outcome, BreakerState.OPEN if self.circuit_open else BreakerState.CLOSED, self.policy, now)


def run(function: Callable[..., Any], payload: Payload = None, **options: Unpack[Options]) -> Result:
    """Run a handler once and say how that ended, whatever happens in it.

    `payload` may also be an object (`Email(...)`), bytes in place of JSON, or a Job.

    As in a worker, an async handler runs on an event loop and a plain function in a thread. Raises TypeError if the function is no
    handler or an option is unknown, ValueError if the value of one is invalid, RuntimeError in a running event loop.
    """
    if _has_running_loop():
        raise RuntimeError("sickbay.testing.run cannot be called in a running event loop: use `await run_async(...)` there")
    return _call(function, payload, **options).perform()


async def run_async(function: Callable[..., Any], payload: Payload = None, **options: Unpack[Options]) -> Result:
    """The same in a running event loop, on which an async handler runs."""
    return await _call(function, payload, **options).perform_async()


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _call(
    function: Callable[..., Any],
    payload: Payload,
    *,
    job_type: str | None = None,
    timeout: float | None = None,
    max_retries: int = 3,
    retry_delay: float = 5.0,
    circuit_open: bool = False,
    given: Mapping[str, Any] | None = None,
    **of_job: Any,
) -> Call:
    spec = spec_of(function, job_type)
    if given is not None:
        spec = replace(bind(spec, given), scope={})
    if isinstance(payload, Job):
        if of_job:
            raise TypeError(f"the job has its own {', '.join(of_job)}: give them to make_job")
        job = replace(payload)  # a copy: what one run reads and binds is not seen by the next
    else:
        job = make_job(spec.job_type, payload, **of_job)
    if timeout is not None and not timeout > 0:
        raise ValueError(f"the timeout must be more than 0 s, not {timeout:g}")
    policy = spec.retry.over(RetryPolicy(max_retries, round(1000 * retry_delay)))
    return Call(spec, job, timeout or spec.timeout or HANDLER_TIMEOUT_S, policy, circuit_open)
