"""Explains jobs: reads the ledger, looks at the breaker, and leaves the words to the domain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sickbay.domain.access import Tenants
from sickbay.domain.explain_job import Case, explain_job
from sickbay.domain.explanation import JobExplanation
from sickbay.domain.job import JobRecord, JobState
from sickbay.domain.workers import UNKNOWN
from sickbay.fleet import FleetView
from sickbay.ports import Clock, JobReader
from sickbay.runtime.policies import Policies
from sickbay.submission.circuits import Circuits


class Explainer:
    """Explains single jobs."""

    def __init__(
        self,
        reader: JobReader,
        circuits: Circuits,
        policies: Policies,
        clock: Clock,
        find: Callable[[str, Tenants], Awaitable[JobRecord]],
        *,
        fleet: FleetView | None = None,
    ) -> None:
        """`find` reads a job of some tenants or raises NotFound; `fleet` is None where the registry of workers cannot be read."""
        self._fleet = fleet
        self._reader = reader
        self._circuits = circuits
        self._policies = policies
        self._clock = clock
        self._find = find

    async def explain(self, job_id: str, tenants: Tenants = None) -> tuple[Case, JobExplanation]:
        """What is known about the job, and its explanation, for who sees only these tenants. NotFound."""
        record = await self._find(job_id, tenants)
        job = record.job
        key = self._circuits.key_of(job.job_type, job.tenant)
        rate = self._policies.run_rate(job.job_type) if record.state is JobState.PARKED else None
        fleet = UNKNOWN if self._fleet is None else await self._fleet.look()
        breaker = self._circuits.get(job.job_type, job.tenant)
        case = Case(
            record,
            await self._reader.history(job_id),
            key,
            self._circuits.shown(breaker, tenants, job_id) if breaker is not None else None,
            self._policies.retry(job.job_type),
            round(1000 * self._policies.timeout_s(job.job_type, None)),
            self._clock(),
            self._circuits.job_types(key),
            fleet.lacks(job.job_type),
            rate,
            await self._reader.parked_before(job_id) if rate is not None else 0,
            fleet.pool_of(job.job_type, job.job_id),
        )
        return case, explain_job(case)
