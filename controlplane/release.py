"""Releases jobs from quarantine: lease in the ledger, publish, confirm, finalise. A crash between two steps loses nothing.

If this process dies before `mark_released`, another control plane publishes the same generation again once the lease has expired, marked
`maybe_duplicate`, and the workers' duplicate guard drops the second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sickbay.domain.job import JobRecord
from sickbay.domain.queries import ReleaseLease
from sickbay.messages.codec import job_message
from sickbay.messages.payment import with_payment
from sickbay.messages.publisher import Publisher
from sickbay.observer import NOBODY, Observer
from sickbay.ports import TO_MAIN, Broker, QuarantineStore

UNPAID: Final[Mapping[str, int]] = MappingProxyType({})


class Releaser:
    """The only way out of quarantine, for the healer and for people."""

    def __init__(self, broker: Broker, store: QuarantineStore, *, by: str = "people", observer: Observer = NOBODY) -> None:
        """Publish what `store` leased; `by` tells the observer who requested it, `healer` or `people`."""
        self._publisher = Publisher(broker, observer)
        self._store = store
        self._by = by
        self._observer = observer

    async def release(self, leases: Sequence[ReleaseLease], paid: Mapping[str, int] = UNPAID) -> Sequence[JobRecord]:
        """Publish leased jobs and finalise in the ledger; after Unavailable they are released again when their lease expires.

        `paid`: when the run of a job was paid for, by its id (`payment.py`).
        """
        self._observer.releasing(leases, self._by)
        error: BaseException | None = None
        try:
            messages = [with_payment(job_message(TO_MAIN, lease.job), paid.get(lease.job.job_id, 0)) for lease in leases]
            await self._publisher.publish(messages)
            return await self._store.mark_released(leases)
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._observer.released(leases, self._by, error)
