"""Laws of rates of runs, and that the script for Redis obeys them to the letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.redis.run_rates import arguments
from sickbay.domain.rate_limit import MAX_COUNT, Frequency, Rate
from sickbay.domain.run_rate import FORMED_US, HELD_US, VALID_US, Line, RunGrant, charge, default_burst, release, run
from tests.support.lua_run_rate import LuaRunRate

NOW = 1_700_000_000_000_000
TEN = Rate(Frequency(10, 1_000), 5)
COUNTS = st.integers(1, 10) | st.integers(1, MAX_COUNT)
RATES = st.builds(Rate, st.builds(Frequency, COUNTS, st.sampled_from([1_000, 60_000, 3_600_000])), COUNTS)
STEPS = st.integers(0, 3) | st.integers(0, 10**6) | st.integers(-(10**8), 10**10)
ASKS = st.one_of(
    st.tuples(st.just("run"), st.just(0)),
    st.tuples(st.just("run"), st.integers(NOW - 2 * VALID_US, NOW + 2 * VALID_US)),
    st.tuples(st.sampled_from(["hold", "end"]), st.integers(0, 20) | st.integers(0, MAX_COUNT)),
    st.tuples(st.just("charge"), st.integers(1, 20)),
)


def ask(line, rate, now, operation, number):
    if operation == "run":
        return run(line, rate, now, number)
    if operation == "charge":
        return charge(line, rate, now, number)
    return release(line, rate, now, number, waiting=operation == "hold")


@given(RATES, st.lists(st.tuples(STEPS, ASKS), max_size=30))
def test_the_script_grants_the_same(rate, moves):
    lua, line, now = LuaRunRate(), Line(), NOW
    for step, (operation, number) in moves:
        now += step
        line, grant = ask(line, rate, now, operation, number)
        assert lua.run(arguments(rate, operation, number, now)) == grant


@given(RATES, st.lists(st.tuples(st.integers(0, 10**8), st.booleans(), st.integers(1, 50)), min_size=1, max_size=40))
def test_workers_and_control_plane_together_never_exceed_rate_and_burst(rate, moves):
    """In every span of time, whoever asks."""
    line, now, taken = Line(), NOW, []
    for step, is_fresh, wanted in moves:
        now += step
        line, grant = run(line, rate, now) if is_fresh else release(line, rate, now, wanted, waiting=True)
        taken.append((now, grant.granted))
    for begin, (start, _) in enumerate(taken):
        for end in range(begin, len(taken)):
            runs = sum(granted for _, granted in taken[begin : end + 1])
            assert runs * rate.period_us <= (taken[end][0] - start) * rate.frequency.count + rate.burst * rate.period_us


@given(RATES, st.lists(st.tuples(st.integers(0, HELD_US - 1), st.booleans()), max_size=30))
def test_nobody_overtakes_the_line(rate, moves):
    line, now = release(Line(), rate, NOW, 0, waiting=True)[0], NOW
    for step, is_fresh in moves:
        now += step
        if is_fresh:
            assert run(line, rate, now) == (line, RunGrant(0, line.until - now, now))
            now = min(now, line.until - 1)
        line, _ = release(line, rate, now, 1, waiting=True)


@given(RATES, st.integers(1, 40), st.integers(0, 10**7))
def test_who_waits_as_told_is_served(rate, wanted, step):
    line, _ = release(Line(), rate, NOW, MAX_COUNT, waiting=True)
    line, grant = release(line, rate, NOW + step, wanted, waiting=True)
    assert release(line, rate, NOW + step + grant.wait_us, 1, waiting=True)[1].granted == 1


def test_a_line_that_nobody_renews_ends():
    """As after the death of all control planes: new jobs run at the rate again."""
    line, _ = release(Line(), TEN, NOW, 5, waiting=True)
    line, grant = run(line, TEN, NOW + HELD_US)
    assert grant.granted == 1
    line, grant = release(line, TEN, NOW + HELD_US, 4, waiting=False)
    line, refused = run(line, TEN, NOW + HELD_US)
    assert (grant.granted, refused.granted) == (4, 0)
    assert run(line, TEN, NOW + HELD_US + FORMED_US - 1)[1].granted == 0, "it stands behind the job just refused"
    assert run(line, TEN, NOW + HELD_US + FORMED_US)[1].granted == 1


def test_a_payment_is_good_for_ten_seconds():
    """Then the job pays anew, but does not go back to the end of the line if there is one to have."""
    line, _ = release(Line(), TEN, NOW, 5, waiting=True)
    assert run(line, TEN, NOW + VALID_US, paid_at=NOW) == (line, RunGrant(1, 0, NOW + VALID_US))
    _, late = run(release(line, TEN, NOW + VALID_US, 5, waiting=True)[0], TEN, NOW + VALID_US + 1, paid_at=NOW)
    assert late.granted == 0
    _, late = run(release(line, TEN, NOW + VALID_US, 4, waiting=True)[0], TEN, NOW + VALID_US + 1, paid_at=NOW)
    assert late.granted == 1


def test_what_runs_in_any_case_takes_what_there_is():
    line, grant = charge(Line(), TEN, NOW, 7)
    assert grant.granted == 7
    assert release(line, TEN, NOW + 100_000, 5, waiting=True)[1].granted == 1


@pytest.mark.parametrize(("count", "period_ms", "burst"), [(10, 1_000, 5), (1, 1_000, 1), (600, 60_000, 5), (1_000, 3_600_000, 1)])
def test_the_burst_is_half_a_second(count, period_ms, burst):
    assert default_burst(Frequency(count, period_ms)) == burst
