"""Where a handler hangs is told through the tasks that it waits for, whatever it waits for them with."""

from __future__ import annotations

import asyncio
import contextlib

import anyio
import pytest
import uvloop

from sickbay.domain.failure import MAX_TRACEBACK_BYTES
from sickbay.handlers.suspended import awaited_by, frames_of
from sickbay.handlers.traceback_text import waiting_of
from tests.unit.worker.test_runner import run, running

WAIT_FOR = getattr(asyncio, "wait_for")  # noqa: B009 - handlers use what we do not


async def hangs():
    await asyncio.Event().wait()


async def also_hangs():
    await asyncio.get_running_loop().create_future()


async def ends():
    pass


async def a_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(ends())
        group.create_task(hangs())


async def a_group_whose_body_waits():
    async with asyncio.TaskGroup() as group:
        group.create_task(ends())
        await group.create_task(hangs())


async def gathered():
    await asyncio.gather(ends(), hangs(), return_exceptions=True)


async def waited():
    await asyncio.wait([asyncio.create_task(ends()), asyncio.create_task(hangs())])


async def waited_for():
    await WAIT_FOR(hangs(), 1_000)


async def within_a_timeout():
    async with asyncio.timeout(1_000):
        await hangs()


async def shielded():
    await asyncio.shield(hangs())


async def a_group_of_anyio():
    async with anyio.create_task_group() as group:
        group.start_soon(ends)
        group.start_soon(hangs)


async def one_in_the_other():
    async with asyncio.TaskGroup() as group:
        group.create_task(ends())
        group.create_task(WAIT_FOR(asyncio.shield(gathered()), 1_000))


WAYS = [
    a_group,
    a_group_whose_body_waits,
    gathered,
    waited,
    waited_for,
    within_a_timeout,
    shielded,
    a_group_of_anyio,
    one_in_the_other,
]


async def text_of(handler):
    """What is told once everything waits."""
    task = asyncio.create_task(handler())
    for _ in range(20):  # turns of the loop, more than any of these needs
        await asyncio.sleep(0)
    text = waiting_of(task, "Hung:")
    task.cancel()
    with contextlib.suppress(BaseException):
        await task
    assert len(text.encode()) <= MAX_TRACEBACK_BYTES
    return text


@pytest.mark.parametrize("handler", WAYS)
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_innermost_line_is_where_it_hangs(handler, loop):
    """From the handler inwards, in one row."""
    with asyncio.Runner(loop_factory=loop) as runner:
        text = runner.run(text_of(handler))
    assert text.index(f"in {handler.__name__}\n") < text.index("in hangs\n")
    assert text.splitlines()[-2].endswith("in Event.wait")


async def test_of_several_each_is_told():
    """With its number; of very many the first ones."""

    async def both():
        async with asyncio.TaskGroup() as group:
            group.create_task(hangs())
            group.create_task(also_hangs())

    text = await text_of(both)
    assert "  It waits for 2 tasks:\n" in text
    assert {"in hangs\n" in text, "in also_hangs\n" in text} == {True}

    async def very_many():
        await asyncio.gather(*(hangs() for _ in range(5_000)))

    text = await text_of(very_many)
    assert text.startswith("Hung:\n")
    assert text.count("in hangs\n") == 5
    assert text.endswith("\n  (995 more)")


async def test_groups_in_groups_are_told_to_a_depth():
    async def nest(depth):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(nest(depth - 1) if depth else hangs())

    text = await text_of(lambda: nest(6))
    assert text.startswith("Hung:\n")
    assert 4 < text.count("in test_groups") < 40


async def test_tasks_that_wait_for_one_another_come_to_an_end():
    """Nobody will ever wake them."""
    tasks = []

    async def waits(other):
        await asyncio.sleep(0)
        await asyncio.wait([tasks[other]])

    tasks += [asyncio.create_task(waits(1)), asyncio.create_task(waits(0))]
    for _ in range(5):
        await asyncio.sleep(0)
    text = waiting_of(tasks[0], "Hung:")
    assert text.count("in test_tasks_that_wait") >= 2
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_what_lies_about_its_tasks_is_not_followed():
    """A class of the user's that is made like a group."""

    class Liar:
        @property
        def _tasks(self):
            raise KeyboardInterrupt

        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            await asyncio.Event().wait()

    class Odd(Liar):
        _tasks = frozenset({1, "x"})

    for manager in (Odd, Liar):

        async def handler(manager=manager):
            async with manager():
                pass

        text = await text_of(handler)
        assert text.splitlines()[-2].endswith("in Event.wait")
    assert awaited_by(object(), []) == [] == list(frames_of(3))


async def test_a_timeout_in_a_group_shows_where_its_task_hung():
    """As a job's error tells it."""

    async def handler(job):
        async with asyncio.TaskGroup() as group:
            group.create_task(hangs())

    async with running() as runner:
        outcome = await run(runner, handler, timeout=0.05)
    assert outcome.code == "HANDLER_TIMEOUT"
    assert "in hangs\n" in outcome.traceback
