"""Releaser and healer, with back ends that fail in the middle."""

import asyncio
from dataclasses import replace

import pytest

from controlplane import healer as healer_module
from controlplane.breaker_service import BreakerApi
from controlplane.healer import Healer
from controlplane.release import Releaser
from controlplane.release_backoff import ReleaseBackoff
from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.domain.breaker import Action, BreakerKey, BreakerScope, BreakerState, Command, Snapshot
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind, kind_of
from sickbay.domain.workers import Fleet, Worker
from sickbay.ports import Queue
from tests.support.clock import START
from tests.support.embedded_backends import ends_though_nudged, open_backends
from tests.support.known_fleet import KnownFleet
from tests.support.quarantine_events import EMAIL, job, parked, set_aside, take


async def test_a_release_cut_before_the_ledger_knew_is_finished_and_marked():
    async with open_backends() as backends:
        await set_aside(backends, parked("a"))
        claims = await backends.quarantine.lease_parked(EMAIL, 10)
        backends.quarantine.fail("mark_released")
        with pytest.raises(Unavailable):
            await Releaser(backends.broker, backends.quarantine).release(claims)
        assert await backends.quarantine.lease_expired() == []
        backends.clock.now += 60_000
        await Releaser(backends.broker, backends.quarantine).release(await backends.quarantine.lease_expired())
        copies = await take(backends, Queue.MAIN, 2)
        assert [(copy.generation, copy.maybe_duplicate) for copy in copies] == [(1, False), (1, True)]
        assert (await backends.reader.get("a")).state is JobState.QUEUED


async def test_a_release_whose_publish_failed_keeps_the_job_set_aside():
    async with open_backends() as backends:
        await set_aside(backends, parked("a"))
        claims = await backends.quarantine.lease_parked(EMAIL, 10)
        backends.broker.fail("publish")
        with pytest.raises(Unavailable):
            await Releaser(backends.broker, backends.quarantine).release(claims)
        assert (await backends.reader.get("a")).state is JobState.PARKED


class Seconds:
    """A clock for pauses, moved by the test alone."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


async def look(healer):
    """One check, and the releases that it began; the seconds until the next."""
    wait_s = await healer._look_once()
    await healer._releases.finish()
    return wait_s


def healing(backends, release_backoff=None, clock=None, scope=BreakerScope.TYPE, fleet=None):
    releaser = Releaser(backends.broker, backends.quarantine, fleet=fleet)
    return Healer(
        breakers=backends.breakers,
        quarantine=backends.quarantine,
        broker=backends.broker,
        releaser=releaser,
        on_released=lambda: None,
        clock=clock or backends.clock,
        scope=scope,
        fleet=fleet or KnownFleet(),
        release_backoff=release_backoff,
    )


async def open_breaker(backends):
    for n in range(5):
        permit = await backends.breakers.admit(EMAIL, f"f{n}")
        await backends.breakers.settle(permit, Outcome(kind_of("API_TIMEOUT"), "API_TIMEOUT", "slow"))


async def test_nothing_is_released_before_the_cooldown_and_exactly_one_job_after_it():
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, parked("old"), parked("new", START + 1))
        healer = healing(backends)
        wait_s = await look(healer)
        assert wait_s == pytest.approx(60)
        assert await backends.broker.depth(Queue.MAIN) == 0
        backends.clock.now += 60_000
        for _ in range(3):
            await look(healer)
        (one,) = await take(backends, Queue.MAIN, 1)
        assert (one.job_id, await backends.broker.depth(Queue.MAIN)) == ("old", 0)


async def test_a_probe_that_no_worker_took_is_sent_again_after_a_while():
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, parked("old"), parked("new", START + 1))
        healer = healing(backends)
        backends.clock.now += 60_000
        await look(healer)
        backends.clock.now += 10_001
        await look(healer)
        assert len(await take(backends, Queue.MAIN, 2)) == 2


@pytest.mark.parametrize("action", [Action.RESET, Action.DISABLE, Action.METRICS_ONLY])
async def test_parked_jobs_come_back_when_the_circuit_lets_them(action):
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, *(parked(f"p{n}") for n in range(5)))
        await backends.breakers.command(EMAIL, Command(action))
        await look(healing(backends))
        assert await backends.broker.depth(Queue.MAIN) == (2 if action is Action.RESET else 5), "a reset lets them in gradually"


async def test_parked_jobs_of_a_type_whose_circuit_was_forgotten_come_back():
    async with open_backends() as backends:
        await set_aside(backends, parked("a"))
        await look(healing(backends))
        assert await backends.broker.depth(Queue.MAIN) == 1


async def test_a_forced_circuit_keeps_its_jobs():
    async with open_backends() as backends:
        await backends.breakers.command(EMAIL, Command(Action.FORCE_OPEN))
        await set_aside(backends, parked("a"))
        await look(healing(backends))
        assert await backends.broker.depth(Queue.MAIN) == 0


async def test_nobody_is_sent_out_while_circuits_are_degraded(monkeypatch):
    """Neither as a probe after the cooldown nor to a circuit that seemed closed; afterwards healing goes on."""
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, parked("a"), replace(parked("b"), job=replace(job("b"), job_type="sms")))
        backends.clock.now += 3_600_000
        healer, ask = healing(backends), backends.breakers.snapshots

        async def last_known():
            return [replace(breaker, degraded=True) for breaker in await ask()]

        monkeypatch.setattr(backends.breakers, "snapshots", last_known)
        waits = [await look(healer) for _ in range(5)]
        assert [0.8 * s <= wait <= 1.2 * s for wait, s in zip(waits, (1, 2, 4, 5, 5), strict=True)] == [True] * 5
        assert len(set(waits)) == 5, "spread by chance"
        assert await backends.broker.depth(Queue.MAIN) == 0
        monkeypatch.undo()
        await look(healer)
        assert await backends.broker.depth(Queue.MAIN) == 2


async def test_the_healer_hears_of_changes_and_survives_a_ledger_that_is_away():
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, parked("a"))
        backends.quarantine.fail("parked", 1)
        running = asyncio.create_task(healing(backends).run())
        await asyncio.sleep(0)
        await backends.breakers.command(EMAIL, Command(Action.RESET))
        (one,) = await take(backends, Queue.MAIN, 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert one.generation == 1


async def test_a_half_open_circuit_releases_nothing_more():
    async with open_backends() as backends:
        await open_breaker(backends)
        backends.clock.now += 60_000
        await backends.breakers.admit(EMAIL, "probe")
        await set_aside(backends, parked("a"))
        await look(healing(backends))
        (breaker,) = await backends.breakers.snapshots()
        assert (breaker.state, await backends.broker.depth(Queue.MAIN)) == (BreakerState.HALF_OPEN, 0)


async def test_a_healer_that_is_nudged_while_it_is_cancelled_ends():
    async with open_backends() as backends:
        healer = healing(backends)
        assert await ends_though_nudged(healer.run(), healer._look, healer.wake)


async def parked_again(backends, healer):
    """A worker that cannot reach Redis parks whatever has been released; how many jobs that were."""
    count = await backends.broker.depth(Queue.MAIN)
    events = [replace(parked(copy.job_id), job=copy) for copy in await take(backends, Queue.MAIN, count)]
    await set_aside(backends, *events)
    healer.observe_events(events)
    return count


async def test_released_jobs_that_only_come_back_are_released_ever_more_slowly():
    """Three times a second for ever it was; now all once, then single ones after 1, 2, 4, ... 60 s, and all again after a success."""
    async with open_backends() as backends:
        seconds = Seconds()
        healer = healing(backends, ReleaseBackoff(seconds, lambda: 1.0))
        await backends.breakers.admit(EMAIL, "known")
        await set_aside(backends, *(parked(f"p{n:02}") for n in range(60)))
        assert await look(healer) == healer_module.PACE_S
        assert await parked_again(backends, healer) == 60
        pauses = []
        for _ in range(9):
            pauses.append(await look(healer))
            assert await backends.broker.depth(Queue.MAIN) == 0
            seconds.now += pauses[-1]
            await look(healer)
            assert await parked_again(backends, healer) == 1
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert healer.release_backoff.held_back() == {EMAIL}
        healer.observe_events([replace(parked("p00"), state=JobState.SUCCEEDED)])
        assert healer.release_backoff.held_back() == frozenset()
        await look(healer)
        assert await backends.broker.depth(Queue.MAIN) == 60


def test_what_is_parked_again_beside_successes_holds_nothing_up():
    """New jobs took the permits of a recovering breaker; without a success for two seconds it is another matter."""
    seconds = Seconds()
    release_backoff = ReleaseBackoff(seconds, lambda: 1.0)
    again = replace(parked("b"), job=replace(parked("b").job, generation=1))
    release_backoff.observe_events([replace(parked("a"), state=JobState.SUCCEEDED)])
    release_backoff.record_release(EMAIL, Snapshot(EMAIL, BreakerState.CLOSED, epoch=1, rev=1, updated_at=0, recovering=True))
    assert release_backoff.observe_events([again]) == []
    assert release_backoff.wait_s(EMAIL) == 0
    seconds.now += 2
    assert release_backoff.observe_events([again]) == [EMAIL]
    assert release_backoff.wait_s(EMAIL) == 1


def test_successes_are_no_reason_where_the_breaker_limits_nothing():
    """Then another breaker parks them: that of a worker without Redis, or with another settings file."""
    release_backoff = ReleaseBackoff(Seconds(), lambda: 1.0)
    again = replace(parked("b"), job=replace(parked("b").job, generation=1))
    release_backoff.observe_events([replace(parked("a"), state=JobState.SUCCEEDED)])
    release_backoff.record_release(EMAIL, Snapshot(EMAIL, BreakerState.CLOSED, epoch=1, rev=1, updated_at=0))
    assert release_backoff.observe_events([again]) == [EMAIL]


async def test_a_circuit_that_opened_meanwhile_explains_why_jobs_come_back():
    async with open_backends() as backends:
        healer = healing(backends, ReleaseBackoff(Seconds(), lambda: 1.0))
        await backends.breakers.admit(EMAIL, "known")
        await set_aside(backends, parked("a"), parked("b"))
        await look(healer)
        await open_breaker(backends)
        await look(healer)
        await parked_again(backends, healer)
        await backends.breakers.command(EMAIL, Command(Action.RESET))
        await look(healer)
        assert (healer.release_backoff.held_back(), await backends.broker.depth(Queue.MAIN)) == (frozenset(), 2)


async def test_a_trouble_that_ends_without_news_is_forgotten():
    seconds = Seconds()
    release_backoff = ReleaseBackoff(seconds, lambda: 1.0)
    release_backoff.record_release(EMAIL, None)
    assert release_backoff.observe_events([parked("a"), parked("a", generation=1), parked("b", generation=1)]) == [EMAIL]
    assert (release_backoff.wait_s(EMAIL), release_backoff.is_held(EMAIL)) == (1.0, True)
    seconds.now += 200
    assert (release_backoff.wait_s(EMAIL), release_backoff.is_held(EMAIL)) == (0.0, False)


@pytest.mark.parametrize("ahead_ms", [-3_600_000, -120_000, 120_000, 3_600_000])
async def test_a_probe_is_due_by_the_clock_of_the_circuits(ahead_ms):
    """A control plane whose clock was 120 s behind Redis sent no probe for these 120 s; one ahead sent it early, to be parked again."""
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, parked("old"))
        healer = healing(backends, clock=lambda: backends.clock.now + ahead_ms)
        assert await look(healer) == pytest.approx(60)
        backends.clock.now += 60_000
        await look(healer)
        assert await backends.broker.depth(Queue.MAIN) == 1


async def test_a_hold_ends_by_the_clock_of_the_circuits():
    async with open_backends() as backends:
        await backends.breakers.command(EMAIL, Command(Action.FORCE_OPEN, 5_000))
        await set_aside(backends, parked("old"))
        assert await look(healing(backends, clock=lambda: backends.clock.now - 120_000)) == pytest.approx(5)


async def test_a_ledger_that_stays_away_is_asked_ever_more_seldom():
    async with open_backends() as backends:
        healer = healing(backends)
        backends.quarantine.fail("parked", 10)
        waits = [await look(healer) for _ in range(10)]
        assert waits[0] <= 1.2
        assert 8 <= waits[-1] <= 12
        assert await look(healer) == healer_module.LOOK_EVERY_S


async def test_a_circuit_that_a_worker_minds_by_itself_is_shown_as_degraded():
    async with open_backends() as backends:
        await backends.breakers.admit(BreakerKey("sms"), "known")
        api = BreakerApi(backends.breakers, backends.broker, backends.writer, backends.clock, lambda: {EMAIL, BreakerKey("sms")})
        listed = (await api.ListBreakers(pb.ListBreakersRequest(), None)).breakers
        assert [(one.job_type, one.degraded) for one in listed] == [("email", True), ("sms", True)]
        assert (await api.GetBreaker(pb.GetBreakerRequest(job_type="email"), None)).breaker.degraded


async def test_a_watch_forgets_circuits_that_are_no_more():
    async with open_backends() as backends:
        api = BreakerApi(backends.breakers, backends.broker, backends.writer, backends.clock)
        await backends.breakers.admit(BreakerKey("sms"), "known")
        watch = api.WatchBreakers(pb.WatchBreakersRequest(), None)
        await anext(watch)
        for number in range(2_500):
            key = BreakerKey("email", f"tenant-{number}")
            for outcome in (Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT"), SUCCESS):
                permit = await backends.breakers.admit(key, "job")
                await backends.breakers.settle(permit, outcome)
                told = (await anext(watch)).breaker
                assert told.tenant == key.tenant
        assert len(watch.ag_frame.f_locals["revs"]) <= 1_001
        await watch.aclose()


async def test_another_probe_is_sent_when_one_hangs_and_not_before():
    async with open_backends() as backends:
        await backends.breakers.settle(await backends.breakers.admit(EMAIL, "fine"), SUCCESS, 500)
        await open_breaker(backends)
        await set_aside(backends, *(parked(f"p{n}", START + n) for n in range(3)))
        healer = healing(backends)
        backends.clock.now += 60_000
        await look(healer)
        (first,) = await take(backends, Queue.MAIN, 1)
        await backends.breakers.admit(EMAIL, first.job_id, 30_000)
        assert await look(healer) == pytest.approx(2), "four times the usual duration"
        backends.clock.now += 1_999
        await look(healer)
        assert await backends.broker.depth(Queue.MAIN) == 0
        backends.clock.now += 1
        for _ in range(3):
            await look(healer)
        (second,) = await take(backends, Queue.MAIN, 1)
        assert (first.job_id, second.job_id, await backends.broker.depth(Queue.MAIN)) == ("p0", "p1", 0)


async def test_an_ordered_probe_is_sent_at_once_and_once():
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, parked("old"), parked("new", START + 1))
        healer = healing(backends)
        await look(healer)
        await backends.breakers.command(EMAIL, Command(Action.PROBE))
        for _ in range(3):
            await look(healer)
        (one,) = await take(backends, Queue.MAIN, 1)
        assert (one.job_id, await backends.broker.depth(Queue.MAIN)) == ("old", 0)


def unhandled(job_id, at=START, **fields):
    return JobEvent(job(job_id, **fields), JobState.QUARANTINED, at, reason=Reason.UNKNOWN_TYPE, code="UNKNOWN_TYPE")


NOBODY_HANDLES_IT = Fleet(START, [Worker("w", "anna", ("sms",))], unannounced=0)
HANDLED = Fleet(START, [Worker("w", "anna", ("email",))], unannounced=0)


async def test_nothing_is_sent_to_a_type_that_no_live_worker_handles():
    """Neither a probe nor releases, however often it looks; a worker that comes ends the waiting."""
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, parked("old"), parked("sms", job_type="sms"))
        fleet = KnownFleet(NOBODY_HANDLES_IT)
        healer = healing(backends, fleet=fleet)
        for _ in range(6):
            backends.clock.now += 60_000
            await look(healer)
        (other,) = await take(backends, Queue.MAIN, 1)
        assert (other.job_id, await backends.broker.depth(Queue.MAIN)) == ("sms", 0)
        await backends.breakers.command(EMAIL, Command(Action.RESET))
        await look(healer)
        assert await backends.broker.depth(Queue.MAIN) == 0
        fleet.fleet = HANDLED
        await look(healer)
        (back,) = await take(backends, Queue.MAIN, 1)
        assert (back.job_id, back.generation) == ("old", 1)


async def test_jobs_of_an_unknown_type_come_back_oldest_first_when_a_worker_handles_it(monkeypatch):
    """Only those: who was quarantined for another reason stays."""
    monkeypatch.setattr(healer_module, "WINDOW", 2)
    async with open_backends() as backends:
        await set_aside(
            backends,
            *(unhandled(f"u{number}", START + number, attempt=1) for number in range(3)),
            unhandled("fax", job_type="fax"),
            replace(unhandled("tired", START - 1), reason=Reason.RETRIES_EXHAUSTED),
        )
        fleet = KnownFleet(NOBODY_HANDLES_IT)
        healer = healing(backends, fleet=fleet)
        await look(healer)
        assert await backends.broker.depth(Queue.MAIN) == 0
        fleet.fleet = HANDLED
        await look(healer)
        first = await take(backends, Queue.MAIN, 2)
        assert [(copy.job_id, copy.generation, copy.attempt) for copy in first] == [("u0", 1, 1), ("u1", 1, 1)]
        await look(healer)
        assert [copy.job_id for copy in await take(backends, Queue.MAIN, 1)] == ["u2"]
        await look(healer)
        assert await backends.broker.depth(Queue.MAIN) == 0
        assert [(await backends.reader.get(job_id)).state.value for job_id in ("u0", "fax", "tired")] == [
            "QUEUED",
            "QUARANTINED",
            "QUARANTINED",
        ]
        last = (await backends.reader.history("u0"))[-1]
        assert (last.state, last.generation) == (JobState.QUEUED, 1)


async def test_an_open_circuit_gets_one_of_them_as_its_probe_after_the_parked_ones():
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, parked("p", START + 5), unhandled("u"))
        healer = healing(backends, fleet=KnownFleet(HANDLED))
        for expected in ("p", "u"):
            backends.clock.now += 60_000
            await look(healer)
            assert [copy.job_id for copy in await take(backends, Queue.MAIN, 1)] == [expected]


async def test_a_worker_that_comes_wakes_the_healer(monkeypatch):
    monkeypatch.setattr(healer_module, "WORKERS_EVERY_S", 0.001)
    async with open_backends() as backends:
        await set_aside(backends, unhandled("u"))
        fleet = KnownFleet(NOBODY_HANDLES_IT)
        running = asyncio.create_task(healing(backends, fleet=fleet).run())
        fleet.fleet = HANDLED
        assert [copy.job_id for copy in await take(backends, Queue.MAIN, 1)] == ["u"]
        running.cancel()
        await asyncio.wait({running})


async def test_a_job_that_loses_the_race_with_its_worker_is_noticed():
    """It is quarantined a moment after the worker came."""
    async with open_backends() as backends:
        healer = healing(backends)
        healer.observe_events([unhandled("u")])
        assert healer._look.is_set()
