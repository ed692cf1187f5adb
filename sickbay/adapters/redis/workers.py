"""The registry of workers in Redis: one hash, and one script that uses the time of Redis, so that machines' clocks do not matter."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import msgspec

from sickbay.adapters.redis.client import REJECTS_WRITES, UNAVAILABLE, Client, RedisUnavailable, Refused, open_client
from sickbay.adapters.redis.guarded_client import GuardedClient
from sickbay.adapters.redis.script import Script, Word, source
from sickbay.domain.errors import Unavailable
from sickbay.domain.workers import TTL_MS, Fleet, Worker
from sickbay.ports import Clock

KEY: Final = "workers"

log = logging.getLogger(__name__)


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    job_types: tuple[str, ...]
    version: str = ""
    host: str = ""
    slots: int = 0
    slots_in_use: int = 0
    since: int = 0
    draining: bool = False
    lanes: bool = False
    floods: tuple[tuple[str, str, str], ...] = ()
    pool: str = ""
    tenants: tuple[tuple[str, int], ...] = ()
    schemas: tuple[tuple[str, str], ...] = ()
    schedules: str = ""
    code_since: int = 0


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Document)
_FIELDS: Final = _Document.__struct_fields__


class RedisWorkerRegistry:
    """Implements `WorkerRegistry`; open it with `async with`. Redis need not be available."""

    def __init__(self, url: str, *, clock: Clock | None = None, connect: Callable[[str], Client] = open_client) -> None:
        """`clock` replaces the time of Redis (tests). SettingsError if the URL is invalid."""
        self._clock = clock
        self._store = GuardedClient(connect(url))
        self._script = Script(source("workers"))
        self.trouble = ""
        """Why the registry is unknown, without secrets; "" if the last call succeeded."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(Unavailable):
            await self._store.close()

    async def announce(self, worker: Worker) -> None:
        """Enter the worker, or replace what is known of it."""
        document = _Document(**{name: getattr(worker, name) for name in _FIELDS})
        await self._run("announce", worker.worker_id, _encoder.encode(document))

    async def leave(self, worker_id: str) -> None:
        """Remove the worker at once."""
        await self._run("leave", worker_id)

    async def fleet(self) -> Fleet:
        """The live workers; those past their time are forgotten. Unavailable if Redis is."""
        now, *rest = await self._run("list")
        found = (_worker(*rest[at : at + 3]) for at in range(0, len(rest), 3))
        workers = [worker for worker in found if worker is not None]
        return Fleet(int(now), sorted(workers, key=lambda one: (one.name, one.worker_id)))

    async def _run(self, operation: str, *more: Word) -> list[bytes]:
        words: list[Word] = [operation, "" if self._clock is None else self._clock(), TTL_MS, *more]
        try:
            answer: list[bytes] = await self._store.ask(lambda client: self._script.run(client, KEY, words))
        except RedisUnavailable as error:
            self.trouble = REJECTS_WRITES if isinstance(error, Refused) else UNAVAILABLE
            self._store.reset()  # no pauses: calls are rare, and one of 30 s would let a live worker seem gone
            raise
        self.trouble = ""
        return answer


def _worker(worker_id: bytes, seen: bytes, document: bytes) -> Worker | None:
    """None for what another version wrote in another form; a fleet with such a worker is incomplete (`FleetWatch`)."""
    try:
        found = _decoder.decode(document)
        name = worker_id.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.warning("the registry of workers has an entry that cannot be read: %.100r", document)
        return None
    return Worker(name, last_seen=int(seen), **{field: getattr(found, field) for field in _FIELDS})
