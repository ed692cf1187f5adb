"""What a worker tells the registries while it runs: that it is there, which job types it takes, their payloads and their schedules."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Mapping

from sickbay.domain.workers import Worker as LiveWorker
from sickbay.handlers.registry import HandlerSpec
from sickbay.handlers.type_schemas import schemas_of
from sickbay.runtime.parts import WorkerParts
from sickbay.runtime.settings import Settings
from sickbay.version import VERSION
from worker.announced_schedules import AnnouncedSchedules
from worker.announced_types import AnnouncedTypes
from worker.engine import Engine
from worker.handlers import Handlers, Source
from worker.presence import Presence


class Announcing:
    """One per worker: `announce` before it takes jobs, run `presence`, `types` and `schedules` while it does."""

    def __init__(
        self, backends: WorkerParts, settings: Settings, handlers: Handlers, engine: Engine, running: Callable[[], Mapping[str, int]]
    ) -> None:
        """`running` says how many jobs of each tenant run."""
        self._handlers = handlers
        self.types = AnnouncedTypes(backends.job_types, schemas_of(handlers.values()))
        self.schedules = AnnouncedSchedules(backends.code_schedules, handlers.of(Source.MODULES).values(), backends.clock)
        self.presence = Presence(
            backends.workers,
            _announced(settings, handlers, backends.clock()),
            lambda: engine.slots_in_use,
            lambda: engine.floods,
            job_types=lambda: handlers,
            schemas=lambda: self.types.keys,
            schedules=lambda: (self.schedules.digest, self.schedules.since),
            running=running,
        )
        engine.intake.on_flood = self.presence.tell
        handlers.on_change(self._tell)

    async def announce(self) -> None:
        """Announce what it takes, and that it is there."""
        await self.types.announce()  # first, so that what the worker's heartbeats name is known
        await self.schedules.announce()
        await self.presence.announce()

    def _tell(self) -> None:
        self.types.replace(schemas_of(self._handlers.values()))
        self.schedules.replace(self._handlers.of(Source.MODULES).values())
        self.presence.tell()


def _announced(settings: Settings, handlers: Mapping[str, HandlerSpec], now: int) -> LiveWorker:
    """What the registry is told of this worker. Its id is new at each start: another process may have the same name."""
    return LiveWorker(
        worker_id=f"{settings.worker_name}-{secrets.token_hex(4)}",
        name=settings.worker_name,
        job_types=tuple(sorted(handlers)),
        version=VERSION,
        host=socket.gethostname(),
        slots=settings.concurrency,
        since=now,
        lanes=not settings.pool,
        pool=settings.pool,
    )
