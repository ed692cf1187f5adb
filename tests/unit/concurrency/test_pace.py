"""Bursts pass, floods are slowed down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.concurrency.pace import TokenBucket


def test_a_burst_passes_at_once_and_then_there_is_a_rate():
    clock = [100.0]
    pace = TokenBucket(3, 20, lambda: clock[0])
    assert [pace.wait_s() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert pace.wait_s() == pytest.approx(0.05)
    clock[0] += 0.05
    assert pace.wait_s() == pytest.approx(0.05)
    clock[0] += 10
    assert [pace.wait_s() for _ in range(3)] == [0.0, 0.0, 0.0], "rest is gathered, up to one burst"
    assert pace.wait_s() > 0


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=300))
def test_who_waits_as_told_never_has_more_than_the_burst_and_the_rate(pauses):
    clock = [0.0]
    pace = TokenBucket(5, 20, lambda: clock[0])
    for turns, pause in enumerate(pauses, 1):
        clock[0] += pause
        clock[0] += pace.wait_s()
        assert turns <= 5 + 20 * clock[0] + 1e-6


async def test_a_turn_waits():
    pace = TokenBucket(1, 1_000_000)
    for _ in range(10):
        await pace.acquire()
