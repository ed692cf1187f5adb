"""A job over the rate of its type is parked and not to blame; a flood costs few calls; without Redis each worker runs its part."""

import pytest

from sickbay.adapters.embedded.run_rates import EmbeddedRunRates
from sickbay.domain.breaker import BreakerKey, BreakerState, Refusal, Snapshot
from sickbay.domain.job import JobState, Reason
from sickbay.domain.rate_limit import Frequency, Rate
from sickbay.domain.run_rate import OVER_RATE
from sickbay.domain.workers import Fleet, Worker
from sickbay.messages.payment import PAID, paid_at
from tests.support.embedded_backends import Flaky
from tests.support.engine_bench import does, fails, fine, job, open_bench
from tests.support.known_fleet import KnownFleet
from worker.rate_gate import COUNTED_S, REFUSED_S, RateGate

TEN = Rate(Frequency(10, 1_000), 5)
KEY = BreakerKey("email")


class Seconds:
    """A monotonic clock, moved by the test alone."""

    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


class Circuits:
    """A view of one breaker."""

    def __init__(self, state=BreakerState.CLOSED):
        self.state = state

    def unless_closed(self, key):
        return None if self.state is BreakerState.CLOSED else Snapshot(key, self.state, 1, 1, 0)


def counted(rates):
    """The store, and how often it was asked."""
    asked, run = [], rates.run

    async def count(*args):
        asked.append(args)
        return await run(*args)

    rates.run = count
    return asked


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def rates(seconds):
    return Flaky(EmbeddedRunRates(lambda: round(seconds() * 1_000_000)))


def gate(rates, seconds, rate=TEN, **options):
    return RateGate(rates, lambda job_type: rate if job_type == "email" else None, seconds=seconds, **options)


async def drain(gate):
    return [await gate._may_run("email", 0) for _ in range(6)]


async def test_a_job_over_the_rate_is_parked_before_its_breaker_is_asked_and_pays_no_attempt(rates, seconds):
    async with open_bench(does(fine), rates=gate(rates, seconds, Rate(Frequency(1, 1_000), 1))) as bench:
        assert await bench.run_one(job("a")) == "ack"
        bench.log.clear()
        assert await bench.run_one(job("b", attempt=2)) == "ack"
        assert bench.log == ["published job.waiting.parked", "ack"]
        event = bench.broker.events()[-1]
        assert (event.state, event.reason, event.code, event.message) == (JobState.PARKED, Reason.RATE_LIMITED, OVER_RATE, "")
        assert (event.job.attempt, event.job.failures, event.started_at) == (2, (), None)


async def test_a_paid_job_runs_once_and_its_retry_pays_anew(rates, seconds):
    limit = gate(rates, seconds, Rate(Frequency(1, 1_000), 1))
    async with open_bench(does(fails("API_TIMEOUT")), rates=limit) as bench:
        grant = await rates.release("email", Rate(Frequency(1, 1_000), 1), 1, waiting=True)
        assert await bench.run_one(job("a", generation=1), headers={PAID: str(grant.at)}) == "ack"
        assert bench.log[:1] == ["settled systemic"]
        (retry,) = [message for message in bench.broker.published if message.key == "retry"]
        assert PAID not in retry.headers
        assert await bench.run_one(bench.broker.copies()[-1]) == "ack"
        assert bench.broker.events()[-1].reason is Reason.RATE_LIMITED


async def test_a_type_without_a_rate_asks_nothing(rates, seconds):
    asked = counted(rates)
    async with open_bench(does(fine), rates=RateGate(rates, lambda _: None, seconds=seconds)) as bench:
        assert [await bench.run_one(job(str(n))) for n in range(20)] == ["ack"] * 20
    assert asked == []


async def test_a_flood_over_the_rate_costs_one_call_in_a_while(rates, seconds):
    asked, limit = counted(rates), gate(rates, seconds)
    assert await drain(limit) == [True] * 5 + [False]
    assert [await limit._may_run("email", 0) for _ in range(1_000)] == [False] * 1_000
    assert len(asked) == 6
    seconds.now += REFUSED_S
    await limit._may_run("email", 0)
    assert len(asked) == 7


async def test_a_changed_rate_ends_what_was_remembered(rates, seconds):
    rate = TEN
    limit = RateGate(rates, lambda _: rate, seconds=seconds)
    await drain(limit)
    rate = Rate(Frequency(100, 1_000), 50)
    asked = counted(rates)
    await limit._may_run("email", 0)
    assert len(asked) == 1


async def test_a_refusing_breaker_is_asked_first_and_nothing_is_taken(rates, seconds):
    circuits, asked = Circuits(BreakerState.OPEN), counted(rates)
    async with open_bench(does(fine), rates=gate(rates, seconds, circuits=circuits)) as bench:
        bench.breakers.answer = Refusal(KEY, BreakerState.OPEN)
        assert await bench.run_one(job("a")) == "ack"
        assert bench.broker.events()[-1].reason is Reason.CIRCUIT_OPEN
        assert asked == []


async def test_without_the_store_each_worker_runs_its_part(rates, seconds):
    """Of four workers each a quarter of the rate, paid jobs in any case; nothing stops."""
    workers = [Worker(f"w{n}", f"w{n}", ("email",)) for n in range(4)]
    limit = gate(rates, seconds, Rate(Frequency(8, 1_000), 4), fleet=KnownFleet(Fleet(1, workers, 0)))
    assert await limit._may_run("email", 0)
    rates.fail("run", 10_000)
    seconds.now += COUNTED_S
    granted = 0
    for _ in range(1_000):
        granted += await limit._may_run("email", 0)
        seconds.now += 0.01
    assert granted == pytest.approx(8 * 10 / 4, abs=1)
    assert await limit._may_run("email", 1)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "9" * 17, "१"])
def test_an_invalid_payment_is_none(text):
    assert paid_at({PAID: text}) == 0
