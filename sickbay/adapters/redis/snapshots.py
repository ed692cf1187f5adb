"""The snapshots of the fleet's breakers, which may be thousands: read from Redis, or without it from the last view."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from sickbay.adapters.redis.breaker_sync import BreakerSync
from sickbay.adapters.redis.documents import batched
from sickbay.adapters.redis.local import LocalBreakers
from sickbay.adapters.redis.view import Seen
from sickbay.breaker import machine as breaker
from sickbay.breaker.shown import ShownBreakers
from sickbay.concurrency.tasks import cooperatively
from sickbay.domain.breaker import BreakerKey, BreakerState, ConfigOf, Snapshot
from sickbay.domain.errors import Unavailable

SHOWN_AT_ONCE: Final = 50
"""So many are made between two looks at the clock, unless Redis is asked meanwhile."""


class RedisSnapshots:
    """The reading half of `RedisBreakers`."""

    def __init__(self, sync: BreakerSync, local: LocalBreakers, config: ConfigOf) -> None:
        """`local` are the breakers of this process alone."""
        self._sync = sync
        self._local = local
        self._config = config
        self._shown = ShownBreakers()

    async def keys(self) -> Sequence[BreakerKey]:
        """The keys of all breakers; without Redis those of the last view, Unavailable if it is empty."""
        try:
            return await self._sync.keys()
        except Unavailable:
            return [seen.key for seen in await self._last_known()]

    async def read(self, keys: Collection[BreakerKey] | None) -> Sequence[Snapshot]:
        """All breakers, or those among `keys`; without Redis the last view, marked as degraded, Unavailable if it is empty."""
        try:
            await self._sync.read_all() if keys is None else await self._sync.read(keys)
            return await self._current(keys)
        except Unavailable:
            known = {one.key: one for one in await self._last_known()}
            return list(known.values()) if keys is None else [known[key] for key in keys if key in known]

    def of(self, seen: Seen) -> Snapshot:
        """That of a breaker as it was seen."""
        return breaker.snapshot(seen.doc, self._config(seen.doc.key), self._sync.time.now(), total_failures=seen.total)

    async def _current(self, asked: Collection[BreakerKey] | None) -> list[Snapshot]:
        """The breakers in the view; Redis is told about those that time has changed."""
        self._shown.prune(self._sync.view.known)
        found: list[Snapshot] = []
        async for some in cooperatively(batched(self._sync.view.all(asked), SHOWN_AT_ONCE)):
            now = self._sync.time.now()
            for seen in some:
                config = self._config(seen.doc.key)
                if shown := self._shown.get(seen.doc, config, now, seen.total):
                    found.append(shown)
                elif breaker.catch_up(seen.doc, config, now) is seen.doc:
                    found.append(self._shown.make(seen.doc, config, now, seen.total))
                else:
                    await self._sync.call("look", seen.doc.key)
                    found += map(self.of, self._sync.view.all([seen.doc.key]))
                    now = self._sync.time.now()
        return found

    async def _last_known(self) -> Sequence[Snapshot]:
        here = {seen.key: seen for seen in await self._local.snapshots()}
        known = {seen.doc.key: self.of(seen) for seen in self._sync.view.all()}
        if not known and not here:
            raise Unavailable("no breaker is known here, and Redis is unavailable")
        closed = {key: one for key, one in here.items() if key not in known or known[key].state is BreakerState.CLOSED}
        return [replace(one, degraded=True) for _, one in sorted({**known, **closed}.items())]
