"""In which lanes jobs come back: a probe before all others, the backlog of an outage behind them."""

from dataclasses import replace

import pytest

from controlplane.healer import MAX_DEPTH, PACE_S, ROOM
from controlplane.release import Releaser
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.domain.workers import UNKNOWN, Fleet, Worker
from sickbay.ports import LANES, Message, Queue
from tests.support.embedded_backends import open_backends
from tests.support.known_fleet import KnownFleet
from tests.support.quarantine_events import EMAIL, parked, set_aside, take
from tests.unit.controlplane.test_healer import healing, look, open_breaker

LANED = Fleet(5_000, [Worker("w", "w", ("email",), lanes=True)], unannounced=0)
OLD = Fleet(5_000, [*LANED.workers, Worker("old", "old", ("email",))], unannounced=0)


async def depths(backends):
    return {queue.value: depth for queue in LANES.values() if (depth := await backends.broker.depth(queue))}


@pytest.mark.parametrize(("fleet", "queue"), [(LANED, Queue.HIGH), (OLD, Queue.MAIN), (UNKNOWN, Queue.MAIN)])
async def test_a_probe_waits_in_the_high_lane_if_every_worker_takes_from_it(fleet, queue):
    async with open_backends(cooldown_ms=1_000) as backends:
        await open_breaker(backends)
        await set_aside(backends, parked("a"), parked("b"))
        backends.clock.now += 1_000
        await look(healing(backends, fleet=KnownFleet(fleet)))
        assert await depths(backends) == {queue.value: 1}
        (probe,) = await take(backends, queue, 1)
        assert (probe.job_id, probe.generation) == ("a", 1)


@pytest.mark.parametrize(("fleet", "queue"), [(LANED, Queue.LOW), (OLD, Queue.MAIN), (UNKNOWN, Queue.MAIN)])
async def test_others_wait_in_the_low_lane(fleet, queue):
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"p{n}") for n in range(30)))
        await look(healing(backends, fleet=KnownFleet(fleet)))
        assert await depths(backends) == {queue.value: 30}


async def test_a_high_job_waits_in_the_main_lane():
    async with open_backends() as backends:
        await set_aside(backends, parked("a"))
        (lease,) = await backends.quarantine.lease_parked(EMAIL, 1)
        high = replace(lease, job=replace(lease.job, priority=Priority.HIGH))
        await Releaser(backends.broker, backends.quarantine, fleet=KnownFleet(LANED)).release([high])
        assert await depths(backends) == {"jobs.main": 1}
        assert (await backends.reader.get("a")).state is JobState.QUEUED


async def waiting(backends, key, count):
    await backends.broker.publish([Message(key, b"{}") for _ in range(count)])


@pytest.mark.parametrize("key", ["main", "low"])
async def test_the_backlog_of_another_type_holds_up_no_release(key):
    """12,000 jobs of another type waited, and 38 parked ones with them for 22 s: it was released nothing while more than 500 waited."""
    async with open_backends() as backends:
        healer = healing(backends, fleet=KnownFleet(LANED))
        await set_aside(backends, *(parked(f"p{n}") for n in range(38)))
        await waiting(backends, key, 12_000)
        checks = 0
        while (await backends.writer.counts())[JobState.PARKED]:
            assert await look(healer) == PACE_S
            checks += 1
        assert checks == (1 if key == "main" else -(-38 // ROOM))


async def test_releases_do_not_heap_up_in_their_lane():
    async with open_backends() as backends:
        healer = healing(backends, fleet=KnownFleet(LANED))
        await set_aside(backends, *(parked(f"p{n}") for n in range(MAX_DEPTH + 2 * ROOM)))
        await look(healer)
        await look(healer)
        assert await depths(backends) == {"jobs.low": MAX_DEPTH + ROOM}
