"""The workers of the fleet, as they announce themselves, and which job types they handle. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from zlib import crc32

HEARTBEAT_MS: Final = 5_000
"""How often a worker announces itself."""
TTL_MS: Final = 15_000
"""A worker that has not announced itself for so long is no longer live: it was killed, or cannot reach the registry."""


MAX_TENANTS: Final = 100
"""So many tenants a worker announces with their slots."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process. `worker_id` is unique for each start; `name` is that in a job's history.

    `slots` is how many jobs it runs at a time, of which `slots_in_use` are taken. `since` is when it started (ms, by its own clock).
    `tenants` are the tenants whose jobs run, with their slots, most first (`busiest`).
    `last_seen` is when it last announced itself (ms, by the registry's clock), 0 if it has not yet. One that is `draining` finishes its
    running jobs and takes no more. `pool` is the pool whose queue it takes jobs from, instead of the common lanes. `lanes`: it takes jobs
    from all lanes, not only from `jobs.main`. `floods` are the flows that flood it: lane, job type and tenant (`Flow`).
    `schemas` are the digests of the payloads' schemas by job type (`SchemaKey`), for those that have one.
    `schedules` is the digest of the schedules in its code (`CodeScheduleSet`), empty if there are none; that was loaded at `code_since`
    (ms, by its own clock).
    """

    worker_id: str
    name: str
    job_types: tuple[str, ...]
    version: str = ""
    host: str = ""
    slots: int = 0
    slots_in_use: int = 0
    since: int = 0
    last_seen: int = 0
    draining: bool = False
    tenants: tuple[tuple[str, int], ...] = ()
    lanes: bool = False
    floods: tuple[tuple[str, str, str], ...] = ()
    pool: str = ""
    schemas: tuple[tuple[str, str], ...] = ()
    schedules: str = ""
    code_since: int = 0


def busiest(running: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The tenants with most running jobs, as a worker announces them."""
    return tuple(sorted(running.items(), key=lambda item: (-item[1], item[0]))[:MAX_TENANTS])


@dataclass(frozen=True)
class Fleet:
    """The live workers at `now` (ms, by the registry's clock), in the order of their names.

    `unannounced` is how many more processes consume jobs (`sickbay/fleet.py`), None if that is unknown.
    """

    now: int
    workers: Sequence[Worker] = ()
    unannounced: int | None = None

    @cached_property
    def live(self) -> Mapping[str, int]:
        """How many workers take jobs of each type; types that none takes are left out."""
        return Counter(job_type for worker in self.workers if not worker.draining for job_type in worker.job_types)

    @cached_property
    def takes_lanes(self) -> bool:
        """Whether certainly every worker takes jobs from all lanes, and there is one; otherwise jobs wait in the main lane."""
        common = [worker for worker in self.workers if not worker.draining and not worker.pool]
        return self.unannounced == 0 and bool(common) and all(worker.lanes for worker in common)

    @cached_property
    def common(self) -> frozenset[str]:
        """The job types that workers take from the common lanes."""
        return frozenset(kind for worker in self.workers if not worker.draining and not worker.pool for kind in worker.job_types)

    @cached_property
    def pools(self) -> Sequence[str]:
        """The pools that have live workers, also draining ones, in order."""
        return sorted({worker.pool for worker in self.workers if worker.pool})

    @cached_property
    def _pools_of(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, set[str]] = {}
        for worker in self.workers:
            if worker.pool and not worker.draining:
                for job_type in worker.job_types:
                    found.setdefault(job_type, set()).add(worker.pool)
        return {job_type: sorted(pools) for job_type, pools in found.items()}

    def pool_of(self, job_type: str, job_id: str) -> str:
        """The pool in whose queue a job waits; empty if a worker takes its type from the common lanes, or nobody is known to take it.

        Of several pools always the same for one job, and each for as many.
        """
        pools = () if job_type in self.common else self._pools_of.get(job_type, ())
        return pools[crc32(job_id.encode()) % len(pools)] if pools else ""

    @cached_property
    def floods(self) -> frozenset[tuple[str, str, str]]:
        """The flows that flood a worker, as `Flow` has them."""
        return frozenset(flow for worker in self.workers for flow in worker.floods)

    @property
    def takers(self) -> int:
        """How many workers take jobs."""
        return sum(not worker.draining for worker in self.workers)

    def handles(self, job_type: str) -> bool:
        """Whether a worker certainly takes jobs of this type."""
        return job_type in self.live

    def lacks(self, job_type: str) -> bool:
        """Whether certainly no worker takes jobs of this type."""
        return self.unannounced == 0 and job_type not in self.live

    def lacks_all(self, job_types: Iterable[str]) -> bool:
        """Whether certainly no worker takes jobs of any of these types."""
        return all(map(self.lacks, job_types))


UNKNOWN: Final = Fleet(0)
"""The fleet while the registry cannot be read: it handles nothing and lacks nothing."""
