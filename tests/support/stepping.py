"""Breaks a task off at its n-th suspension, or at the n-th of anything it sets going: for n = 1, 2, ... every await is met once."""

from __future__ import annotations

import asyncio
import collections.abc


class _Counted(collections.abc.Coroutine):
    """A coroutine that tells of each of its suspensions."""

    def __init__(self, inner, suspended):
        self._inner = inner
        self._suspended = suspended

    def send(self, value):
        waited_for = self._inner.send(value)
        self._suspended()
        return waited_for

    def throw(self, *error):
        waited_for = self._inner.throw(*error)
        self._suspended()
        return waited_for

    def close(self):
        self._inner.close()

    def __await__(self):
        return self


async def broken_off_at(number, work):
    """Run `work` in a task and cancel it at suspension `number`, of its own or of a task that has begun since.

    True if it was still under way then, so that a higher number has a meaning.
    """
    loop = asyncio.get_running_loop()
    passed = 0
    reached = False

    def suspended():
        nonlocal passed, reached
        passed += 1
        if passed == number and not task.done():
            reached = True
            task.cancel()

    before = loop.get_task_factory()
    loop.set_task_factory(lambda loop, coroutine, **options: asyncio.Task(_Counted(coroutine, suspended), loop=loop, **options))
    try:
        task = loop.create_task(work)
        await asyncio.wait({task}, timeout=10)
    finally:
        loop.set_task_factory(before)
    assert task.done(), "its caller is held up"
    if not task.cancelled():
        task.exception()
    return reached
