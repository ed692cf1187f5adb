"""A worker under floods: what is beyond a flow's share leaves the lane, others start at once, and nothing is lost or run twice."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.domain.job import Job
from sickbay.domain.lane import Flow, Lane, lane_of
from sickbay.domain.priority import Priority
from sickbay.domain.workers import Fleet, Worker
from sickbay.handlers.registry import HandlerSpec
from sickbay.messages.codec import job_message
from sickbay.ports import Message, Queue
from tests.support.embedded_backends import Flaky
from tests.support.engine_bench import Bench
from worker.demotion import DEMOTED

SLOTS = 8
PATIENCE = 20
LANED = Fleet(5_000, [Worker("w", "w", ("email", "sms"), lanes=True)], unannounced=0)
EMAIL = Flow(Lane.MAIN, "email", "default")


class Ward:
    """A worker on a broker with lanes: `email` hangs until `heal`, `sms` and others end at once."""

    def __init__(self, broker, bench):
        self.broker = broker
        self.bench = bench

    async def submit(self, *jobs, lane=None):
        await self.broker.publish([job_message((lane or lane_of(job.priority)).value, job) for job in jobs])


@asynccontextmanager
async def open_ward(fleet=LANED, slots=SLOTS, **options):
    started, healed = [], asyncio.Event()

    async def hang(job):
        started.append(job.job_id)
        await healed.wait()

    async def fine(job):
        started.append(job.job_id)
        arrived.set()

    arrived = asyncio.Event()
    async with asyncio.timeout(PATIENCE), SqliteBroker(":memory:", lambda: 1_000) as real:
        broker = Flaky(real)
        specs = [HandlerSpec("email", hang), HandlerSpec("sms", fine)]
        bench = Bench(specs, concurrency=slots, timeout_s=PATIENCE, broker=broker, **options)
        bench.fleet.fleet = fleet
        bench.fence.known.set()
        ward = Ward(broker, bench)
        ward.started, ward.healed, ward.arrived = started, healed, arrived
        async with bench.events:
            working = asyncio.create_task(bench.engine.run())
            try:
                yield ward
            finally:
                healed.set()
                await bench.engine.drain(5)
                await working
                bench.runner.close()


async def until(condition):
    while not await condition():
        await asyncio.sleep(0.005)


def emails(count, **fields):
    return [Job(f"e{n}", "email", submitted_at=1_000, **fields) for n in range(count)]


SMS = Job("s", "sms", submitted_at=1_000)


async def test_a_hanging_flood_leaves_the_lane_and_another_type_starts():
    async with open_ward() as ward:
        await ward.submit(replace(SMS, job_id="first"))
        await ward.arrived.wait()
        ward.arrived.clear()
        await ward.submit(*emails(200), SMS)
        await ward.arrived.wait()
        assert ward.bench.engine.floods == {EMAIL}

        async def is_moved():
            return await ward.broker.depth(Queue.MAIN) == 0 and await ward.broker.depth(Queue.DEMOTED) > 150

        await until(is_moved)
        assert sum(job_id.startswith("e") for job_id in ward.started) == SLOTS - 1, "one slot is kept for others"
        assert ward.bench.engine.demoted["email"] > 150
        ward.healed.set()

        async def has_run():
            return len(ward.started) == 202

        await until(has_run)
        assert sorted(ward.started) == sorted({*(job.job_id for job in emails(200)), "s", "first"}), "each once"


async def test_a_flood_of_a_type_with_a_small_share_leaves_the_lane_too():
    """It holds a quarter of the slots, and the others stay free for whatever stands behind it."""
    async with open_ward(share_of={"email": 0.25}.get) as ward:
        await ward.submit(*emails(60), SMS)
        await ward.arrived.wait()
        assert sum(job_id.startswith("e") for job_id in ward.started) == SLOTS // 4


async def test_moved_copies_are_compared_with_the_ledger_and_carry_what_the_originals_did():
    async with open_ward() as ward:
        await ward.broker.publish([replace(job_message("main", job), headers={"traceparent": "t"}) for job in emails(60)])

        async def is_moved():
            return await ward.broker.depth(Queue.DEMOTED) > 30

        await until(is_moved)
        ward.bench.fence.entered.clear()
        ward.healed.set()

        async def has_run():
            return len(ward.started) == 60

        await until(has_run)
        moved = ward.bench.engine.demoted["email"]
        assert len(ward.bench.fence.entered) == moved
        assert not any(suspect for _, suspect in ward.bench.fence.entered)


async def test_nothing_is_moved_while_a_worker_does_not_take_from_all_lanes():
    old = Worker("old", "old", ("email",))
    for fleet in (Fleet(5_000, [*LANED.workers, old], unannounced=0), replace(LANED, unannounced=1), Fleet(0)):
        async with open_ward(fleet) as ward:
            await ward.submit(*emails(60))

            async def is_full(ward=ward):
                return ward.bench.engine.slots_in_use == SLOTS and ward.bench.fleet.asked > 1

            await until(is_full)
            assert (await ward.broker.depth(Queue.DEMOTED), ward.bench.engine.demoted) == (0, {})


@pytest.mark.parametrize("is_stored", [False, True], ids=["not stored", "stored and not confirmed"])
async def test_what_cannot_be_moved_stays_and_runs(is_stored):
    """The copies of an unconfirmed move run as well unless the ledger knows better, which is asked for each."""
    async with open_ward() as ward:
        await ward.submit(*emails(60))
        ward.broker.fail("publish", 1, after=is_stored)

        async def is_moved():
            return await ward.broker.depth(Queue.DEMOTED) > 20

        await until(is_moved)
        ward.healed.set()

        async def has_run():
            return {*ward.started} == {job.job_id for job in emails(60)}

        await until(has_run)
        assert is_stored or len(ward.started) == 60


async def test_a_flood_of_high_jobs_is_demoted_likewise():
    async with open_ward() as ward:
        await ward.submit(*emails(60, priority=Priority.HIGH))

        async def is_moved():
            return await ward.broker.depth(Queue.DEMOTED) > 30 and await ward.broker.depth(Queue.HIGH) == 0

        await until(is_moved)
        assert ward.bench.engine.floods == {Flow(Lane.HIGH, "email", "default")}


async def test_low_jobs_wait_in_their_lane():
    async with open_ward() as ward:
        await ward.submit(*emails(60, priority=Priority.LOW))

        async def is_full():
            return ward.bench.engine.slots_in_use == SLOTS

        await until(is_full)
        assert await ward.broker.depth(Queue.DEMOTED) == 0


async def test_a_job_that_has_its_id_from_its_message_keeps_it():
    async with open_ward() as ward:
        foreign = [Message("main", b'{"jobType": "email", "payload": {}}', message_id=f"theirs-{n}") for n in range(60)]
        await ward.broker.publish(foreign)

        async def is_moved():
            return await ward.broker.depth(Queue.DEMOTED) > 30

        await until(is_moved)
        ward.healed.set()

        async def has_run():
            return len(ward.started) == 60

        await until(has_run)
        assert set(ward.started) == {f"theirs-{n}" for n in range(60)}


async def test_what_waits_in_hand_goes_back_unmarked_at_the_end():
    async with open_ward(Fleet(0)) as ward:
        await ward.submit(*emails(30))

        async def is_full():
            return ward.bench.engine.slots_in_use == SLOTS

        await until(is_full)
        await ward.bench.engine.drain(0)
        async with ward.broker.consume(Queue.MAIN, 100) as consumer:
            returned = list(await consumer.get(100))
            while len(returned) < 30:
                returned += await consumer.get(100)
        assert sum(delivery.redelivered for delivery in returned) == SLOTS
        assert DEMOTED not in {name for delivery in returned for name in delivery.headers}
