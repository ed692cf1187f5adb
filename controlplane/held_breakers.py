"""Limits on breakers with invented names: how many commands may hold for job types or tenants that have had no job yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from sickbay.domain.breaker import Action, BreakerKey, BreakerState, Snapshot
from sickbay.domain.errors import ResourceExhausted
from sickbay.domain.job import DEFAULT_TENANT
from sickbay.ports import Breakers

MAX_HELD_UNKNOWN: Final = 100
MAX_HELD: Final = 1_000
"""A command for an unknown breaker is accepted while fewer are held (`_is_held`): of an unknown job type, or of a known one."""
MAX_OF_DEFAULT: Final = 1_000
"""And, for the tenant `default`, while that has fewer in all: such a breaker remains for an hour after its reset."""
COUNT_AGAIN_S: Final = 1.0
"""Seconds between two counts, which read every breaker; in between the commands of this process are added."""
RETRY_AFTER_S: Final = 60.0

_HOLDS: Final = frozenset({Action.FORCE_OPEN, Action.DISABLE, Action.METRICS_ONLY})
_HELD: Final = frozenset({BreakerState.FORCED_OPEN, BreakerState.DISABLED, BreakerState.METRICS_ONLY})


class HeldBreakers:
    """Counts the breakers that are held."""

    def __init__(self, breakers: Breakers, now: Callable[[], float] = monotonic) -> None:
        """`now` is a monotonic clock in seconds."""
        self._breakers = breakers
        self._now = now
        self._counted_at = float("-inf")
        self._held: set[BreakerKey] = set()
        self._counting = asyncio.Lock()

    async def check(self, key: BreakerKey, action: Action) -> None:
        """ResourceExhausted if the command would hold one unknown breaker too many; otherwise it is counted."""
        if action not in _HOLDS or key in (known := await self._breakers.keys()):
            return
        async with self._counting:
            if self._now() - self._counted_at >= COUNT_AGAIN_S:
                await self._count()
        held, is_known = len(self._held), any(one.job_type == key.job_type for one in known)
        if key not in self._held and held >= (MAX_HELD if is_known else MAX_HELD_UNKNOWN):
            raise ResourceExhausted(
                f"no breaker '{key.name}' is known, and {held:,} are already held, or were held and wait for a probe; "
                "check the name, or reset some of the others",
                retry_after=RETRY_AFTER_S,
            )
        of_default = sum(one.tenant == DEFAULT_TENANT for one in known)
        if key.tenant == DEFAULT_TENANT and of_default >= MAX_OF_DEFAULT:
            raise ResourceExhausted(
                f"no breaker '{key.name}' is known, and {of_default:,} others are; check the name, "
                "or repeat this later: those that were reset and run no job are deleted after an hour",
                retry_after=RETRY_AFTER_S,
            )
        self._held.add(key)

    def record(self, key: BreakerKey, action: Action) -> None:
        """Count a command that was carried out."""
        if action is Action.RESET:
            self._held.discard(key)
        elif action in _HOLDS:
            self._held.add(key)

    async def _count(self) -> None:
        self._held = {one.key for one in await self._breakers.snapshots() if _is_held(one)}
        self._counted_at = self._now()


def _is_held(breaker: Snapshot) -> bool:
    """Whether only a command keeps it from being CLOSED; after a hold it waits for a probe, forever if no job comes."""
    waits = breaker.state in {BreakerState.OPEN, BreakerState.HALF_OPEN} and not breaker.total_failures
    return waits or breaker.state in _HELD
