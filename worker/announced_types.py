"""Announces the schemas of a worker's job types: at its start, when its handlers change, and when the registry has lost them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import Unavailable
from sickbay.domain.job_type import RENEW_MS, SchemaKey, TypeSchema
from sickbay.domain.workers import HEARTBEAT_MS
from sickbay.ports.job_types import JobTypes

RENEW_S: Final = RENEW_MS / 1000
AGAIN_S: Final = HEARTBEAT_MS / 1000
"""The pause after a failure."""

log = logging.getLogger(__name__)


class AnnouncedTypes:
    """One per worker: `announce` before it takes jobs, `run` while it does. Without schemas, or a registry, neither does anything."""

    def __init__(
        self, registry: JobTypes | None, schemas: Sequence[TypeSchema], *, every_s: float = RENEW_S, again_s: float = AGAIN_S
    ) -> None:
        """`every_s` is how often the registry is asked whether it still knows them, `again_s` how soon after a failure."""
        self._registry = registry
        self._schemas = {one.key: one for one in schemas}
        self._every_s = every_s
        self._again_s = again_s
        self._is_announced = False
        self._told = False
        self._changed = asyncio.Event()

    @property
    def keys(self) -> Sequence[SchemaKey]:
        """What the heartbeats of the worker say of them."""
        return list(self._schemas)

    def replace(self, schemas: Sequence[TypeSchema]) -> None:
        """From now on it has these: those that are new are announced soon."""
        replaced = {one.key: one for one in schemas}
        if not replaced.keys() <= self._schemas.keys():
            self._is_announced = False
            self._changed.set()
        self._schemas = replaced

    async def announce(self) -> None:
        """Announce them all. Nothing else depends on that here; the first of several failures is logged."""
        await self._try(list(self._schemas))

    async def run(self) -> None:
        """Renew them again and again, until cancelled."""
        while True:
            await wait_for_event(self._changed, self._every_s if self._is_announced else self._again_s)
            self._changed.clear()
            await self.renew()

    async def renew(self) -> None:
        """Say that they are in use, and announce those that are unknown."""
        if self._registry is None or not self._schemas:
            return
        try:
            unknown = await self._registry.renew(list(self._schemas)) if self._is_announced else list(self._schemas)
        except Unavailable:
            self._is_announced = False
            return
        if unknown:
            await self._try(unknown)

    async def _try(self, keys: Sequence[SchemaKey]) -> None:
        if self._registry is None or not keys:
            return
        try:
            await self._registry.announce([self._schemas[key] for key in keys if key in self._schemas])
        except Unavailable as error:
            self._is_announced = False
            if not self._told:
                log.warning("this worker cannot announce the schemas of its payloads, so nobody checks them before a run: %s", error)
            self._told = True
        else:
            self._is_announced, self._told = True, False
