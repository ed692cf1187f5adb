"""Limits on the job types and tenants that clients use.

Each name costs something beyond its job (a row in an index, a metric series, a breaker while it fails), and a client can invent names
without end. So this Job API knows a limited number, and accepts a limited number of new ones a minute. Known names continue to work,
whatever other clients do.

When the table is full, an unused name is evicted for a new one. How long an unused name is kept depends on its use: names of a flood are
used once, those of a real client again. So a name is *on probation* at first, and kept for a minute; used again a minute or more after its
first use, it is *established*, and kept for an hour. Invented names fill the table for a minute, not for an hour, unless the flood uses
the same ones again.

The limits are per process: several Job APIs admit that many times as much, which is still a limit, and needs no server.
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
"""A name that is used again this long after its first use is established; until then it can be evicted when unused for this long."""
UNUSED_S: Final = 3_600.0
"""An established name can be evicted when unused for this long."""
LOG_AGAIN_S: Final = 60.0
_MINUTE_S: Final = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NameLimits:
    """How many names are known, and how many new ones (types and tenants together) are accepted per minute."""

    job_types: int = 1_000
    tenants: int = 10_000
    new_per_minute: int = 1_000

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """From the settings."""
        return cls(settings.max_job_types, settings.max_tenants, settings.max_new_names_per_minute)


@dataclass(slots=True)
class _Use:
    first: float
    last: float


class _Known:
    """Names of one kind, on probation and established, each least recently used first."""

    def __init__(self, kind: str, setting: str, limit: int) -> None:
        self.kind = kind
        self.setting = setting
        self._limit = limit
        self._probation: OrderedDict[str, _Use] = OrderedDict()
        self._established: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._probation) + len(self._established)

    def use(self, name: str, now: float) -> bool:
        """Record the use of a known name; False if it is unknown."""
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
        """The seconds until one more fits, if no name is used until then; 0 if it fits now."""
        if len(self) < self._limit:
            return 0.0
        return max(0.0, min(self._expiries()) - now)

    def add(self, name: str, now: float) -> None:
        """Add a name, evicting another if necessary; only if `wait` is 0."""
        if len(self) >= self._limit:
            established, _ = self._expiries()
            (self._established if established <= now else self._probation).popitem(last=False)
        self._probation[name] = _Use(now, now)

    def _expiries(self) -> tuple[float, float]:
        """When the least recently used established name can be evicted, and the one on probation; infinite if there is none."""
        established = next(iter(self._established.values()), inf) + UNUSED_S
        on_probation = next((use.last for use in self._probation.values()), inf) + PROBATION_S
        return established, on_probation


class Names:
    """The names in use at this Job API."""

    def __init__(self, limits: NameLimits, now: Callable[[], float] = monotonic) -> None:
        """`now` is a monotonic clock in seconds. After a start every name is new, so all of them may be added at once."""
        self._types = _Known("job type", "MAX_JOB_TYPES", limits.job_types)
        self._tenants = _Known("tenant", "MAX_TENANTS", limits.tenants)
        self._per_minute = limits.new_per_minute
        self._room = float(max(limits.new_per_minute, limits.job_types + limits.tenants))
        self._filled_at = now()
        self._now = now
        self._logged_at = -LOG_AGAIN_S
        self.refused = 0
        """Submissions rejected because of their names."""

    @property
    def job_types(self) -> int:
        """The number of known ones."""
        return len(self._types)

    @property
    def tenants(self) -> int:
        """The number of known ones."""
        return len(self._tenants)

    def use(self, job_type: str, tenant: str) -> ResourceExhausted | None:
        """Record that a submission uses these; returns the error to reject it with if one of them is new and exceeds a limit."""
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
        if now - self._logged_at >= LOG_AGAIN_S:
            self._logged_at = now
            log.warning("submissions are rejected: %s", why)
        return ResourceExhausted(
            f"this {known.kind} is new here, and {why}; put what differs from job to job into the payload", retry_after=max(1.0, wait_s)
        )
