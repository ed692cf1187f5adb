"""The id of the job for a time of a schedule, and how much later it runs."""

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.schedule import MAX_JITTER_MS, ScheduleKey, jitter_of, job_id_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
KEYS = st.builds(ScheduleKey, st.sampled_from(["default", "a", "ab"]) | TEXT, st.sampled_from(["b", "nightly", "nightly2"]) | TEXT)
TICKS = st.integers(0, 2**48 - 1)
REQUESTS = st.sampled_from(["", "a", "b"]) | TEXT
UUID_8 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
NAMES = st.text("ab1.-", min_size=1, max_size=5)
KEY = ScheduleKey("default", "nightly")


@given(KEYS, TICKS, REQUESTS)
def test_the_id_is_a_uuid_of_version_8_and_always_the_same(key, tick, request):
    """That is what makes it the only job of its time."""
    assert UUID_8.fullmatch(job_id_of(key, tick, request))
    assert job_id_of(key, tick, request) == job_id_of(ScheduleKey(*key), tick, request)


@given(st.lists(st.tuples(st.builds(ScheduleKey, NAMES, NAMES), TICKS, st.text("ab1", max_size=3)), unique=True))
def test_different_times_schedules_tenants_and_requests_have_different_ids(cases):
    """74 bits of a hash, beside the time itself."""
    assert len({job_id_of(*case) for case in cases}) == len(cases)


def test_names_that_look_alike_when_joined_have_different_ids():
    """The parts are separated."""
    cases = [("a", "bc", 1, ""), ("ab", "c", 1, ""), ("a", "b", 1, "c"), ("a", "b", 11, ""), ("a", "b", 1, "1"), ("a", "b1", 1, "")]
    assert len({job_id_of(ScheduleKey(tenant, name), tick, request) for tenant, name, tick, request in cases}) == len(cases)


def test_a_hundred_thousand_times_have_as_many_ids():
    """Of one schedule, and of many at one time."""
    assert len({job_id_of(KEY, tick) for tick in range(50_000)}) == 50_000
    assert len({job_id_of(ScheduleKey("default", f"s{index}"), 1_000) for index in range(50_000)}) == 50_000


@given(KEYS, st.tuples(TICKS, TICKS).filter(lambda both: both[0] != both[1]))
def test_ids_sort_by_time(key, ticks):
    """As those of other jobs do: indexes grow at one end."""
    early, late = sorted(ticks)
    assert job_id_of(key, early) < job_id_of(key, late)


@given(KEYS, TICKS, st.integers(-5, MAX_JITTER_MS))
def test_jitter_is_within_its_bounds_and_always_the_same(key, tick, jitter_ms):
    """From nothing to all of it."""
    found = jitter_of(key, tick, jitter_ms)
    assert 0 <= found <= max(jitter_ms, 0)
    assert found == jitter_of(ScheduleKey(*key), tick, jitter_ms)


def test_jitter_is_spread_evenly():
    """Over the times of one schedule, and over schedules at one time: each tenth of the span has a tenth of them (here within 10 %)."""
    of_times = [jitter_of(KEY, 60_000 * index, 59_999) for index in range(20_000)]
    of_schedules = [jitter_of(ScheduleKey("default", f"s{index}"), 60_000, 59_999) for index in range(20_000)]
    for found in (of_times, of_schedules):
        tenths = Counter(later // 6_000 for later in found)
        assert set(tenths) == set(range(10))
        assert all(1_800 <= count <= 2_200 for count in tenths.values())


def test_both_ends_of_a_jitter_are_met():
    """A jitter of 1 ms is 0 or 1."""
    assert {jitter_of(KEY, tick, 1) for tick in range(100)} == {0, 1}
    assert {jitter_of(KEY, tick, 0) for tick in range(100)} == {0}


def test_jitter_and_id_do_not_depend_on_each_other():
    """The hash of the jitter is another one: jobs that run early do not have the ids in front."""
    pairs = [(jitter_of(KEY, tick, 999), int(job_id_of(KEY, tick)[-12:], 16) % 1_000) for tick in range(5_000)]
    assert sum(jitter == rest for jitter, rest in pairs) < 25
