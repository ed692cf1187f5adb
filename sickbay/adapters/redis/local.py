"""The breakers of this process alone, while Redis is unavailable.

Breakers that were open in the fleet stay open; the others use the embedded breaker, so a dependency that fails meanwhile is still
protected. A breaker that opens here is probed here, by one job of this process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.domain.breaker import BreakerKey, BreakerState, ConfigOf, Permit, Refusal, Snapshot
from sickbay.domain.outcome import Outcome
from sickbay.ports import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalPermit(Permit):
    """A permit of this process, unknown to the fleet."""


class LocalBreakers:
    """Embedded breakers that are discarded when Redis is back: the fleet's state wins."""

    def __init__(self, config: ConfigOf, clock: Clock, rng: Random, worker: str) -> None:
        self._make: Callable[[], EmbeddedBreakers] = lambda: EmbeddedBreakers(config, clock, rng, worker)
        self._breakers = self._make()
        self._shut: set[BreakerKey] = set()

    @property
    def shut(self) -> frozenset[BreakerKey]:
        """The breakers that refuse jobs in this process alone."""
        return frozenset(self._shut)

    async def admit(self, key: BreakerKey, job_id: str, longest_ms: int = 0) -> Permit | Refusal:
        """As the port's."""
        answer = await self._breakers.admit(key, job_id, longest_ms)
        if isinstance(answer, Refusal):
            return answer
        return LocalPermit(answer.key, answer.kind, answer.epoch, answer.job_id, answer.token, answer.lease_ms, answer.longest_ms)

    async def settle(self, permit: LocalPermit, outcome: Outcome, took_ms: int = 0) -> BreakerState:
        """As the port's."""
        return self._log_change(permit.key, await self._breakers.settle(permit, outcome, took_ms))

    async def settle_for_fleet(self, permit: Permit, outcome: Outcome, took_ms: int = 0) -> BreakerState:
        """Settle here the outcome of a job that was admitted by the fleet, because it cannot be reported now."""
        answer = await self._breakers.admit(permit.key, permit.job_id)
        if isinstance(answer, Refusal):
            return answer.state
        return self._log_change(permit.key, await self._breakers.settle(answer, outcome, took_ms))

    async def renew(self, permit: LocalPermit) -> bool:
        """As the port's."""
        return await self._breakers.renew(permit)

    async def snapshots(self) -> Sequence[Snapshot]:
        """As the port's."""
        return await self._breakers.snapshots()

    def forget(self) -> None:
        """Redis is back."""
        self._breakers = self._make()
        self._shut.clear()

    def _log_change(self, key: BreakerKey, state: BreakerState) -> BreakerState:
        """Log when this breaker opens and closes, because other processes do not know it."""
        if state.refuses and key not in self._shut:
            self._shut.add(key)
            log.warning("breaker %s is %s in this process alone, because Redis is unavailable: its jobs are parked here", key.name, state)
        elif not state.refuses and key in self._shut:
            self._shut.discard(key)
            log.info("breaker %s is %s again in this process", key.name, state)
        return state
