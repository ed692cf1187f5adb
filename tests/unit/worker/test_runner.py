"""Whatever a handler does is an outcome, and hurts no other handler: raising, returning, hanging, blocking, asking the process to exit."""

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import threading
import time
import warnings

import pytest
from hypothesis import given, settings

from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.job import Job
from sickbay.domain.outcome import SUCCESS, OutcomeKind
from sickbay.handlers.call import FORKED
from sickbay.handlers.registry import HandlerSpec
from tests.support.flag import Flag
from tests.support.nasty_values import SAMPLES, Mystery, Panic, nasty_exceptions
from worker import handler_loop
from worker.handler_pools import THREADS
from worker.runner import Runner

PERMIT = Permit(BreakerKey("email"), PermitKind.NORMAL, 1, "j")


class Patient:
    """Breakers that a runner without probes never asks."""


@contextlib.asynccontextmanager
async def running(timeout_s=5.0, concurrency=10, **options):
    """A runner that is closed at the end."""
    runner = Runner(Patient(), timeout_s=timeout_s, concurrency=concurrency, **options)
    try:
        yield runner
    finally:
        runner.close()


def spec(function, job_type="email", **options):
    return HandlerSpec(job_type, function, **options)


async def run(runner, function, job_id="j", **options):
    handler = spec(function, **options)
    return await runner.run(handler, Job(job_id, handler.job_type), PERMIT)


def both(recipe):
    """The same failure from an async handler and a sync one."""

    async def on_loop(job):
        raise recipe()

    def in_thread(job):
        raise recipe()

    return on_loop, in_thread


def assert_valid(outcome):
    """It can be written down: a failure with a code, and text that UTF-8 can say."""
    assert outcome.kind not in {OutcomeKind.SUCCESS, OutcomeKind.CANCELLED}
    assert outcome.code
    outcome.message.encode()


@pytest.mark.parametrize("name", SAMPLES)
async def test_whatever_is_raised_is_a_failure(name):
    """Also what is no Exception, and what raises when it is read; the runner is there for the next one."""
    async with running() as runner:
        for function in both(SAMPLES[name]):
            assert_valid(await run(runner, function))
            assert await run(runner, fine) == SUCCESS


@given(recipe=nasty_exceptions())
@settings(max_examples=60, deadline=None)
def test_no_exception_however_made_is_anything_else(recipe):
    """Hypothesis combines vices."""

    async def body():
        async with running() as runner:
            for function in both(recipe):
                assert_valid(await run(runner, function))
            assert runner.overdue == 0

    asyncio.run(body())


def liar():
    """A result that cannot be looked at."""
    return type("Liar", (), {"__class__": property(lambda self: next(iter(())))})()


async def fine(job):
    return None


RESULTS = {"zero": lambda: 0, "text": lambda: "text", "object": object, "a liar": liar, "a mystery": Mystery, "a class": lambda: Mystery}


@pytest.mark.parametrize("name", RESULTS)
async def test_a_handler_that_returned_has_succeeded_whatever_it_returned(name):
    """It has a result, or a sentence why not (`test_result.py`)."""

    async def on_loop(job):
        return RESULTS[name]()

    async with running() as runner:
        for function in (on_loop, lambda job: RESULTS[name](), functools.partial(on_loop)):
            outcome = await run(runner, function)
            assert outcome.kind is OutcomeKind.SUCCESS
            assert (outcome.result.json == b"") is (name not in {"zero", "text"})
            assert (outcome.result.note == "") is (name in {"zero", "text"})


async def test_none_and_a_failure_have_no_result():
    async with running() as runner:
        assert await run(runner, fine) == SUCCESS
        assert SUCCESS.result is None
        assert (await run(runner, lambda job: 1 / 0)).result is None


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_result_that_cannot_be_read_in_time_is_lost_and_the_run_is_not(is_async):
    """Its effect has happened: running it again, or opening the circuit, would help nobody."""
    released = Flag()

    class Slow:
        __dataclass_fields__ = Job.__dataclass_fields__

        def __getattr__(self, name):
            released.wait_in_thread()

    async def on_loop(job):
        return Slow()

    async with running(timeout_s=0.1) as runner:
        outcome = await run(runner, on_loop if is_async else lambda job: Slow())
        released.set()
    assert outcome.kind is OutcomeKind.SUCCESS
    assert outcome.result.note == "the result could not be read within the handler's timeout"


async def test_what_is_returned_after_the_timeout_is_too_late():
    async def stubborn(job):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "late"

    async with running(timeout_s=0.05) as runner:
        outcome = await run(runner, stubborn)
    assert (outcome.code, outcome.result) == ("HANDLER_TIMEOUT", None)


async def test_what_a_sync_handler_returns_is_awaited():
    """A coroutine, that of a decorated async function, a future of another thread, an awaitable object, and one in the other."""
    ran = []

    async def real(job):
        await asyncio.sleep(0)
        ran.append(threading.current_thread().name)

    @functools.wraps(real)
    def decorated(job):
        return real(job)

    class Awaitable:
        def __await__(self):
            return real(None).__await__()

    async def nested(job):
        return real(job)

    pool = concurrent.futures.ThreadPoolExecutor(1)

    def sync(job):
        return real(job)

    def sync_nested(job):
        return nested(job)

    kinds = [
        sync,
        decorated,
        lambda job: pool.submit(ran.append, "pool"),
        lambda job: Awaitable(),
        sync_nested,
        nested,
    ]
    async with running() as runner:
        for number, kind in enumerate(kinds, 1):
            assert await run(runner, kind) == SUCCESS
            assert len(ran) == number, "its body ran"
    pool.shutdown()


async def test_what_a_sync_handler_returns_to_be_awaited_may_fail():
    """As if it had been awaited at once."""

    async def real(job):
        raise ConnectionRefusedError

    def sync(job):
        return real(job)

    async with running() as runner:
        assert (await run(runner, sync)).code == "CONNECTION_REFUSED"


async def test_what_can_be_neither_awaited_nor_run_fails():
    """A success whose body never ran would be a lie."""

    def generator(job):
        yield

    async def async_generator(job):
        yield

    async def endless():
        return endless()

    async with running() as runner:
        for function in (generator, async_generator, lambda job: fine, lambda job: functools.partial(fine, job), lambda job: endless()):
            outcome = await run(runner, function)
            assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "HANDLER_NOT_RUN")


async def test_the_timeout_holds_for_what_is_awaited_afterwards():
    """The time in the thread counts, too."""

    async def forever():
        await asyncio.Event().wait()

    async with running() as runner:
        outcome = await run(runner, lambda job: forever(), timeout=0.05)
        assert (outcome.code, runner.overdue) == ("HANDLER_TIMEOUT", 0)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, Panic, GeneratorExit, asyncio.CancelledError])
async def test_a_task_that_a_handler_made_cannot_end_the_loop(error):
    """The others go on, and the next one runs."""
    go = Flag()

    async def innocent(job):
        await go.wait()

    async def child():
        raise error

    async def parent(job):
        await asyncio.create_task(child())

    async with running() as runner:
        other = asyncio.create_task(run(runner, innocent, "other"))
        assert_valid(await run(runner, parent))
        assert await run(runner, fine) == SUCCESS
        go.set()
        assert await other == SUCCESS


async def test_a_handler_that_cancels_itself_has_failed():
    """Nobody else cancelled it."""

    async def suicidal(job):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async with running() as runner:
        assert_valid(await run(runner, suicidal))


async def test_hung_sync_handlers_take_no_thread_from_others():
    """As many as there are slots hang for ever; a healthy one of another type begins at once."""
    release = threading.Event()
    async with running(concurrency=2) as runner:
        hung = [run(runner, lambda job: release.wait(), f"h{n}", job_type="hung", timeout=0.05) for n in range(2)]
        assert [outcome.code for outcome in await asyncio.gather(*hung)] == ["HANDLER_TIMEOUT"] * 2
        assert (runner.lost("hung"), runner.overdue) == (2, 2)
        assert await run(runner, lambda job: None, job_type="healthy") == SUCCESS
        release.set()
        while runner.overdue:
            await asyncio.sleep(0.001)


async def test_a_type_that_lost_too_many_threads_begins_no_more():
    """Others do; and so does it, when they come back."""
    release = threading.Event()
    async with running(concurrency=2) as runner:
        hanging, healthy = spec(lambda job: release.wait(), "hung"), spec(lambda job: None, "healthy")
        while not runner.is_exhausted(hanging):
            await run(runner, hanging.function, job_type="hung", timeout=0.01)
        assert runner.overdue == 4
        assert not runner.is_exhausted(healthy)
        release.set()
        while runner.is_exhausted(hanging):
            await asyncio.sleep(0.001)


async def test_the_longest_timeout_is_of_what_runs():
    """Also if its handler has been replaced: a drain gives it that time."""
    release = threading.Event()
    async with running() as runner:
        assert runner.longest_s == 0
        tasks = [asyncio.create_task(run(runner, lambda job: release.wait(), f"j{n}", timeout=n)) for n in (90.0, 60.0)]
        while runner.running < 2:
            await asyncio.sleep(0)
        assert runner.longest_s == 90
        assert runner.outdated({}) == 2
        release.set()
        await asyncio.gather(*tasks)
        assert runner.longest_s == 0


async def test_a_mended_handler_begins_although_the_one_of_before_hangs():
    """As after `--reload`: the type is the same, the function another."""
    release = threading.Event()
    async with running(concurrency=2) as runner:
        hanging, mended = spec(lambda job: release.wait(), "hung"), spec(lambda job: None, "hung")
        while not runner.is_exhausted(hanging):
            await run(runner, hanging.function, job_type="hung", timeout=0.01)
        assert not runner.is_exhausted(mended)
        assert (runner.lost("hung"), runner.overdue) == (4, 4)
        release.set()
        while runner.overdue:
            await asyncio.sleep(0.001)
        assert not runner.is_exhausted(hanging)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_that_outlives_its_timeout_is_counted_and_told(is_async, caplog, monkeypatch):
    """One that swallows its cancellation, and a thread; its slot is free, its outcome stands, whatever it comes to later."""
    monkeypatch.setattr(handler_loop, "CLEANUP_S", 0.01)
    release = Flag()

    async def stubborn(job):
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async with running() as runner:
        function = stubborn if is_async else lambda job: release.wait_in_thread()
        outcome = await run(runner, function, timeout=0.02)
        assert (outcome.code, runner.running, runner.lost("email")) == ("HANDLER_TIMEOUT", 0, 1)
        assert "still runs" in caplog.text
        release.set()
        while runner.overdue:
            await asyncio.sleep(0.001)


async def test_calls_in_threads_that_hang_take_none_from_other_types():
    """`asyncio.to_thread` has threads of each type."""
    release = threading.Event()

    async def hanging(job):
        await asyncio.gather(*(asyncio.to_thread(release.wait) for _ in range(THREADS)))

    async def healthy(job):
        await asyncio.to_thread(time.monotonic)

    async with running() as runner:
        assert (await run(runner, hanging, job_type="hung", timeout=0.1)).code == "HANDLER_TIMEOUT"
        assert await run(runner, healthy, job_type="sms") == SUCCESS
        release.set()


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_forked_child_that_comes_back_from_the_handler_ends(is_async):
    """It must not settle its parent's job, nor work on with its parent's sockets."""
    children = []

    def fork():
        child = os.fork()
        if child:
            children.append(child)

    async def forks(job):
        fork()

    async with running() as runner:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later: fork in a process with threads
            assert await run(runner, forks if is_async else lambda job: fork()) == SUCCESS
        _, status = os.waitpid(children[0], 0)
        assert os.waitstatus_to_exitcode(status) == FORKED


async def test_a_handler_that_stops_the_loop_stops_nobody():
    """It goes on at once."""

    async def stops(job):
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.001)

    async with running() as runner:
        assert await run(runner, stops) == SUCCESS
        assert await run(runner, fine) == SUCCESS


async def test_a_handler_that_sets_a_task_factory_stops_nobody():
    """What the loop makes tasks with is every handler's, and a handler may set it (as some frameworks do): runs begin without it."""

    async def meddle(job):
        asyncio.get_running_loop().set_task_factory(lambda loop, coro, **options: coro.close())

    async with running() as runner:
        assert await run(runner, meddle) == SUCCESS
        assert await run(runner, fine) == SUCCESS


async def test_a_run_that_the_loop_cannot_begin_has_failed_and_the_next_one_runs(monkeypatch):
    """A fault of the loop is an outcome, too."""
    begin = handler_loop.HandlerLoop._begin
    faults = [RuntimeError("no more memory")]

    def broken(loop, one):
        if faults:
            raise faults.pop()
        begin(loop, one)

    async with running() as runner:
        monkeypatch.setattr(handler_loop.HandlerLoop, "_begin", broken)
        assert (await run(runner, fine)).message == "no more memory"
        assert await run(runner, fine) == SUCCESS


async def test_no_more_threads_is_nobody_s_fault(monkeypatch):
    """The job goes back; the handler is not charged."""
    from sickbay.domain.errors import Unavailable

    def refuse(self):
        raise RuntimeError("can't start new thread")

    async with running() as runner:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Unavailable, match="too many threads"):
            await run(runner, lambda job: None)
        assert runner.running == 0


async def test_a_failure_after_a_standstill_is_excused_a_few_times(monkeypatch):
    """Its own timeouts ran out while the process stood still; but not for ever."""
    async with running() as runner:

        async def fails(job):
            runner._loops.current().clock._lost += 5
            raise TimeoutError

        kinds = [(await run(runner, fails)).kind for _ in range(4)]
        assert kinds == [OutcomeKind.CANCELLED] * 3 + [OutcomeKind.SYSTEMIC]


async def test_a_success_after_a_standstill_is_one():
    """It proves what it proves."""
    async with running() as runner:

        async def succeeds(job):
            runner._loops.current().clock._lost += 5

        assert await run(runner, succeeds) == SUCCESS


def _read(job, then):
    try:
        _ = job.payload
    except ValueError:
        if then == "raises another":
            raise RuntimeError("something") from None
    if then == "raises late":
        raise ConnectionRefusedError


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("then", ["raises another", "raises late", "hangs", "returns"])
async def test_a_run_that_fails_after_its_payload_could_not_be_read_failed_of_that(is_async, then):
    """Whatever the handler makes of it, the timeout included; one that returns has found another way."""
    stop = threading.Event()

    def in_thread(job):
        _read(job, then)
        if then == "hangs":
            stop.wait()

    async def on_loop(job):
        _read(job, then)
        if then == "hangs":
            await asyncio.Event().wait()

    async with running() as runner:
        handler = spec(on_loop if is_async else in_thread, timeout=0.05)
        outcome = await runner.run(handler, Job("j", "email", b'{"n":' + b"9" * 5_000 + b"}"), PERMIT)
        stop.set()
    if then == "returns":
        assert outcome is SUCCESS
    else:
        assert (outcome.code, outcome.kind) == ("PAYLOAD_UNREADABLE", OutcomeKind.DATA)
        assert "more digits" in outcome.message
