"""A worker enters lifespans before it takes jobs, gives their values to handlers, and leaves them after its last job."""

import asyncio
import threading
import time

import pytest

from sickbay.domain.errors import SettingsError
from sickbay.domain.job import JobState
from sickbay.handlers.lifespan import lifespan, shutdown, startup
from sickbay.handlers.registry import HandlerSpec
from tests.support.engine_bench import job, open_bench
from worker.lifespans import Lifespans


class Pool:
    """Belongs to a loop, as one of a driver does."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.is_open = True


@pytest.fixture
def scope():
    """A module in which one async lifespan makes pools, and remembers all of them."""
    made = []

    async def pool():
        one = Pool()
        made.append(one)
        yield one
        one.is_open = False

    found = {"__name__": "shop", "made": made}
    found["pool"] = _at_home(lifespan(pool), found)
    return found


def _at_home(one, home):
    """As if it were defined in this module."""
    object.__setattr__(one, "home", home)
    return one


def takes(function, scope, **options):
    return HandlerSpec("email", function, wanted={"pool": True}, scope=scope, place="shop.py:7", **options)


def opened_lifespans():
    """On this loop, without a worker."""
    lifespans = Lifespans(lambda handlers: 0)
    lifespans.resources.use(asyncio.get_running_loop())
    return lifespans


async def open_lifespans(bench, spec):
    await bench.runner.enter_lifespans([spec])


async def leave(bench):
    await bench.runner._lifespans.leave()


async def test_values_are_given_and_ended(scope):
    async def send(job, pool):
        return pool.loop is asyncio.get_running_loop()

    spec = takes(send, scope)
    async with open_bench(spec) as bench:
        await open_lifespans(bench, spec)
        assert len(scope["made"]) == 1, "before the first job"
        for _ in range(2):
            await bench.run_one(job())
        assert bench.broker.events()[-1].result.json == b"true"
        assert len(scope["made"]) == 1
        await bench.engine.drain(1)
        assert scope["made"][0].is_open
        await leave(bench)
        assert not scope["made"][0].is_open


async def test_a_plain_handler_gets_the_value_of_an_async_one(scope):
    def send(job, pool):
        return pool.is_open

    async with open_bench(takes(send, scope)) as bench:
        await bench.run_one(job())
        assert bench.broker.events()[-1].result.json == b"true"
        await leave(bench)


async def test_a_loop_that_is_abandoned_gives_nothing_to_the_next(scope):
    go_on = threading.Event()

    async def send(job, pool):
        if job.job_id == "blocks":
            go_on.wait(10)
        return pool.loop is asyncio.get_running_loop()

    spec = takes(send, scope, timeout=1.2)
    async with open_bench(spec) as bench:
        await open_lifespans(bench, spec)
        await bench.run_one(job("blocks"))
        go_on.set()
        await bench.run_one(job("next"))
        last = bench.broker.events()[-1]
        assert (last.state, last.result.json, len(scope["made"])) == (JobState.SUCCEEDED, b"true", 2)
        await leave(bench)
        assert not scope["made"][1].is_open


async def test_one_that_cannot_be_entered_anew_fails_the_run():
    """As whatever it raises: here the dependency is away."""
    home = {"__name__": "shop"}

    async def pool():
        raise ConnectionRefusedError("no database")

    home["pool"] = _at_home(startup(pool), home)

    async def send(job, pool):
        return None

    for function in (send, lambda job, pool: None):
        async with open_bench(takes(function, home)) as bench:
            await bench.run_one(job())
            (outcome,) = [outcome for _, outcome in bench.breakers.outcomes]
            assert outcome.code == "CONNECTION_REFUSED"


def fails():
    raise OSError("no disk")


def blocks():
    time.sleep(0.5)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (fails, r"JOB_HANDLERS: a lifespan of module 'shop' failed at the start: OSError: no disk \(.*test_lifespans.py:\d+ in fails\)"),
        (blocks, r"JOB_HANDLERS: the lifespans of 'shop' took longer than 0.1 s"),
        (lambda: {"client": 1}, r"JOB_HANDLERS: shop.py:7: the handler of 'email' takes 'pool', which no @lifespan .* they give client"),
    ],
)
async def test_a_worker_does_not_start_without_them(function, words):
    home = {"__name__": "shop"}
    home["pool"] = _at_home(startup(function), home)
    lifespans = opened_lifespans()
    with pytest.raises(SettingsError, match=words):
        await lifespans.enter([takes(lambda job, pool: None, home)], 0.1)
    await lifespans.leave(2)


async def test_one_that_does_not_end_is_left_behind(caplog):
    home, forever = {"__name__": "shop"}, threading.Event()
    home["end"] = _at_home(shutdown(lambda: forever.wait(5)), home)
    lifespans = opened_lifespans()
    await lifespans.enter([HandlerSpec("email", lambda job: None, scope=home)])
    await lifespans.leave(0.01)
    assert "1 lifespans did not end within 0.01 s" in caplog.text
    forever.set()
    await lifespans.leave(2)
