"""Releaser and healer, with back ends that fail in the middle."""

import asyncio
from dataclasses import replace

import pytest

from controlplane import healer as healer_module
from controlplane.healer import Healer
from controlplane.release import Releaser
from sickbay.circuit import Action, CircuitState, Command
from sickbay.errors import Unavailable
from sickbay.job import State
from sickbay.outcome import Outcome, kind_of
from sickbay.ports import Queue
from tests.clock import START
from tests.unit.embedded_bench import ends_though_nudged, open_backends
from tests.unit.setting_aside import EMAIL, job, parked, set_aside, take


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
        copies = await take(backends, Queue.MAIN, 2)
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
        await set_aside(backends, parked("old"), parked("new", START + 1))
        healer = healing(backends)
        wait_s = await healer._look_once()
        assert wait_s == pytest.approx(60)
        assert await backends.broker.depth(Queue.MAIN) == 0
        backends.clock.now += 60_000
        for _ in range(3):
            await healer._look_once()
        (one,) = await take(backends, Queue.MAIN, 1)
        assert (one.job_id, await backends.broker.depth(Queue.MAIN)) == ("old", 0)


async def test_a_probe_that_no_worker_took_is_sent_again_after_a_while():
    async with open_backends() as backends:
        await open_circuit(backends)
        await set_aside(backends, parked("old"), parked("new", START + 1))
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
        (one,) = await take(backends, Queue.MAIN, 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert one.generation == 1


async def test_a_half_open_circuit_releases_nothing_more():
    async with open_backends() as backends:
        await open_circuit(backends)
        backends.clock.now += 60_000
        await backends.breakers.admit(EMAIL, "probe")
        await set_aside(backends, parked("a"))
        await healing(backends)._look_once()
        (circuit,) = await backends.breakers.snapshots()
        assert (circuit.state, await backends.broker.depth(Queue.MAIN)) == (CircuitState.HALF_OPEN, 0)


async def test_a_healer_that_is_nudged_while_it_is_cancelled_ends():
    async with open_backends() as backends:
        healer = healing(backends)
        assert await ends_though_nudged(healer.run(), healer._look, healer.nudge)
