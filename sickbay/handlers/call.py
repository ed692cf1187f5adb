"""Calls a handler and returns its outcome, whatever it raises or returns. Nothing here raises."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future as ThreadFuture
from dataclasses import replace
from types import CoroutineType, FrameType
from typing import Any, Final

from sickbay.domain.failure import MAX_MESSAGE_CHARS, MAX_TRACEBACK_BYTES, last_bytes
from sickbay.domain.job import Job
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from sickbay.domain.raised import Redact, attribute, is_a, short, unchanged
from sickbay.domain.result import Result
from sickbay.handlers.classify import classify, timed_out
from sickbay.handlers.payloads import PayloadMismatch
from sickbay.handlers.registry import HandlerSpec
from sickbay.handlers.remote import RemoteFailure
from sickbay.handlers.result import UNREAD_IN_TIME, result_of
from sickbay.handlers.traceback_text import CALLERS, MAX_STEPS, traceback_of

MAX_DEPTH: Final = 10
"""Awaitables that return awaitables, nested."""
FORKED: Final = 70
"""Exit code of a child that a handler forked (EX_SOFTWARE of sysexits.h)."""
_OURS: Final = CALLERS - {"threading"}
HUNG: Final = "Where it was when it timed out (most recent call last):"
"""The headline of the stack of a run that has timed out."""
NOT_RUN: Final = "HANDLER_NOT_RUN"
"""The error code of a handler that returned something that should have been run."""

log = logging.getLogger(__name__)


class RunLost(Exception):
    """Raised by our own handlers: who was to run the job is gone, so it goes back to the queue, uncharged. Not for users."""


def outcome_of_error(error: BaseException, spec: HandlerSpec, redact: Redact = unchanged) -> Outcome:
    """The outcome of an exception, even of one that cannot be inspected; here and below, `redact` removes secrets from its texts."""
    if type(error) is RunLost:
        return Outcome(OutcomeKind.CANCELLED)
    try:
        failed = classify(error, spec, redact)
        if is_a(error, RemoteFailure):
            return replace(failed, traceback=last_bytes(redact(attribute(error, "traceback")), MAX_TRACEBACK_BYTES))
        if is_a(error, PayloadMismatch):
            return failed  # of that the handler has not a line
        return replace(failed, traceback=traceback_of(error, redact))
    except BaseException:  # noqa: BLE001 - the exception's own code runs in there
        return Outcome(OutcomeKind.UNKNOWN, "UNREADABLE_ERROR", "the handler raised an exception that cannot be read")


def outcome_of_timeout(spec: HandlerSpec, seconds: float, hung_at: str, *, has_returned: bool, more: str = "") -> Outcome:
    """The outcome of a run that timed out at `hung_at`; if it did so while its result was read, that result is lost and nothing else."""
    if has_returned:
        return Outcome(OutcomeKind.SUCCESS, result=UNREAD_IN_TIME)
    return replace(timed_out(seconds, spec, more), traceback=hung_at)


OnReturned = Callable[[], None]
"""Called when a handler has returned a result, before that is read: from then on the run has succeeded, whatever the result is."""
OnRaised = Callable[[BaseException], None]
"""Called with what a handler has raised, before that becomes an outcome; must not raise."""


def _nobody(*_: object) -> None:
    """Nobody wants to know."""


def call_handler(
    spec: HandlerSpec, job: Job, redact: Redact = unchanged, on_returned: OnReturned = _nobody, on_raised: OnRaised = _nobody
) -> Outcome | Awaitable[Any]:
    """Call the handler; returns an awaitable if it returned one, otherwise the outcome."""
    try:
        returned = spec.call(job)
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
        on_raised(error)
        return outcome_of_error(error, spec, redact)
    pending = _awaitable(returned)
    return _outcome_of_result(returned, on_returned) if pending is None else pending


async def await_result(
    awaitable: Awaitable[Any],
    spec: HandlerSpec,
    redact: Redact = unchanged,
    on_returned: OnReturned = _nobody,
    on_raised: OnRaised = _nobody,
) -> Outcome:
    """Await what a handler returned, and what that returns, until it is not an awaitable; raises only CancelledError."""
    pending: Awaitable[Any] | None = awaitable
    try:
        for _ in range(MAX_DEPTH):
            if pending is None:
                return SUCCESS
            returned = await pending
            pending = _awaitable(returned)
            if pending is None:
                return _outcome_of_result(returned, on_returned)
        discard(pending)
        return Outcome(OutcomeKind.UNKNOWN, NOT_RUN, f"the handler returned an awaitable in an awaitable, more than {MAX_DEPTH} deep")
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        on_raised(error)
        return outcome_of_error(error, spec, redact)


def discard(awaitable: object) -> None:
    """Close a coroutine that nobody will await, without a warning."""
    if isinstance(awaitable, CoroutineType):
        try:
            awaitable.close()
        except BaseException:
            log.debug("a coroutine that was not awaited did not close", exc_info=True)


def error_text(error: BaseException, redact: Redact = unchanged) -> str:
    """The exception and the innermost line of its traceback, in one line, whatever its own code does."""
    try:
        text = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
    except BaseException:  # noqa: BLE001 - its own code runs in there
        text = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return short(text, redact, MAX_MESSAGE_CHARS - len(place)) + place


def end_forked_child(process: int) -> None:
    """Exit in a child that a handler forked and that returned from the handler: it must not settle its parent's job."""
    if os.getpid() != process:
        os._exit(FORKED)


def describe_position(frame: FrameType | None) -> str:
    """The innermost line of a stack, as `file:line in function`, and the line of the handler that led there.

    A built-in function that the event loop calls directly has no line.
    """
    if frame is None:
        return "an unknown place"
    inner, outer = frame, None
    step: FrameType | None = frame
    for _ in range(MAX_STEPS):
        name = dict.get(step.f_globals, "__name__") if step is not None else None
        if step is None or (type(name) is str and name in _OURS):
            break
        outer, step = step, step.f_back
    if outer is None:
        return "no line of Python: the event loop itself calls something that is built in, as after loop.call_soon(time.sleep, 5)"
    return _line(inner) if outer is inner else f"{_line(inner)}, called from {_line(outer)}"


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _awaitable(returned: object) -> Awaitable[Any] | None:
    if returned is None:
        return None
    try:
        if isinstance(returned, ThreadFuture):
            return _of_thread(returned)
        return returned if inspect.isawaitable(returned) else None
    except BaseException:  # noqa: BLE001 - what cannot be inspected is a result like any other
        return None


async def _of_thread(future: ThreadFuture[Any]) -> Any:
    return await asyncio.wrap_future(future)


def _outcome_of_result(returned: object, on_returned: OnReturned) -> Outcome:
    """A result is kept with the job; something that should have been run, and cannot be awaited, is a failure."""
    if returned is None:
        return SUCCESS
    try:
        kind = _not_run(returned)
    except BaseException:  # noqa: BLE001 - as above
        kind = None
    if kind is not None:
        return Outcome(OutcomeKind.UNKNOWN, NOT_RUN, f"the handler returned {kind} instead of running it; the handler did not run")
    on_returned()
    return Outcome(OutcomeKind.SUCCESS, result=returned if type(returned) is Result else result_of(returned))


def _not_run(returned: object) -> str | None:
    if inspect.isgenerator(returned):
        return "a generator"
    if inspect.isasyncgen(returned):
        return "an async generator"
    if isinstance(returned, functools.partial) or inspect.isfunction(returned) or inspect.ismethod(returned):
        return "a function"
    return None
