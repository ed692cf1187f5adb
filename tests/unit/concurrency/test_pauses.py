"""Pauses grow up to their bound and are spread by chance."""

from hypothesis import given
from hypothesis import strategies as st

from sickbay.concurrency.pauses import Backoff, backoff_delay, jitter

positive = st.floats(0.001, 1e6)


@given(first=positive, longest=positive, times=st.integers(0, 10**9))
def test_pauses_grow_and_are_bounded(first, longest, times):
    """However often something fails, no pause is shorter than the one before it, or longer than the longest."""
    assert backoff_delay(first, longest, times) <= backoff_delay(first, longest, times + 1) <= longest
    assert backoff_delay(first, longest, 0) == min(first, longest)


def test_a_success_lets_the_pauses_begin_anew():
    pauses = Backoff(1.0, 5.0, jitter=lambda: 1.1)
    assert [round(pauses.next_s(), 1) for _ in range(5)] == [1.1, 2.2, 4.4, 5.5, 5.5]
    pauses.reset()
    assert pauses.next_s() == 1.1


def test_pauses_are_spread():
    drawn = {jitter() for _ in range(100)}
    assert len(drawn) > 90
    assert 0.8 <= min(drawn) <= max(drawn) <= 1.2
