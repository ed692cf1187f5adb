"""Bounds on the names that clients make up: job types and tenants.

Each name costs the system something beyond its job (a row in an index, a series, a circuit while it fails), and a client can make up names
without end. So this Job API knows a bounded number, and takes a bounded number of new ones a minute. Names it knows go on working, whatever
others do.

Where there is no room, a name that is not used any more makes some. How long it is kept unused depends on what is known of it: a name of
a flood comes once, one of a real client comes again. So a name is *on probation* at first, and kept for a minute; used again a minute or
more after it first came it is *established*, and kept for an hour. Names that were made up fill the table for a minute, not for an hour,
unless their flood comes again with the same ones.

It knows its own clients only: several Job APIs admit as many times as much, which is still a bound, and needs no server.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final, Self

from sickbay.domain.errors import ResourceExhausted
from sickbay.runtime.settings import Settings

PROBATION_S: Final = 60.0
"""A name that is used again so long after it first came is established; until then it makes room after so long without use."""
UNUSED_S: Final = 3_600.0
"""An established name that nobody used for so long makes room for another."""
SAY_AGAIN_S: Final = 60.0
_MINUTE_S: Final = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NameLimits:
    """How many names are known, and how many new ones (types and tenants together) are taken in a minute."""

    job_types: int = 1_000
    tenants: int = 10_000
    new_per_minute: int = 1_000

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the variables."""
        return cls(settings.max_job_types, settings.max_tenants, settings.max_new_names_per_minute)


@dataclass(slots=True)
class _Use:
    first: float
    last: float


class _Known:
    """Names of one kind, on probation and established, in both that used longest ago first."""

    def __init__(self, kind: str, setting: str, limit: int) -> None:
        self.kind = kind
        self.setting = setting
        self._limit = limit
        self._probation: OrderedDict[str, _Use] = OrderedDict()
        self._established: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._probation) + len(self._established)

    def use(self, name: str, now: float) -> bool:
        """Whether it is known; then it was used now."""
        if name in self._established:
            self._established[name] = now
            self._established.move_to_end(name)
        elif name in self._probation:
            self._use_again(name, now)
        else:
            return False
        return True

    def _use_again(self, name: str, now: float) -> None:
        use = self._probation[name]
        if now - use.first >= PROBATION_S:
            del self._probation[name]
            self._established[name] = now
        else:
            use.last = now
            self._probation.move_to_end(name)

    def wait(self, now: float) -> float:
        """In how many seconds one more fits, if no name is used until then; 0 if it does now."""
        if len(self) < self._limit:
            return 0.0
        return max(0.0, min(self._ends()) - now)

    def add(self, name: str, now: float) -> None:
        """Only if there is nothing to wait for."""
        if len(self) >= self._limit:
            established, _ = self._ends()
            (self._established if established <= now else self._probation).popitem(last=False)
        self._probation[name] = _Use(now, now)

    def _ends(self) -> tuple[float, float]:
        """When the established name that was used longest ago makes room, and when the one on probation does; infinite if there is none."""
        established = next(iter(self._established.values()), inf) + UNUSED_S
        on_probation = next((use.last for use in self._probation.values()), inf) + PROBATION_S
        return established, on_probation


class Names:
    """What this Job API knows of the names in use."""

    def __init__(self, limits: NameLimits, now: Callable[[], float] = monotonic) -> None:
        """`now` in seconds, never steps. After a start every name is new, so there is room for all."""
        self._types = _Known("job type", "MAX_JOB_TYPES", limits.job_types)
        self._tenants = _Known("tenant", "MAX_TENANTS", limits.tenants)
        self._per_minute = limits.new_per_minute
        self._room = float(max(limits.new_per_minute, limits.job_types + limits.tenants))
        self._filled_at = now()
        self._now = now
        self._said_at = -SAY_AGAIN_S
        self.refused = 0
        """Submissions refused because of their names."""

    @property
    def job_types(self) -> int:
        """How many are known."""
        return len(self._types)

    @property
    def tenants(self) -> int:
        """How many are known."""
        return len(self._tenants)

    def use(self, job_type: str, tenant: str) -> ResourceExhausted | None:
        """Note that a submission uses these; the error to answer it with if one of them is new, and one too many."""
        now = self._now()
        knows_type, knows_tenant = self._types.use(job_type, now), self._tenants.use(tenant, now)
        if knows_type and knows_tenant:
            return None
        asked = ((knows_type, self._types, job_type), (knows_tenant, self._tenants, tenant))
        new = [(known, name) for is_known, known, name in asked if not is_known]
        self._fill(now)
        if self._room < len(new):
            wait_s = (len(new) - self._room) / self._per_minute * _MINUTE_S
            why = f"too many new job types and tenants: more than {self._per_minute:,} within a minute (MAX_NEW_NAMES_PER_MINUTE)"
            return self._refuse(new[0][0], now, why, wait_s)
        full, wait_s = max(((known, known.wait(now)) for known, _ in new), key=lambda each: each[1])
        if wait_s > 0:
            return self._refuse(full, now, f"too many {full.kind}s: {len(full):,} are already in use ({full.setting})", wait_s)
        self._room -= len(new)
        for known, name in new:
            known.add(name, now)
        return None

    def _fill(self, now: float) -> None:
        if self._room < self._per_minute:
            self._room = min(float(self._per_minute), self._room + (now - self._filled_at) / _MINUTE_S * self._per_minute)
        self._filled_at = now

    def _refuse(self, known: _Known, now: float, why: str, wait_s: float) -> ResourceExhausted:
        self.refused += 1
        if now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            log.warning("submissions are rejected: %s", why)
        return ResourceExhausted(
            f"this {known.kind} is new here, and {why}; put what differs from job to job into the payload", retry_after=max(1.0, wait_s)
        )
