"""Runs one handler once, under its timeout, and turns whatever happens into an outcome. It never raises."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

from sickbay.circuit import Permit, PermitKind
from sickbay.classify import classify, timed_out
from sickbay.job import Job
from sickbay.outcome import SUCCESS, Kind, Outcome
from sickbay.ports import Breakers
from sickbay.sdk import HandlerSpec

log = logging.getLogger(__name__)
CANCELLED = Outcome(Kind.CANCELLED)


class Runs(Protocol):
    """What the engine needs of a runner."""

    def timeout_of(self, spec: HandlerSpec) -> float:
        """Seconds that a run of this handler may take."""

    async def run(self, spec: HandlerSpec, job: Job, permit: Permit) -> Outcome:
        """Run a handler once; never raises, unless the engine's own task is cancelled."""

    def break_off(self) -> None:
        """Cancel what still runs, and every later run at once."""


class AroundRunner:
    """Implements `Runs` around another runner, all but `run`."""

    def __init__(self, runner: Runs) -> None:
        """`runner` does the work."""
        self._runner = runner

    def timeout_of(self, spec: HandlerSpec) -> float:
        """See `Runs.timeout_of`."""
        return self._runner.timeout_of(spec)

    def break_off(self) -> None:
        """See `Runs.break_off`."""
        self._runner.break_off()


class Runner:
    """Runs async handlers on the loop and sync ones in threads; keeps a probe's lease alive meanwhile."""

    def __init__(self, breakers: Breakers, *, timeout_s: float, threads: int) -> None:
        """`timeout_s` holds for handlers without their own; at most `threads` sync handlers run at a time."""
        self._breakers = breakers
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="handler")
        self._running: set[asyncio.Task[Any]] = set()
        self._overdue = 0
        self._broken_off = asyncio.Event()

    @property
    def running(self) -> int:
        """Handlers that run now."""
        return len(self._running)

    @property
    def overdue(self) -> int:
        """Sync handlers that outlived their timeout and still hold a thread; a thread cannot be stopped from outside."""
        return self._overdue

    def timeout_of(self, spec: HandlerSpec) -> float:
        """Seconds that a run of this handler may take."""
        return spec.timeout or self._timeout_s

    async def run(self, spec: HandlerSpec, job: Job, permit: Permit) -> Outcome:
        """One run. A handler that is broken off by `break_off` comes to CANCELLED."""
        if permit.kind is PermitKind.PROBE:
            async with self._lease(permit):
                return await self._run(spec, job)
        return await self._run(spec, job)

    def break_off(self) -> None:
        """Cancel every handler that still runs, and every later one at once."""
        self._broken_off.set()
        for task in self._running:
            task.cancel()

    def close(self) -> None:
        """Let idle threads go; overdue ones are left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, spec: HandlerSpec, job: Job) -> Outcome:
        if self._broken_off.is_set():
            return CANCELLED
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._running.add(task)
        try:
            return await (self._on_loop(spec, job) if spec.is_async else self._in_thread(spec, job))
        except asyncio.CancelledError as error:
            if task.cancelling() == 0:  # the handler raised it by itself
                return classify(error, spec)
            if not self._broken_off.is_set():
                raise
            task.uncancel()
            return CANCELLED
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            return classify(error, spec)
        finally:
            self._running.discard(task)

    async def _on_loop(self, spec: HandlerSpec, job: Job) -> Outcome:
        seconds = self.timeout_of(spec)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await spec.function(job)
        except TimeoutError as error:
            return timed_out(seconds, spec) if limit.expired() else classify(error, spec)
        return SUCCESS

    async def _in_thread(self, spec: HandlerSpec, job: Job) -> Outcome:
        seconds = self.timeout_of(spec)
        context = contextvars.copy_context()
        future = asyncio.get_running_loop().run_in_executor(self._pool, context.run, spec.function, job)
        try:
            done, _ = await asyncio.wait([future], timeout=seconds)
        except asyncio.CancelledError:
            self._leave_behind(future)
            raise
        if not done:
            self._leave_behind(future)
            return timed_out(seconds, spec)
        future.result()
        return SUCCESS

    def _leave_behind(self, future: asyncio.Future[None]) -> None:
        self._overdue += 1

        def over(ended: asyncio.Future[None]) -> None:
            self._overdue -= 1
            if not ended.cancelled():
                ended.exception()

        future.add_done_callback(over)

    @asynccontextmanager
    async def _lease(self, permit: Permit) -> AsyncIterator[None]:
        keeper = asyncio.create_task(self._renew(permit), name="probe lease")
        try:
            yield
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    async def _renew(self, permit: Permit) -> None:
        while True:
            await asyncio.sleep(permit.lease_ms / 3000)
            if not await self._breakers.renew(permit):
                log.warning("the probe of %s outlived its lease; another job will probe", permit.key.name)
                return
