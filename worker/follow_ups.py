"""Submits the jobs that handlers ask for while they run, through the same way as the Job API.

A handler asks in its own thread; the work is done on the worker's loop, in the context of the run, so that traces go on. A run succeeds
only when all that it asked for are durable: what the handler has not awaited is waited for, and if that is rejected, the run fails with it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final, Protocol

from sickbay.client.errors import SickbayError as ClientError
from sickbay.client.payload import named, payload_text
from sickbay.client.when import set_run_time
from sickbay.contract.payload import checked_text
from sickbay.contract.requests import Submission
from sickbay.contract.times import run_time
from sickbay.domain.errors import InvalidArgument, ResourceExhausted, SickbayError, SubmitError, Unavailable
from sickbay.domain.follow_up import FollowUp, NewFollowUp
from sickbay.domain.job import NAME_PATTERN, is_name
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.priority import Priority
from sickbay.domain.queries import Accepted
from sickbay.handlers.call import outcome_of_error
from sickbay.handlers.registry import HandlerSpec
from sickbay.jobs.v1.job_service_pb2 import SubmitJobRequest

SHUTTING_DOWN: Final = "this worker is stopping, and the run will be repeated"


class Submitter(Protocol):
    """The way of new jobs, `JobSubmitter`."""

    async def accept(self, submissions: Sequence[Submission]) -> Sequence[Accepted | SickbayError]:
        """One result for each submission, in order."""


class FollowUps:
    """One per worker, made on its loop."""

    def __init__(self, submitter: Submitter | None) -> None:
        """Submit through `submitter`; without one nothing can be submitted."""
        self._submitter = submitter
        self._loop = asyncio.get_running_loop()
        self._submitting: set[asyncio.Task[str]] = set()

    def submit(self, asked: NewFollowUp) -> Future[str]:
        """Begin to submit; called in the threads of handlers. Raises SubmitError at once for what is invalid."""
        submission = valid(asked)
        future: Future[str] = Future()
        future.set_running_or_notify_cancel()  # whoever waits for it may be cancelled, the submission goes on
        try:
            self._loop.call_soon_threadsafe(self._begin, submission, future, context=contextvars.copy_context())
        except RuntimeError:  # the worker's loop is closed
            raise SubmitError("SHUTTING_DOWN", SHUTTING_DOWN, kind=OutcomeKind.TRANSIENT) from None
        return future

    async def settled(self, follow_ups: Sequence[FollowUp], outcome: Outcome, spec: HandlerSpec) -> Outcome:
        """The outcome of a run that succeeded, once all its follow-ups are durable; a failure if one is not, and nobody has seen that."""
        for one in follow_ups:
            error = await one.wait()
            if error is not None and not one.is_seen:
                return outcome_of_error(error, spec)
        return outcome

    async def close(self, within_s: float) -> None:
        """Wait so long for those of runs that did not wait for them, because they failed; then give them up: their runs are repeated."""
        if self._submitting:
            _, late = await asyncio.wait(self._submitting, timeout=within_s)
            for task in late:
                task.cancel()

    def _begin(self, submission: Submission, future: Future[str]) -> None:
        task = self._loop.create_task(self._submit(submission))
        self._submitting.add(task)
        task.add_done_callback(partial(self._answer, future))

    async def _submit(self, submission: Submission) -> str:
        if self._submitter is None:
            raise SubmitError("NOT_CONFIGURED", "this worker cannot submit jobs", kind=OutcomeKind.DATA)
        (result,) = await self._submitter.accept([submission])
        if isinstance(result, SickbayError):
            raise submit_error(result)
        return result.job.job_id

    def _answer(self, future: Future[str], task: asyncio.Task[str]) -> None:
        self._submitting.discard(task)
        if task.cancelled():
            future.set_exception(SubmitError("SHUTTING_DOWN", SHUTTING_DOWN, kind=OutcomeKind.TRANSIENT))
        elif (error := task.exception()) is not None:
            future.set_exception(error if isinstance(error, SubmitError) else submit_error(Unavailable("an internal error; see the log")))
        else:
            future.set_result(task.result())


def valid(asked: NewFollowUp) -> Submission:
    """What is to be submitted. Raises SubmitError if it never could be."""
    try:
        job_type, content = named(asked.job_type, asked.payload)
        payload = checked_text(payload_text(content))
    except ClientError as error:
        raise SubmitError(str(error.reason), error, kind=OutcomeKind.DATA) from None
    except InvalidArgument as error:
        raise submit_error(error) from None
    for what, name in (("job type", job_type), ("tenant", asked.tenant)):
        if not is_name(name):
            raise SubmitError("INVALID_FIELD", f"the {what} must match {NAME_PATTERN}, not {name!r:.100}", kind=OutcomeKind.DATA)
    if asked.priority not in set(Priority):
        raise SubmitError("INVALID_FIELD", f"the priority must be HIGH, NORMAL or LOW, not {asked.priority!r:.100}", kind=OutcomeKind.DATA)
    delay_ms, run_at = _run_time(asked)
    return Submission(
        job_type,
        asked.tenant,
        payload,
        asked.request_id,
        priority=Priority(asked.priority),
        delay_ms=delay_ms or 0,
        run_at=run_at or 0,
        is_follow_up=True,
    )


def _run_time(asked: NewFollowUp) -> tuple[int | None, int | None]:
    """When it is to run, as a request of a client is read."""
    request = SubmitJobRequest()
    try:
        set_run_time(request, asked.delay, asked.run_at)
        return run_time(request)
    except (ClientError, InvalidArgument) as error:
        raise SubmitError("INVALID_FIELD", error, kind=OutcomeKind.DATA) from None


def submit_error(error: SickbayError) -> SubmitError:
    """The same as the outcome of a run: whether it is worth a retry, and when."""
    if isinstance(error, ResourceExhausted):
        return SubmitError(error.reason.value, error, kind=OutcomeKind.TRANSIENT, retry_after=min(error.retry_after, 86_400))
    kind = OutcomeKind.TRANSIENT if isinstance(error, Unavailable) else OutcomeKind.DATA
    return SubmitError(error.reason.value, error, kind=kind)
