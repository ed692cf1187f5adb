"""How many jobs come to a breaker that refuses them, from looks at how many are parked."""

from __future__ import annotations

from controlplane.arrivals import Arrivals
from sickbay.domain.breaker import BreakerKey

KEY = BreakerKey("email")


def seen(looks):
    arrivals = Arrivals()
    for now, parked in looks:
        arrivals.observe(KEY, parked, now)
    return arrivals


def test_one_look_or_a_short_time_says_nothing():
    assert seen([]).rate(KEY) == 0
    assert seen([(0, 500)]).rate(KEY) == 0
    assert seen([(0, 500), (900, 600)]).rate(KEY) == 0


def test_it_is_the_growth_since_the_first_look():
    assert seen([(0, 500), (2_000, 620)]).rate(KEY) == 60_000


def test_it_is_about_the_last_seconds():
    """A load that has fallen counts as what it is now."""
    looks = [(second * 1_000, 100 * min(second, 20) + 10 * max(0, second - 20)) for second in range(40)]
    assert seen(looks).rate(KEY) == 10_000


def test_jobs_that_leave_are_no_arrivals_and_a_clock_set_back_begins_anew():
    assert seen([(0, 500), (2_000, 400)]).rate(KEY) == 0
    assert seen([(10_000, 500), (12_000, 620), (5_000, 10), (7_000, 30)]).rate(KEY) == 10_000


def test_breakers_without_parked_jobs_are_forgotten():
    arrivals = seen([(0, 0), (1_000, 60)])
    arrivals.retain({KEY})
    assert arrivals.rate(KEY) == 60_000
    arrivals.retain(set())
    assert arrivals.rate(KEY) == 0
