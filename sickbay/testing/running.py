"""One run of a handler outside of a worker: on a loop of its own or of the test, in a thread, or in the calling thread."""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
import threading
import time
from collections.abc import Awaitable
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any, Final

from sickbay.domain.errors import SubmitError
from sickbay.domain.follow_up import NewFollowUp
from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.progress import MAX_PROGRESS_CHARS, Progress
from sickbay.domain.raised import clean, plain
from sickbay.domain.run_context import RunContext, bind, unbind
from sickbay.handlers.call import HUNG, await_result, call_handler, outcome_of_error, outcome_of_timeout
from sickbay.handlers.lifespan import lifespans_of
from sickbay.handlers.registry import HandlerSpec
from sickbay.handlers.resources import Resources
from sickbay.handlers.traceback_text import stack_of, waiting_of
from sickbay.testing.follow_ups import Submitted, submitted

CLEANUP_S: Final = 5.0
"""How long a handler that has timed out may take to end."""


class Run:
    """One run; `perform` or `perform_async` once, then read the rest."""

    def __init__(self, spec: HandlerSpec, job: Job, timeout_s: float) -> None:
        """`timeout_s` may be infinite: then a plain function is called in the thread of `perform`."""
        self._spec, self._job, self._timeout_s = spec, job, timeout_s
        self._has_returned = False
        self._began = 0.0
        self.outcome = Outcome(OutcomeKind.CANCELLED)
        self.exception: BaseException | None = None
        self.progress: list[Progress] = []
        self.submitted: list[Submitted] = []
        self.seconds = 0.0

    def perform(self) -> Run:
        """Run it where no event loop runs."""
        if lifespans_of(self._spec.scope):
            return asyncio.run(self.perform_async()) if self._spec.is_async else self._perform_with_loop()
        return self._perform()

    def _perform_with_loop(self) -> Run:
        """Run a plain function, whose async lifespans live on a loop in another thread."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="lifespans-loop", daemon=True)
        thread.start()
        resources = Resources()
        try:
            resources.use(loop)
            self._spec = resources.bound(self._spec)
            return self._perform()
        finally:
            wait(resources.end(), CLEANUP_S)
            wait(resources.end_plain(), CLEANUP_S)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _perform(self) -> Run:
        self._begin()
        try:
            found = None if self._spec.is_async else self._call() if math.isinf(self._timeout_s) else self._call_in_thread()
            self._end(found if isinstance(found, Outcome) else asyncio.run(self._on_loop(found)))
        finally:
            unbind(self._job)
        return self

    async def perform_async(self) -> Run:
        """Run it where an event loop runs."""
        if not lifespans_of(self._spec.scope):
            return await self._perform_async()
        resources = Resources()
        resources.use(asyncio.get_running_loop())
        try:
            self._spec = await resources.bound_async(self._spec)
            return await self._perform_async()
        finally:
            for end in (resources.end, resources.end_plain):
                if ended := [asyncio.wrap_future(one) for one in end()]:
                    await asyncio.wait(ended, timeout=CLEANUP_S)

    async def _perform_async(self) -> Run:
        self._begin()
        try:
            found = None if self._spec.is_async else await asyncio.to_thread(self._call_in_thread)
            self._end(found if isinstance(found, Outcome) else await self._on_loop(found))
        finally:
            unbind(self._job)
        return self

    def _begin(self) -> None:
        deadline_ms = 0 if math.isinf(self._timeout_s) else int(1000 * (time.time() + self._timeout_s))
        bind(self._job, RunContext(self._report, deadline_ms=deadline_ms, submit=self._submit))
        self._began = time.monotonic()

    def _submit(self, asked: NewFollowUp) -> Future[str]:
        follow_up = submitted(asked)
        known = next((one for one in self.submitted if one.key == follow_up.key), None)
        if known is not None and known != replace(follow_up, job_id=known.job_id, delay=known.delay, run_at=known.run_at):
            raise SubmitError("IDEMPOTENCY_KEY_REUSED", "this idempotency key was used for a different request", kind=OutcomeKind.DATA)
        if known is None:
            self.submitted.append(follow_up)
        future: Future[str] = Future()
        future.set_result((known or follow_up).job_id)
        return future

    def _report(self, fraction: float, text: str) -> None:
        self.progress.append(Progress(fraction, clean(plain(text), MAX_PROGRESS_CHARS)))

    def _end(self, outcome: Outcome) -> None:
        self.seconds = time.monotonic() - self._began
        self.outcome = outcome

    @property
    def _left_s(self) -> float:
        return max(self._began + self._timeout_s - time.monotonic(), 0.0)

    def _on_returned(self) -> None:
        """The handler has returned something, in time unless its run is over."""
        self._has_returned = self._left_s > 0

    def _on_raised(self, error: BaseException) -> None:
        """The handler has raised something, in time unless its run is over: then that was our cancellation."""
        if self._left_s > 0:
            self.exception = error

    def _timed_out(self, hung_at: str, more: str = "") -> Outcome:
        return outcome_of_timeout(self._spec, self._timeout_s, hung_at, has_returned=self._has_returned, more=more)

    def _call(self) -> Outcome | Awaitable[Any]:
        return call_handler(self._spec, self._job, on_returned=self._on_returned, on_raised=self._on_raised)

    def _call_in_thread(self) -> Outcome | Awaitable[Any]:
        """Call it in a thread, which is abandoned if it takes too long: nothing can stop it."""
        found: list[Outcome | Awaitable[Any]] = []
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: found.append(context.run(self._call)), name="handler", daemon=True)
        thread.start()
        thread.join(None if math.isinf(self._timeout_s) else self._left_s)
        if thread.is_alive():
            return self._timed_out(stack_of(sys._current_frames().get(thread.ident or 0), HUNG))  # noqa: SLF001 - documented for this
        return found[0]

    async def _on_loop(self, pending: Awaitable[Any] | None) -> Outcome:
        """Run an async handler, or await what a plain function has returned."""
        task = asyncio.ensure_future(self._body(pending))
        try:
            done, _ = await asyncio.wait({task}, timeout=None if math.isinf(self._timeout_s) else self._left_s)
            if done:
                if time.monotonic() - self._began > self._timeout_s:
                    return self._timed_out("", "it blocked the event loop")
                return task.result()
            hung_at = waiting_of(task, HUNG)
            task.cancel()
            await asyncio.wait({task}, timeout=CLEANUP_S)
            return self._timed_out(hung_at)
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _body(self, pending: Awaitable[Any] | None) -> Outcome:
        try:
            found = self._call() if pending is None else pending
            if isinstance(found, Outcome):
                return found
            return await await_result(found, self._spec, on_returned=self._on_returned, on_raised=self._on_raised)
        except BaseException as error:  # noqa: BLE001 - as in a worker: a handler may raise these itself
            self._on_raised(error)
            return outcome_of_error(error, self._spec)
