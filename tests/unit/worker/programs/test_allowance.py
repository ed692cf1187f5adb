"""How many messages a program may send."""

from hypothesis import given
from hypothesis import strategies as st

from worker.programs.allowance import BURST, BYTES, PER_S, Allowance


class Clock:
    def __init__(self):
        self.now = 5.0

    def __call__(self):
        return self.now


def test_a_burst_is_free_and_then_each_message_takes_its_time():
    clock = Clock()
    allowance = Allowance(clock)
    assert [allowance.take(1, 10) for _ in range(BURST)] == [0.0] * BURST
    assert allowance.take(1, 10) == 1 / PER_S
    clock.now += 1
    assert allowance.take(0, 10**6) == 0.0


def test_a_large_message_counts_as_many():
    allowance = Allowance(Clock())
    allowance.take(BURST, 0)
    assert allowance.take(1, 5 * BYTES) == 6 / PER_S


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2**20), st.floats(0, 2)), max_size=200))
def test_whoever_waits_as_told_is_never_faster_than_the_rate(messages):
    clock = Clock()
    allowance, began, sent = Allowance(clock), clock.now, 0
    for count, size, idle in messages:
        pause = allowance.take(count, size)
        assert 0 <= pause <= (60 + 2**20 // BYTES) / PER_S
        sent += count
        clock.now += pause + idle
        assert sent <= BURST + PER_S * (clock.now - began) + 1e-6 * len(messages)
