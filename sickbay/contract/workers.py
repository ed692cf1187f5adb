"""WorkerService: which workers to list, and conversion of workers to protobuf."""

from __future__ import annotations

from collections.abc import Sequence

from sickbay.contract.responses import text, timestamp
from sickbay.domain.access import Tenants
from sickbay.domain.workers import Worker
from sickbay.jobs.v1 import worker_pb2


def page(workers: Sequence[Worker], job_type: str, after: str, limit: int, *, tenants: Tenants = None) -> tuple[Sequence[Worker], str]:
    """The first `limit` workers after the cursor `after`, in order, and the cursor of the next page, empty on the last.

    Only those that handle `job_type`, and those that run jobs of one of `tenants`, if these are given. Workers come and go between
    pages; none is returned twice.
    """
    wanted = (one for one in workers if not job_type or job_type in one.job_types)
    busy = (one for one in wanted if tenants is None or not tenants.isdisjoint(dict(one.tenants)))
    found = sorted(((_cursor(one), one) for one in busy), key=lambda pair: pair[0])
    rest = [pair for pair in found if pair[0] > after]
    return [one for _, one in rest[:limit]], rest[limit - 1][0] if len(rest) > limit else ""


def worker(live: Worker, tenants: Tenants = None) -> worker_pb2.Worker:
    """A worker, with the slots of these tenants."""
    return worker_pb2.Worker(
        worker_id=text(live.worker_id),
        name=text(live.name),
        version=text(live.version),
        host=text(live.host),
        job_types=map(text, live.job_types),
        slots=live.slots,
        slots_in_use=live.slots_in_use,
        start_time=timestamp(live.since),
        last_seen_time=timestamp(live.last_seen),
        draining=live.draining,
        pool=text(live.pool),
        tenants=[
            worker_pb2.TenantSlots(tenant=text(name), slots_in_use=slots)
            for name, slots in live.tenants
            if tenants is None or name in tenants
        ],
    )


def _cursor(live: Worker) -> str:
    return f"{live.name}\n{live.worker_id}"
