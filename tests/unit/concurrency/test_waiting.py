"""Waiting for an event, but not for ever."""

import asyncio

import pytest

from sickbay.concurrency.waiting import wait_for_event


async def test_it_says_whether_the_event_came():
    event = asyncio.Event()
    assert await wait_for_event(event, 0.001) is False
    event.set()
    assert await wait_for_event(event, 0) is True
    assert await wait_for_event(event, None) is True


async def test_a_cancellation_gets_through_even_when_the_event_comes_at_the_same_moment():
    event = asyncio.Event()
    waiting = asyncio.create_task(wait_for_event(event, 60))
    await asyncio.sleep(0)
    event.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
