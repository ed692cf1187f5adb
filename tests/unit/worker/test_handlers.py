"""Handlers come and go while a worker runs: the later source wins, runs go on with the handler they began with, and others follow."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.job import Job
from sickbay.domain.outcome import SUCCESS, OutcomeKind
from sickbay.domain.retry import RetryOptions
from sickbay.domain.workers import Worker
from sickbay.handlers.call import RunLost
from sickbay.handlers.registry import HandlerSpec
from tests.support.clock import ManualClock
from tests.support.engine_bench import does, fails, fine, job, open_bench
from tests.support.flag import Flag
from worker.handlers import Handlers, Source
from worker.presence import Presence
from worker.slots import Gates, Slots

TYPES = st.sets(st.sampled_from("abcdef"))


def spec(job_type, function=fine, **options):
    return HandlerSpec(job_type, function, **options)


@given(sources=st.dictionaries(st.sampled_from(Source), TYPES))
def test_of_two_sources_that_handle_a_type_the_later_one_wins(sources):
    handlers = Handlers({})
    specs = {source: {name: spec(name, place=source.name) for name in names} for source, names in sources.items()}
    for source, mine in specs.items():
        handlers.replace(source, mine.values())
    assert set(handlers) == set().union(*sources.values())
    for name in handlers:
        best = max(source for source, names in sources.items() if name in names)
        assert (handlers[name].place, handlers.source_of(name)) == (best.name, best)


def test_a_type_that_the_winner_gives_up_goes_back_to_the_other():
    handlers = Handlers({"email": spec("email", place="module")})
    handlers.replace(Source.SETTINGS_FILE, [spec("email", place="file")])
    assert handlers["email"].place == "file"
    handlers.replace(Source.SETTINGS_FILE, [])
    assert handlers["email"].place == "module"
    assert handlers.of(Source.SETTINGS_FILE) == {}
    assert handlers.source_of("sms") is None


def test_listeners_are_called_if_other_handlers_are_in_force_and_only_then():
    handlers, calls = Handlers({"email": spec("email")}), []
    handlers.on_change(lambda: calls.append(sorted(handlers)))
    assert not handlers.replace(Source.PROGRAMS, [spec("email", place="hidden by the module")])
    assert handlers.replace(Source.PROGRAMS, [spec("sms")])
    assert calls == [["email", "sms"]]


async def test_a_run_ends_as_its_handler_says_although_that_is_gone_by_then():
    go = Flag()

    async def slow(job):
        await go.wait()
        await fails("SLOW")(job)

    handlers = Handlers({"email": spec("email", slow, retry=RetryOptions(max_retries=0))})
    async with open_bench(table=handlers) as bench:
        delivery = bench.deliver(job())
        while not bench.runner.running:
            await asyncio.sleep(0)
        handlers.replace(Source.MODULES, [])
        go.set()
        await delivery.settled.wait()
        assert bench.broker.events()[-1].reason == "RETRIES_EXHAUSTED"
        assert await bench.run_one(job("next")) == "ack"
        assert bench.broker.events()[-1].reason == "UNKNOWN_TYPE"


async def test_a_job_that_waits_for_its_turn_runs_with_the_handler_of_then():
    go, ran = Flag(), []

    async def slow(job):
        await go.wait()
        ran.append("before")

    async def new(job):
        ran.append("now")

    handlers = Handlers({"email": spec("email", slow, concurrency=1)})
    async with open_bench(table=handlers) as bench:
        first = bench.deliver(job("first"))
        while not bench.runner.running:
            await asyncio.sleep(0)
        second = bench.deliver(job("second"))
        while not bench.engine._gates.waiting("email"):
            await asyncio.sleep(0)
        handlers.replace(Source.MODULES, [spec("email", new, concurrency=1)])
        assert bench.runner.outdated(handlers) == 1
        go.set()
        await first.settled.wait()
        await second.settled.wait()
        assert ran == ["before", "now"]


async def test_a_job_that_waits_for_its_turn_while_its_handler_goes_is_of_an_unknown_type():
    go = Flag()

    async def slow(job):
        await go.wait()

    handlers = Handlers({"email": spec("email", slow, concurrency=1)})
    async with open_bench(table=handlers) as bench:
        first = bench.deliver(job("first"))
        while not bench.runner.running:
            await asyncio.sleep(0)
        second = bench.deliver(job("second"))
        while not bench.engine._gates.waiting("email"):
            await asyncio.sleep(0)
        handlers.replace(Source.MODULES, [])
        go.set()
        await first.settled.wait()
        await second.settled.wait()
        assert [event.reason for event in bench.broker.events() if event.reason] == ["UNKNOWN_TYPE"]


async def test_a_job_whose_runner_is_lost_goes_back_uncharged():
    async def lost(job):
        raise RunLost

    async with open_bench(does(lost)) as bench:
        assert await bench.run_one(job()) == "nack"
        assert bench.breakers.outcomes[-1][1].kind is OutcomeKind.CANCELLED
        assert bench.broker.published == []


async def test_a_new_type_is_announced_at_once():
    registry, changed = EmbeddedWorkerRegistry(ManualClock()), asyncio.Event()
    handlers = Handlers({})
    presence = Presence(registry, Worker("w1", "anna", ()), lambda: 0, job_types=lambda: handlers, every_s=3_600)
    handlers.on_change(presence.tell)
    original = registry.announce

    async def announce(worker):
        await original(worker)
        changed.set()

    registry.announce = announce
    running = asyncio.create_task(presence.run())
    handlers.replace(Source.PROGRAMS, [spec("sms"), spec("fax")])
    await changed.wait()
    running.cancel()
    assert [worker.job_types for worker in (await registry.fleet()).workers] == [("fax", "sms")]


async def test_a_type_that_is_new_is_counted_by_its_name():
    async with open_bench(does(fine)) as bench:
        bench.metrics.add(["sms"])
        bench.metrics.run_ended(Job("s", "sms"), Permit(BreakerKey("sms"), PermitKind.NORMAL, 1, "s"), SUCCESS, 0.1)
        assert bench.told.registry.get_sample_value("sickbay_job_runs_total", {"job_type": "sms", "kind": "success"}) == 1


class Turns:
    """Jobs that want a turn, and how many of them have it."""

    def __init__(self, gates):
        self.gates, self.slots = gates, Slots(100)
        self.has, self.most, self.tasks, self.leave = 0, 0, [], []

    async def _job(self, number):
        async with self.gates.turn("slow", self.slots) as has_come:
            assert has_come
            self.has += 1
            try:
                await self.leave[number].wait()
            finally:
                self.has -= 1

    def ask(self):
        self.leave.append(asyncio.Event())
        self.tasks.append(asyncio.create_task(self._job(len(self.leave) - 1)))

    async def settle(self):
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_limit_that_grows_lets_those_in_who_wait_and_one_that_shrinks_throws_nobody_out():
    gates = Gates({"slow": 1}, crowd=100)
    turns = Turns(gates)
    for _ in range(6):
        turns.ask()
    await turns.settle()
    assert turns.has == 1
    gates.limit({"slow": 3})
    await turns.settle()
    assert turns.has == 3
    gates.limit({"slow": 1})
    turns.leave[0].set()
    turns.leave[1].set()
    await turns.settle()
    assert turns.has == 1
    gates.limit({})
    await turns.settle()
    assert turns.has == 4
    for event in turns.leave:
        event.set()
    await asyncio.gather(*turns.tasks)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("limit"), st.integers(1, 4)),
            st.tuples(st.sampled_from(["ask", "leave", "cancel"]), st.integers(0, 30)),
        ),
        max_size=60,
    )
)
def test_whatever_happens_nobody_waits_while_there_is_room(steps):
    async def play():
        gates, limit = Gates({"slow": 2}, crowd=100), 2
        turns = Turns(gates)
        for verb, number in steps:
            before = turns.has
            if verb == "limit":
                limit = number
                gates.limit({"slow": limit})
            elif verb == "ask":
                turns.ask()
            elif turns.tasks:
                index = number % len(turns.tasks)
                turns.tasks[index].cancel() if verb == "cancel" else turns.leave[index].set()
            await turns.settle()
            assert turns.has <= max(limit, before)
            assert turns.has >= min(limit, sum(not task.done() for task in turns.tasks))
        for task in turns.tasks:
            task.cancel()
        await asyncio.gather(*turns.tasks, return_exceptions=True)
        assert (turns.has, turns.slots.in_use) == (0, 0)

    asyncio.run(play())
