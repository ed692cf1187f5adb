"""Laws of token buckets, and that the script for Redis obeys them to the letter."""

from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.redis.rate_limiter import arguments, parse_reply
from sickbay.domain.rate_limit import MAX_COUNT, Bucket, Claim, Frequency, Level, Rate, full_in_us, take
from tests.support.lua_rate_limit import LuaBuckets

NOW = 1_700_000_000_000_000
COUNTS = st.integers(1, 10) | st.integers(1, MAX_COUNT)
RATES = st.builds(Rate, st.builds(Frequency, COUNTS, st.sampled_from([1_000, 60_000, 3_600_000])), COUNTS)
STEPS = st.integers(0, 3) | st.integers(0, 10**7) | st.integers(-(10**10), 10**11)
MOVES = st.lists(st.tuples(STEPS, st.integers(1, 20) | st.integers(1, MAX_COUNT)), min_size=1, max_size=30)


def grants_of(rate, moves):
    """What one bucket grants at which time."""
    levels, now, found = {}, NOW, []
    for step, wanted in moves:
        now += step
        levels, (grant,) = take(levels, [Claim((Bucket("b", rate),), wanted)], now)
        found.append((now, grant.granted))
    return found


@given(RATES, MOVES)
def test_never_more_than_rate_times_time_and_the_burst(rate, moves):
    """In every span of time, and a clock that goes back adds nothing."""
    steps = [max(0, step) for step, _ in moves]
    granted = [granted for _, granted in grants_of(rate, moves)]
    for begin in range(len(moves)):
        for end in range(begin, len(moves)):
            elapsed = sum(steps[begin + 1 : end + 1])
            assert sum(granted[begin : end + 1]) * rate.period_us <= elapsed * rate.frequency.count + rate.burst * rate.period_us


@given(RATES, st.integers(1, MAX_COUNT), st.integers(1, MAX_COUNT))
def test_what_is_refused_is_granted_after_the_wait_and_not_before(rate, first, second):
    """And once it was idle until `reset_us`, the bucket gives its burst again, exactly."""
    bucket = Bucket("b", rate)
    levels, _ = take({}, [Claim((bucket,), first)], NOW)
    levels, (grant,) = take(levels, [Claim((bucket,), second)], NOW)
    if grant.limited_by is None:
        return
    at = NOW + grant.wait_us
    assert take(levels, [Claim((bucket,), 1)], at - 1)[1][0].granted == 0
    assert take(levels, [Claim((bucket,), 1)], at)[1][0].granted == 1
    assert take(levels, [Claim((bucket,), rate.burst)], NOW + grant.reset_us)[1][0].granted == rate.burst
    assert grant.reset_us == full_in_us(levels["b"], rate.frequency)


@given(st.integers(1, 1_000), st.sampled_from([1_000, 60_000, 3_600_000]), st.integers(1, 60))
def test_who_asks_all_the_time_gets_the_rate(count, period_ms, seconds):
    """All that is paid back is granted: nothing is lost by rounding, however often one asks."""
    rate = Rate(Frequency(count, period_ms), count + 1)
    granted = sum(granted for _, granted in grants_of(rate, [(0, rate.burst), *[(1_000_000, MAX_COUNT)] * seconds]))
    assert granted == rate.burst + seconds * 1_000 * count // period_ms


BUCKETS = st.sampled_from("abc").flatmap(lambda name: st.builds(Bucket, st.just(name), RATES))


@st.composite
def calls(draw):
    """Calls with claims of up to three buckets, whose rates differ from call to call."""
    found, now = [], NOW
    for _ in range(draw(st.integers(1, 6))):
        now += draw(STEPS)
        rates = {bucket.name: bucket for bucket in draw(st.lists(BUCKETS, min_size=1, max_size=3))}
        chosen = st.lists(st.sampled_from(sorted(rates)), min_size=1, max_size=3, unique=True)
        claims = draw(st.lists(st.tuples(chosen, st.integers(1, MAX_COUNT)), min_size=1, max_size=4))
        found.append((now, [Claim(tuple(rates[name] for name in names), wanted) for names, wanted in claims]))
    return found


@given(calls())
def test_the_script_does_the_same(sequence):
    """The same grants, and the same levels kept."""
    ours, theirs = {}, LuaBuckets()
    for now, claims in sequence:
        ours, grants = take(ours, claims, now)
        assert parse_reply(claims, theirs.run(*arguments(claims, now))) == grants
        assert {name: Level(*numbers) for name, numbers in theirs.levels.items()} == {
            name: Level(level.debt, level.at, level.period_us) for name, level in ours.items()
        }


def test_redis_forgets_a_bucket_when_it_is_full():
    """Not before, so that no burst is given twice."""
    buckets = LuaBuckets()
    rate = Rate(Frequency(10, 1_000), 20)
    claims = [Claim((Bucket("b", rate),), 15)]
    keys, words = arguments(claims, None)
    buckets.run(keys, words)
    assert buckets.kept_ms == {"b": 1_501}
