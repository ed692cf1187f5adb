"""Jobs that wait for the rate of their type are released at that rate and no faster, each once, whatever fails in between."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.healer import RECOUNT_S, Healer
from controlplane.release import Releaser
from sickbay.adapters.embedded.run_rates import EmbeddedRunRates
from sickbay.domain.breaker import Action, BreakerKey, BreakerState, Command
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.domain.rate_limit import Frequency, Rate
from sickbay.domain.run_rate import OVER_RATE
from sickbay.messages.codec import decode_job
from sickbay.messages.payment import paid_at
from sickbay.ports import Queue
from tests.support.clock import START
from tests.support.embedded_backends import Flaky, open_backends
from tests.support.known_fleet import KnownFleet
from tests.support.quarantine_events import EMAIL, job, parked, set_aside
from tests.unit.controlplane.test_healer import look, open_breaker

TEN = Rate(Frequency(10, 1_000), 5)
SMS = BreakerKey("sms")


def limited(job_id, at=START, **fields):
    return JobEvent(job(job_id, **fields), JobState.PARKED, at, reason=Reason.RATE_LIMITED, code=OVER_RATE)


class Scene:
    """A control plane on back ends in memory, whose clock the test moves."""

    def __init__(self, backends, rates=None):
        self.backends = backends
        self.rate = TEN
        self.rates = Flaky(rates or EmbeddedRunRates(lambda: backends.clock() * 1_000))
        self.healer = self.another()

    def another(self):
        return Healer(
            breakers=self.backends.breakers,
            quarantine=self.backends.quarantine,
            broker=self.backends.broker,
            releaser=Releaser(self.backends.broker, self.backends.quarantine),
            on_released=lambda: None,
            clock=self.backends.clock,
            fleet=KnownFleet(),
            rates=self.rates,
            rate_of=lambda job_type: self.rate if job_type == "email" else None,
        )

    async def wait(self, *events):
        await set_aside(self.backends, *events)
        await look(self.healer)

    async def tick(self, ms=0, healer=None):
        """The ids of the jobs that go out after so long."""
        self.backends.clock.now += ms
        await (healer or self.healer).rates.release_once()
        return [job.job_id for job, _ in await self.taken()]

    async def taken(self):
        found, count = [], await self.backends.broker.depth(Queue.MAIN)
        async with self.backends.broker.consume(Queue.MAIN, max(1, count)) as consumer:
            while len(found) < count:
                for delivery in await consumer.get(count):
                    found.append((decode_job(delivery.body, "", 0), paid_at(delivery.headers)))
                    delivery.ack()
        return found


@asynccontextmanager
async def scene():
    async with open_backends() as backends:
        yield Scene(backends)


async def test_the_oldest_first_at_the_rate_and_paid_for():
    async with scene() as it:
        await it.wait(*(limited(f"j{n:02}", START + n) for n in range(12)))
        assert await it.tick() == ["j00", "j01", "j02", "j03", "j04"]
        assert await it.tick(99) == []
        assert await it.tick(1) == ["j05"]
        await it.healer.rates.release_once()
        it.backends.clock.now += 200
        await it.healer.rates.release_once()
        assert [(job.job_id, job.generation, job.attempt, paid) for job, paid in await it.taken()] == [
            (name, 1, 0, it.backends.clock() * 1_000) for name in ("j06", "j07")
        ]
        assert it.healer.rates.waiting == {EMAIL: 4}


@pytest.mark.no_cover  # many examples; shorter tests cover the same
@settings(max_examples=30)
@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=25), st.integers(1, 40))
def test_no_span_of_time_sees_more_than_rate_and_burst(steps, count):
    """Of two control planes together, however irregular their turns; and each job goes out once."""

    async def law():
        async with scene() as it:
            await it.wait(*(limited(f"j{n:02}", START + n) for n in range(count)))
            other = it.another()
            await look(other)
            out = [(it.backends.clock(), await it.tick())]
            for turn, step in enumerate(steps):
                names = await it.tick(step, other if turn % 2 else it.healer)
                out.append((it.backends.clock(), names))
            names = [name for _, some in out for name in some]
            assert len(set(names)) == len(names)
            for begin, (start, _) in enumerate(out):
                for end in range(begin, len(out)):
                    assert sum(len(some) for _, some in out[begin : end + 1]) <= (out[end][0] - start) / 100 + 5

    asyncio.run(law())


async def test_new_jobs_stand_behind_those_that_wait_until_none_does():
    async with scene() as it:
        await it.wait(*(limited(f"j{n}", START + n) for n in range(6)))
        assert len(await it.tick()) == 5
        it.backends.clock.now += 4_000
        assert (await it.rates.run("email", TEN)).granted == 0, "the line is held"
        assert await it.tick() == ["j5"]
        await look(it.healer)
        assert await it.healer.rates.release_once() is None
        assert (await it.rates.run("email", TEN)).granted == 1
        assert it.healer.rates.waiting == {}


async def test_tenants_take_turns():
    async with scene() as it:
        await it.wait(*(limited(f"big{n}", START + n, tenant="big") for n in range(20)), limited("small", START + 999, tenant="small"))
        assert "small" in await it.tick()


async def test_a_newly_parked_job_is_counted_without_asking_the_ledger():
    async with scene() as it:
        await it.wait(limited("a"))
        it.healer._look.clear()
        await set_aside(it.backends, late := limited("b", START + 1))
        it.healer.observe_events([late])
        assert (it.healer.rates.waiting, it.healer._look.is_set()) == ({EMAIL: 2}, False)
        it.healer.observe_events([limited("c", tenant="new")])
        assert it.healer._look.is_set()


async def test_while_the_breaker_is_open_they_stay_and_a_probe_is_paid_for():
    async with scene() as it:
        await open_breaker(it.backends)
        await it.wait(*(limited(f"j{n}", START + n) for n in range(3)))
        assert (await it.healer.rates.release_once(), await it.tick()) == (None, [])
        it.backends.clock.now += 60_000
        await look(it.healer)
        ((probe, paid),) = await it.taken()
        assert (probe.job_id, paid) == ("j0", it.backends.clock() * 1_000)
        (breaker,) = await it.backends.breakers.snapshots()
        assert breaker.state is BreakerState.OPEN


async def test_jobs_that_their_breaker_parked_come_back_at_the_rate_too():
    """Else they would be parked once more, for the rate."""
    async with scene() as it:
        await it.wait(*(parked(f"p{n}", START + n) for n in range(9)))
        assert await it.taken() == []
        assert len(await it.tick()) == 5


async def test_a_breaker_that_opens_stops_them():
    async with scene() as it:
        await it.wait(*(limited(f"j{n}", START + n) for n in range(9)))
        await it.backends.breakers.command(EMAIL, Command(Action.FORCE_OPEN))
        assert await it.tick() == []
        await look(it.healer)
        assert it.healer.rates.waiting == {}
        await it.backends.breakers.command(EMAIL, Command(Action.DISABLE))
        await look(it.healer)
        assert len(await it.tick(60_000)) == 5


async def test_without_the_rate_all_come_back_as_the_breaker_permits():
    async with scene() as it:
        await it.wait(*(limited(f"j{n:02}", START + n) for n in range(30)))
        assert len(await it.tick()) == 5
        it.rate = None
        await look(it.healer)
        out = await it.taken()
        assert (len(out), {paid for _, paid in out}) == (25, {0})


async def test_a_changed_rate_holds_at_the_next_turn():
    async with scene() as it:
        await it.wait(*(limited(f"j{n:02}", START + n) for n in range(90)))
        await it.tick()
        it.rate = Rate(Frequency(1, 1_000), 5)
        assert [len(await it.tick(ms)) for ms in (999, 1)] == [0, 1]


async def test_types_without_a_rate_do_not_wait_for_those_with_one():
    async with scene() as it:
        sms = JobEvent(job("s", "sms"), JobState.PARKED, START, reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN")
        await set_aside(it.backends, sms, limited("e"))
        assert await look(it.healer) <= RECOUNT_S
        assert [(job.job_id, paid) for job, paid in await it.taken()] == [("s", 0)]
        assert it.healer.rates.waiting == {EMAIL: 1}


@pytest.mark.parametrize("cut", ["publish", "mark_released"])
async def test_a_release_that_was_cut_is_finished_paid_and_each_job_runs_once(cut):
    """The lease is durable before the publish: its job is published again, marked as a possible duplicate."""
    async with scene() as it:
        await it.wait(limited("a"))
        part = it.backends.broker if cut == "publish" else it.backends.quarantine
        part.fail(cut)
        with pytest.raises(Unavailable):
            await it.healer.rates.release_once()
        before = [job.generation for job, _ in await it.taken()]
        assert before == ([] if cut == "publish" else [1])
        it.backends.clock.now += 60_000
        await look(it.healer)
        ((again, paid),) = await it.taken()
        assert (again.generation, again.maybe_duplicate, paid) == (1, True, it.backends.clock() * 1_000)
        assert (await it.backends.reader.get("a")).state is JobState.QUEUED


async def test_without_redis_nothing_is_released_and_nothing_is_lost():
    async with scene() as it:
        await it.wait(limited("a"))
        it.rates.fail("release")
        with pytest.raises(Unavailable):
            await it.healer.rates.release_once()
        assert await it.tick() == ["a"]


async def test_a_job_parked_again_for_the_rate_is_no_sign_of_a_worker_with_a_breaker_of_its_own():
    """Unless the type has no rate here: then a worker reads another settings file, and the releases slow down."""
    async with scene() as it:
        await it.wait(limited("a"), limited("b"))
        await it.tick()
        again = limited("a", generation=1)
        it.healer.observe_events([again])
        assert it.healer.release_backoff.held_back() == frozenset()
        it.rate = None
        it.healer.observe_events([again])
        assert it.healer.release_backoff.held_back() == {EMAIL}


@pytest.mark.parametrize(
    ("rate", "longest"),
    [
        (TEN, 0.2),
        (Rate(Frequency(10, 1_000), 1), 0.1),
        (Rate(Frequency(1_000, 1_000), 500), 0.25),
        (Rate(Frequency(1_000, 1_000), 1), 0.01),
    ],
)
async def test_it_comes_again_before_a_bucket_is_full(rate, longest):
    """Else what it comes late for would be lost; and a slow rate is no reason to ask all the time."""
    async with scene() as it:
        it.rate = rate
        await it.wait(*(limited(f"j{n:03}", START + n) for n in range(600)))
        await it.tick()
        assert 0 < await it.healer.rates.release_once() <= longest
        it.rate = Rate(Frequency(1, 3_600_000), 1)
        assert await it.healer.rates.release_once() == 2.0
