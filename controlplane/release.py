"""Releases jobs that the ledger holds: lease in the ledger, publish, confirm, finalise. A crash between two steps loses nothing.

If this process dies before `mark_released`, another control plane publishes the same generation again once the lease has expired, marked
`maybe_duplicate`, and the workers' duplicate guard drops the second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from controlplane.finaliser import Finaliser
from sickbay.domain.job import Job, JobRecord
from sickbay.domain.lane import Lane, lane_of, lane_of_released
from sickbay.domain.queries import ReleaseLease
from sickbay.domain.workers import UNKNOWN, Fleet
from sickbay.fleet import FleetView
from sickbay.messages.codec import job_message
from sickbay.messages.payment import with_payment
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Broker, PoolQueue, QuarantineStore

PEOPLE: Final = "people"
UNPAID: Final[Mapping[str, int]] = MappingProxyType({})


class Releaser:
    """The only way out of quarantine, for the healer and for people; and that of SCHEDULED jobs when they are due.

    A probe waits in the high lane: the breaker waits for it. Others wait in the low lane, so that an outage's backlog never stands before
    fresh work; HIGH ones in the main lane. Those of a type that only a pool handles wait in the queue of that pool. While not every worker
    takes jobs from all lanes, the others wait in the main lane.
    """

    def __init__(
        self, broker: Broker, store: QuarantineStore, *, by: str = PEOPLE, observer: Observer = NOBODY, fleet: FleetView | None = None
    ) -> None:
        """Publish what `store` leased; `by` tells the observer who requested it, `healer` or `people`, who get the records."""
        self._fleet = fleet
        self._publisher = Publisher(broker, observer)
        self._finaliser = Finaliser(store, records=by == PEOPLE)
        self._by = by
        self._observer = observer

    async def takes_lanes(self) -> bool:
        """Whether released jobs wait in other lanes than the main one."""
        return self._fleet is not None and (await self._fleet.look()).takes_lanes

    async def release(
        self,
        leases: Sequence[ReleaseLease],
        paid: Mapping[str, int] = UNPAID,
        *,
        is_probe: bool = False,
        keys: Sequence[str] | None = None,
    ) -> Sequence[JobRecord]:
        """Publish leased jobs and finalise in the ledger; after Unavailable they are released again when their lease expires.

        `paid`: when the run of a job was paid for, by its id (`payment.py`). `keys`: where each job is to wait, if it is no backlog.
        """
        self._observer.releasing(leases, self._by)
        error: BaseException | None = None
        try:
            if keys is None:
                fleet = UNKNOWN if self._fleet is None else await self._fleet.look()
                keys = [_key(lease.job, fleet, is_probe=is_probe, is_paid=paid.get(lease.job.job_id, 0) > 0) for lease in leases]
            routed = zip(keys, leases, strict=True)
            await self._publisher.publish(
                [with_payment(job_message(key, lease.job), paid.get(lease.job.job_id, 0)) for key, lease in routed]
            )
            return await self._finaliser.mark_released(leases)
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._observer.released(leases, self._by, error)


def _key(job: Job, fleet: Fleet, *, is_probe: bool, is_paid: bool) -> str:
    """Of the queue of its pool, or of a lane.

    A job whose run was paid for is no backlog: it comes at the rate of its type, and its payment is good for a while only.
    """
    if pool := fleet.pool_of(job.job_type, job.job_id):
        return PoolQueue(pool).key
    if not fleet.takes_lanes:
        return Lane.MAIN
    if is_probe:
        return Lane.HIGH
    return lane_of(job.priority) if is_paid else lane_of_released(job.priority)
