"""A handler, or a callback that it left behind, blocks the handlers' loop: it is named with its line, and what it blocks is helped."""

import asyncio
import re
import threading
import time

from sickbay.domain.outcome import SUCCESS, OutcomeKind
from tests.support.flag import Flag
from tests.unit.worker.test_runner import fine, run, running


async def test_a_handler_that_blocks_the_loop_holds_up_neither_the_worker_nor_the_timeouts_of_others(caplog):
    """The worker's loop goes on; who blocks is named; the others get the time back."""
    blocked, release, begun = threading.Event(), threading.Event(), Flag()

    async def blocker(job):
        blocked.set()
        release.wait(30)

    async def innocent(job):
        begun.set()
        await asyncio.sleep(0.2)

    async with running() as runner:
        other = asyncio.create_task(run(runner, innocent, "other", job_type="sms", timeout=1.5))
        await begun.wait()
        blocking = asyncio.create_task(run(runner, blocker, job_type="email", timeout=30))
        began = time.monotonic()
        while runner.blocked("email") == 0 or time.monotonic() - began < 2:
            await asyncio.sleep(0.01)
        assert "the handler of email blocks the event loop at" in caplog.text
        assert "in wait" in caplog.text
        release.set()
        assert await other == SUCCESS
        assert await blocking == SUCCESS


async def test_one_that_never_lets_go_of_the_loop_is_left_behind(caplog):
    """It alone is charged, what ran beside it is done again elsewhere, and what waited runs on another loop."""
    release, begun = threading.Event(), Flag()

    async def blocker(job):
        await asyncio.create_task(inner())

    async def inner():
        release.wait(30)

    async def innocent(job):
        begun.set()
        await asyncio.Event().wait()

    async with running() as runner:
        other = asyncio.create_task(run(runner, innocent, "other", job_type="sms"))
        await begun.wait()
        blocking = asyncio.create_task(run(runner, blocker, timeout=1.5))
        while runner.blocked("email") == 0:
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(run(runner, fine, "waiting", job_type="sms"))
        outcome = await blocking
        assert (outcome.code, runner.lost("email"), runner.lost("sms")) == ("HANDLER_TIMEOUT", 1, 0)
        assert "it blocked the event loop at" in outcome.message
        assert (await other).kind is OutcomeKind.CANCELLED
        assert await waiting == SUCCESS
        assert await run(runner, fine) == SUCCESS
        release.set()
        while runner.overdue:
            await asyncio.sleep(0.001)


async def test_a_callback_left_behind_that_blocks_the_loop_is_seen_and_left(caplog):
    """No run is under way on it, and none could ever begin."""
    release = threading.Event()

    async def leaves_behind(job):
        asyncio.get_running_loop().call_soon(release.wait, 30)

    async with running(timeout_s=1.5) as runner:
        assert await run(runner, leaves_behind) == SUCCESS
        assert await run(runner, fine) == SUCCESS
        assert runner.blocked("") + runner.blocked("email") == 1
        release.set()


async def blocked_line(caplog, callback, release):
    """What is told of a callback that a handler leaves behind, and that goes on until it is released."""

    async def leaves_behind(job):
        asyncio.get_running_loop().call_soon(callback)

    async with running(timeout_s=30) as runner:
        assert await run(runner, leaves_behind) == SUCCESS
        waiting = asyncio.create_task(run(runner, fine, job_type="sms"))
        while runner.blocked("") == 0:
            await asyncio.sleep(0.01)
        (line,) = (record.getMessage() for record in caplog.records if "blocks the event loop" in record.getMessage())
        release()
        assert await waiting == SUCCESS
    return line


async def test_a_callback_that_blocks_the_loop_is_named_by_its_line(caplog):
    """It is in no task, so nobody can tell whose it is; the types that ran there are told."""
    lock = threading.Lock()
    lock.acquire()

    def sits_here():
        with lock:
            pass

    line = await blocked_line(caplog, sits_here, lock.release)
    place = f"{__file__}:{sits_here.__code__.co_firstlineno + 1} in sits_here"
    assert f"a callback that a handler of email has left behind blocks the event loop at {place};" in line


async def test_a_line_of_a_library_is_told_with_the_one_that_led_there(caplog):
    """That of the callback itself."""
    event = threading.Event()
    line = await blocked_line(caplog, lambda: event.wait(30), event.set)
    assert re.search(rf"threading.py:\d+ in wait, called from {re.escape(__file__)}:\d+ in <lambda>;", line)


async def test_a_callback_without_a_line_of_python_says_so(caplog):
    """As time.sleep, or a method of a socket."""
    lock = threading.Lock()
    lock.acquire()
    line = await blocked_line(caplog, lock.acquire, lock.release)
    assert "at no line of Python: the event loop itself calls something that is built in, as after loop.call_soon(time.sleep, 5);" in line
