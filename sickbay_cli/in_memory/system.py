"""The product in memory, in a thread of its own, as a test sees it."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final, Self, TypeVar, cast

from sickbay.client import Breaker, Client, Job, NewJob
from sickbay.domain.errors import SettingsError
from sickbay.handlers.loading import load_handlers
from sickbay.handlers.payloads import is_payload_object
from sickbay.handlers.payloads.typing import PayloadObject
from sickbay.handlers.registry import HandlerSpec
from sickbay.testing.jobs import spec_of
from sickbay.testing.system import Handler, Handlers, System
from sickbay_cli.in_memory.clock import MovableClock, MovableLoop
from sickbay_cli.in_memory.parts import Started, read_settings, start
from sickbay_cli.in_memory.settled import Settled

PATIENCE_S: Final = 30.0
"""How long `drain` waits for handlers, in real seconds."""
_LOOK_S: Final = 0.005
_START_S: Final = 30.0
T = TypeVar("T")


class InMemorySystem(System):
    """See `sickbay.testing.System`. Use it in `with`, or `close` it."""

    def __init__(self, handlers: Handlers, settings: Mapping[str, object] | None = None) -> None:
        """Start it. SettingsError if a module cannot be loaded or a setting is invalid, TypeError for a function that is no handler."""
        self._handlers = _loaded(handlers)
        self._settings = read_settings(settings or {})
        self._clock = MovableClock()
        self._submitted: list[str] = []
        self._loop = MovableLoop(self._clock)
        self._started: Future[Started] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="sickbay in memory", daemon=True)
        self._thread.start()
        started = self._started.result(_START_S)
        self._backends = started.backends
        self._settled = Settled(started.backends)
        self.address = started.jobapi
        self.client = Client(started.jobapi, control_plane=started.control_plane)

    @property
    def now(self) -> datetime:
        """The time by the clock of this system."""
        return datetime.fromtimestamp(self._clock.wall() / 1000, UTC)

    def submit(self, job: str | Handler | PayloadObject, payload: Mapping[str, Any] | PayloadObject | None = None, **options: Any) -> str:
        """Submit a job of this type, of this handler's type, or of this payload's type; returns its id."""
        if payload is None and not callable(job) and is_payload_object(job):
            new = NewJob(cast("PayloadObject", job))
        else:
            job_type = job if isinstance(job, str) else spec_of(cast("Handler", job)).job_type
            new = NewJob(job_type, {} if payload is None else payload)
        job_id = self.client.submit(new.job_type, new.payload, **options).job_id
        self._submitted.append(job_id)
        return job_id

    def job(self, job_id: str) -> Job:
        """The job as clients see it."""
        return self.client.get(job_id)

    def result(self, job_id: str) -> Any:
        """What the handler returned, decoded from JSON; None if there is none, or if it is not kept."""
        record = self._call(self._backends.reader.get(job_id))
        kept = record.result if record is not None else None
        return json.loads(kept.json) if kept is not None and kept.json else None

    def breaker(self, job: str | Handler) -> Breaker:
        """The breaker of this job type, or of this handler's type."""
        return self.client.breakers.get(job if isinstance(job, str) else spec_of(job).job_type)

    def drain(self, *, patience: float = PATIENCE_S) -> None:
        """Wait until nothing runs and nothing is due now. TimeoutError after `patience` real seconds."""
        self._call(self._drain(patience))

    def advance(self, seconds: float, *, patience: float = PATIENCE_S) -> None:
        """Move the clock ahead, and do what becomes due meanwhile, each thing at its time. TimeoutError as in `drain`."""
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise ValueError(f"the clock can be moved by 0 s or more, not by {seconds!r}")
        self._call(self._advance(round(1000 * seconds), patience))

    def close(self) -> None:
        """Stop it: running jobs are cancelled."""
        if self._thread.is_alive():
            self.client.close()
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_START_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _drain(self, patience: float) -> int | None:
        """Returns when the next thing is due (ms)."""
        until = time.monotonic() + patience
        while True:
            is_busy, at = await self._settled.due(self._submitted)
            if not is_busy:
                self._submitted.clear()
                return at
            if time.monotonic() > until:
                raise TimeoutError(f"jobs still run, or are due, after {patience:g} s; handlers are not part of the moved time")
            await asyncio.sleep(_LOOK_S)

    async def _advance(self, by_ms: int, patience: float) -> None:
        target = self._clock.wall() + by_ms
        while True:
            at = await self._drain(patience)
            now = self._clock.wall()
            if now >= target:
                return
            self._clock.move(max(1, min(target if at is None else at, target) - now))

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        except BaseException as error:  # noqa: BLE001 - raised where the test starts the system
            if not self._started.done():
                self._started.set_exception(error)
        finally:
            self._loop.close()

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            self._started.set_result(await stack.enter_async_context(start(self._settings, self._handlers, self._clock)))
            await self._stop.wait()


def _loaded(handlers: Handlers) -> Mapping[str, HandlerSpec]:
    if isinstance(handlers, str):
        return load_handlers(handlers)
    found: dict[str, HandlerSpec] = {}
    for function in handlers:
        spec = spec_of(function)
        if spec.job_type in found:
            raise SettingsError(f"two functions handle {spec.job_type!r}")
        found[spec.job_type] = spec
    return found
