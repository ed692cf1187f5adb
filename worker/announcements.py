"""Announces what a worker has in its code to a registry: at its start, when its handlers change, and when the registry has lost it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import Unavailable
from sickbay.domain.workers import HEARTBEAT_MS

AGAIN_S: Final = HEARTBEAT_MS / 1000
"""The pause after a failure."""
K = TypeVar("K")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

log = logging.getLogger(__name__)


class Registry(Protocol[K, T_contra]):
    """What `JobTypes` and `CodeSchedules` have in common; they explain it."""

    async def announce(self, announced: Sequence[T_contra], /) -> None:
        """Enter these."""

    async def renew(self, keys: Sequence[K], /) -> Sequence[K]:
        """Keep these; returns those that are unknown."""


class Announcements(Generic[K, T]):
    """One per worker and registry: `announce` before it takes jobs, `run` while it does. Without content or registry nothing happens."""

    def __init__(
        self, registry: Registry[K, T] | None, content: Mapping[K, T], trouble: str, *, every_s: float, again_s: float = AGAIN_S
    ) -> None:
        """`every_s` is how often the registry is asked whether it still knows it, `again_s` how soon after a failure.

        `trouble` is what is logged of the first failure, with a place for its error.
        """
        self._registry = registry
        self._content = dict(content)
        self._trouble = trouble
        self._every_s = every_s
        self._again_s = again_s
        self._is_announced = False
        self._told = False
        self._changed = asyncio.Event()

    @property
    def keys(self) -> Sequence[K]:
        """What the heartbeats of the worker say of it."""
        return list(self._content)

    def set(self, content: Mapping[K, T]) -> None:
        """From now on it has this: what is new is announced soon."""
        if not content.keys() <= self._content.keys():
            self._is_announced = False
            self._changed.set()
        self._content = dict(content)

    async def announce(self) -> None:
        """Announce it all. Nothing else depends on that here; the first of several failures is logged."""
        await self._try(list(self._content))

    async def run(self) -> None:
        """Renew it again and again, until cancelled."""
        while True:
            await wait_for_event(self._changed, self._every_s if self._is_announced else self._again_s)
            self._changed.clear()
            await self.renew()

    async def renew(self) -> None:
        """Say that it is in use, and announce what is unknown."""
        if self._registry is None or not self._content:
            return
        try:
            unknown = await self._registry.renew(list(self._content)) if self._is_announced else list(self._content)
        except Unavailable:
            self._is_announced = False
            return
        if unknown:
            await self._try(unknown)

    async def _try(self, keys: Sequence[K]) -> None:
        if self._registry is None or not keys:
            return
        try:
            await self._registry.announce([self._content[key] for key in keys if key in self._content])
        except Unavailable as error:
            self._is_announced = False
            if not self._told:
                log.warning(self._trouble, error)
            self._told = True
        else:
            self._is_announced, self._told = True, False
