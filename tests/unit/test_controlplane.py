"""Keeper, releaser, healer and sweep, with back ends that fail in the middle."""

import asyncio
from dataclasses import replace

import pytest

from controlplane import healer as healer_module
from controlplane import keeper as keeper_module
from controlplane import sweep as sweep_module
from controlplane.healer import Healer
from controlplane.keeper import Keeper
from controlplane.release import Releaser
from controlplane.sweep import Sweep
from sickbay.circuit import Action, CircuitState, Command, Key
from sickbay.envelope import decode_job, encode_event, encode_events, encode_job
from sickbay.errors import Unavailable
from sickbay.job import Event, Failure, Job, Reason, State
from sickbay.outcome import Outcome, kind_of
from sickbay.ports import TO_QUARANTINE, Message, Queue
from tests.unit.embedded_bench import open_backends

EMAIL = Key("email")


def job(job_id, **fields):
    return Job(job_id, "email", b'{"n": 1}', submitted_at=1_700_000_000_000, **fields)


def parked(job_id, at=1_700_000_000_000, **fields):
    return Event(job(job_id, **fields), State.PARKED, at, run="r", reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN")


async def set_aside(backends, *events):
    """As a worker does it: one publish to two queues; the ledger hears of it too."""
    await backends.broker.publish([Message("job.quarantined.parked", encode_event(event)) for event in events])
    await backends.writer.apply(events)


async def take(backends, queue, count):
    found = []
    async with backends.broker.consume(queue, count) as consumer:
        while len(found) < count:
            for delivery in await consumer.get(count):
                found.append(delivery.body)
                delivery.ack()
    return found


def decode_body(body):
    return decode_job(body, "", 0)


def keeping(backends, heard):
    return Keeper(backends.broker, backends.writer, backends.clock, heard.put_nowait)


async def test_events_wait_in_their_queue_while_the_ledger_is_away(monkeypatch):
    monkeypatch.setattr(keeper_module, "BACKOFF_S", (0.0,))
    async with open_backends() as backends:
        backends.writer.fail("apply", 3)
        heard = asyncio.Queue()
        keeper = keeping(backends, heard)
        await backends.broker.publish([Message("job.events", encode_events([Event(job("a"), State.QUEUED, 5)]))])
        running = asyncio.create_task(keeper.run())
        (event,) = await heard.get()
        await keeper.stop()
        await running
        assert event.job.job_id == "a"
        assert (await backends.reader.get("a")).state is State.QUEUED
        assert await backends.broker.depth(Queue.LEDGER) == 0


async def test_a_keeper_stops_although_the_ledger_is_away(caplog):
    """It waits for nobody then, and gives back what it could not tell."""
    async with open_backends() as backends:
        backends.writer.fail("apply", 1_000_000)
        keeper = keeping(backends, asyncio.Queue())
        await backends.broker.publish([Message("job.events", encode_events([Event(job("a"), State.QUEUED, 5)]))])
        running = asyncio.create_task(keeper.run())
        while "lags behind" not in caplog.text:
            await asyncio.sleep(0)
        await keeper.stop()
        await running
        assert await backends.broker.depth(Queue.LEDGER) == 1


async def test_events_come_again_after_the_keeper_was_cut_between_ledger_and_ack():
    async with open_backends() as backends:
        heard = asyncio.Queue()
        await backends.broker.publish([Message("job.events", encode_events([Event(job("a"), State.SUCCEEDED, 5, run="r1")]))])
        backends.writer.fail("apply", 1, after=True)
        first = asyncio.create_task(keeping(backends, heard).run())
        while await backends.reader.get("a") is None:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = keeping(backends, heard)
        running = asyncio.create_task(second.run())
        await heard.get()
        await second.stop()
        await running
        assert (await backends.reader.get("a")).duplicates == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\x00 nonsense", Reason.UNDECODABLE), (encode_job(job("dead")), Reason.BROKER)],
)
async def test_what_is_no_event_is_kept_in_quarantine(body, reason):
    async with open_backends() as backends:
        heard = asyncio.Queue()
        keeper = keeping(backends, heard)
        await backends.broker.publish([Message("job.quarantined.broker", body)])
        running = asyncio.create_task(keeper.run())
        (event,) = await heard.get()
        await keeper.stop()
        await running
        case = await backends.wards.case(event.job.job_id)
        assert (case.record.state, case.record.reason) == (State.QUARANTINED, reason)


async def test_a_release_cut_before_the_ledger_knew_is_finished_and_marked():
    async with open_backends() as backends:
        await set_aside(backends, parked("a"))
        claims = await backends.wards.claim_parked(EMAIL, 10)
        backends.wards.fail("released")
        with pytest.raises(Unavailable):
            await Releaser(backends.broker, backends.wards).release(claims)
        assert await backends.wards.claim_expired() == []
        backends.clock.now += 60_000
        await Releaser(backends.broker, backends.wards).release(await backends.wards.claim_expired())
        copies = [decode_job(body, "", 0) for body in await take(backends, Queue.MAIN, 2)]
        assert [(copy.generation, copy.maybe_duplicate) for copy in copies] == [(1, False), (1, True)]
        assert (await backends.reader.get("a")).state is State.QUEUED


async def test_a_release_whose_publish_failed_keeps_the_job_set_aside():
    async with open_backends() as backends:
        await set_aside(backends, parked("a"))
        claims = await backends.wards.claim_parked(EMAIL, 10)
        backends.broker.fail("publish")
        with pytest.raises(Unavailable):
            await Releaser(backends.broker, backends.wards).release(claims)
        assert (await backends.reader.get("a")).state is State.PARKED


def healing(backends):
    releaser = Releaser(backends.broker, backends.wards)
    return Healer(
        breakers=backends.breakers,
        wards=backends.wards,
        broker=backends.broker,
        releaser=releaser,
        on_departure=lambda: None,
        clock=backends.clock,
    )


async def open_circuit(backends):
    for n in range(5):
        permit = await backends.breakers.admit(EMAIL, f"f{n}")
        await backends.breakers.settle(permit, Outcome(kind_of("API_TIMEOUT"), "API_TIMEOUT", "slow"))


async def test_nothing_is_released_before_the_cooldown_and_exactly_one_job_after_it():
    async with open_backends() as backends:
        await open_circuit(backends)
        await set_aside(backends, parked("old", 1_700_000_000_000), parked("new", 1_700_000_000_001))
        healer = healing(backends)
        wait_s = await healer._look_once()
        assert wait_s == pytest.approx(60)
        assert await backends.broker.depth(Queue.MAIN) == 0
        backends.clock.now += 60_000
        for _ in range(3):
            await healer._look_once()
        (body,) = await take(backends, Queue.MAIN, 1)
        assert (decode_job(body, "", 0).job_id, await backends.broker.depth(Queue.MAIN)) == ("old", 0)


async def test_a_probe_that_no_worker_took_is_sent_again_after_a_while():
    async with open_backends() as backends:
        await open_circuit(backends)
        await set_aside(backends, parked("old"), parked("new", 1_700_000_000_001))
        healer = healing(backends)
        backends.clock.now += 60_000
        await healer._look_once()
        backends.clock.now += 10_001
        await healer._look_once()
        assert len(await take(backends, Queue.MAIN, 2)) == 2


@pytest.mark.parametrize("action", [Action.RESET, Action.DISABLE, Action.METRICS_ONLY])
async def test_parked_jobs_come_back_when_the_circuit_lets_them(action):
    async with open_backends() as backends:
        await open_circuit(backends)
        await set_aside(backends, *(parked(f"p{n}") for n in range(5)))
        await backends.breakers.command(EMAIL, Command(action))
        await healing(backends)._look_once()
        assert await backends.broker.depth(Queue.MAIN) == 5


async def test_parked_jobs_of_a_type_whose_circuit_was_forgotten_come_back():
    async with open_backends() as backends:
        await set_aside(backends, parked("a"))
        await healing(backends)._look_once()
        assert await backends.broker.depth(Queue.MAIN) == 1


async def test_a_forced_circuit_keeps_its_jobs():
    async with open_backends() as backends:
        await backends.breakers.command(EMAIL, Command(Action.FORCE_OPEN))
        await set_aside(backends, parked("a"))
        await healing(backends)._look_once()
        assert await backends.broker.depth(Queue.MAIN) == 0


async def test_nobody_is_sent_out_while_circuits_are_degraded(monkeypatch):
    """Neither as a probe after the cooldown nor to a circuit that seemed closed; afterwards healing goes on."""
    async with open_backends() as backends:
        await open_circuit(backends)
        await set_aside(backends, parked("a"), replace(parked("b"), job=replace(job("b"), job_type="sms")))
        backends.clock.now += 3_600_000
        healer, ask = healing(backends), backends.breakers.snapshots

        async def last_known():
            return [replace(circuit, degraded=True) for circuit in await ask()]

        monkeypatch.setattr(backends.breakers, "snapshots", last_known)
        assert await healer._look_once() == healer_module.DEGRADED_S
        assert await backends.broker.depth(Queue.MAIN) == 0
        monkeypatch.undo()
        await healer._look_once()
        assert await backends.broker.depth(Queue.MAIN) == 2


async def test_the_healer_hears_of_changes_and_survives_a_ledger_that_is_away():
    async with open_backends() as backends:
        await open_circuit(backends)
        await set_aside(backends, parked("a"))
        backends.wards.fail("parked", 1)
        running = asyncio.create_task(healing(backends).run())
        await asyncio.sleep(0)
        await backends.breakers.command(EMAIL, Command(Action.RESET))
        (body,) = await take(backends, Queue.MAIN, 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert decode_job(body, "", 0).generation == 1


async def test_the_sweep_takes_ghosts_and_keeps_the_living():
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"p{n}") for n in range(5)))
        for n in (0, 3):
            await backends.wards.discard(f"p{n}", "", "me")
        swept = await Sweep(backends.broker, backends.writer, backends.clock).round()
        assert swept.ghosts == 2
        assert await backends.broker.depth(Queue.QUARANTINE) == 3
        left = [decode_job(body, "", 0) for body in await take(backends, Queue.QUARANTINE, 3)]
        assert {one.job_id for one in left} == {"p1", "p2", "p4"}
        assert {one.payload_json for one in left} == {b'{"n": 1}'}


async def test_the_sweep_takes_the_second_of_two_equal_copies():
    async with open_backends() as backends:
        await set_aside(backends, parked("a"), parked("a"))
        assert (await Sweep(backends.broker, backends.writer, backends.clock).round()).ghosts == 1
        assert await backends.broker.depth(Queue.QUARANTINE) == 1


async def test_the_sweep_rebuilds_a_lost_ledger_from_the_copies():
    async with open_backends() as backends:
        event = parked("a")
        tired = replace(event, job=event.job.failed(Failure(1, 0, 0, "API_TIMEOUT", "slow")))
        await backends.broker.publish([Message("job.quarantined.parked", encode_event(tired)), Message(TO_QUARANTINE, b"\xff?")])
        swept = await Sweep(backends.broker, backends.writer, backends.clock).round()
        assert (swept.told, swept.kept) == (2, 2)
        case = await backends.wards.case("a")
        assert (case.record.job.payload_json, case.record.job.failures[-1].code) == (b'{"n": 1}', "API_TIMEOUT")


async def test_a_sweep_cut_after_its_republish_loses_nothing():
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"p{n}") for n in range(3)))
        await backends.wards.discard("p1", "", "me")
        backends.broker.fail("publish", after=True)
        sweep = Sweep(backends.broker, backends.writer, backends.clock)
        with pytest.raises(Unavailable):
            await sweep.round()
        while await backends.broker.depth(Queue.QUARANTINE) > 2:
            await sweep.round()
        left = [decode_job(body, "", 0).job_id for body in await take(backends, Queue.QUARANTINE, 2)]
        assert sorted(left) == ["p0", "p2"]


async def test_two_sweeps_at_once_destroy_no_last_copy(monkeypatch):
    """In the middle of one round another control plane moves every copy; the first does not take those for second copies."""
    monkeypatch.setattr(sweep_module, "BATCH", 1)
    monkeypatch.setattr(sweep_module, "PAUSE_S", 0)
    async with open_backends() as backends:
        await set_aside(backends, *(parked(name) for name in "abc"), parked("b"))
        for name in "xyz":
            await backends.broker.publish([Message(TO_QUARANTINE, encode_event(parked(name)))])
        await backends.writer.apply([replace(parked(name), state=State.DISCARDED) for name in "xyz"])
        ours, theirs = (Sweep(backends.broker, backends.writer, backends.clock) for _ in range(2))
        keep, kept = ours._keep, 0

        async def keep_and_be_overtaken(deliveries, swept):
            nonlocal kept
            await keep(deliveries, swept)
            kept += 1
            if kept == 2:
                backends.clock.now += 1
                await theirs.round(whole=True)

        monkeypatch.setattr(ours, "_keep", keep_and_be_overtaken)
        assert (await ours.round(whole=True)).around
        while await backends.broker.depth(Queue.QUARANTINE) > 3:
            await theirs.round()
        left = [decode_job(body, "", 0).job_id for body in await take(backends, Queue.QUARANTINE, 3)]
        assert sorted(left) == ["a", "b", "c"]


async def test_copies_that_never_reached_the_queue_are_made_from_the_ledger():
    """At the second look in a row, for they may only be late; complete, so that a lost ledger could be rebuilt from them."""
    async with open_backends() as backends:
        tired = parked("b", attempt=2)
        missing = replace(tired, job=tired.job.failed(Failure(1, 2, 0, "API_TIMEOUT", "slow")))
        await set_aside(backends, parked("a"))
        await backends.writer.apply([missing])
        backends.clock.now = missing.at + sweep_module.SETTLED_MS + 1
        sweep = Sweep(backends.broker, backends.writer, backends.clock)
        assert not await sweep.look()
        assert await sweep.look()
        (copy,) = [job for job in map(decode_body, await take(backends, Queue.QUARANTINE, 2)) if job.job_id == "b"]
        assert copy == missing.job


async def test_a_half_open_circuit_releases_nothing_more():
    async with open_backends() as backends:
        await open_circuit(backends)
        backends.clock.now += 60_000
        await backends.breakers.admit(EMAIL, "probe")
        await set_aside(backends, parked("a"))
        await healing(backends)._look_once()
        (circuit,) = await backends.breakers.snapshots()
        assert (circuit.state, await backends.broker.depth(Queue.MAIN)) == (CircuitState.HALF_OPEN, 0)
