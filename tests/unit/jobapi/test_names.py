"""How many names clients may make up, and how fast."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.submission.names import PROBATION_S, UNUSED_S, NameLimits, Names

LIMITS = NameLimits(job_types=3, tenants=4, new_per_minute=2)


class Clock:
    """Seconds, moved by the test alone."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def started(clock, limits=LIMITS):
    """Names of a Job API that has been up for long: the room of the start is used up and filled again."""
    names = Names(limits, clock)
    names._room = float(limits.new_per_minute)
    return names


def test_after_a_start_all_names_in_use_are_taken_at_once(clock):
    names = Names(LIMITS, clock)
    for number in range(4):
        assert names.use("email", f"tenant-{number}") is None
    assert names.use("sms", "tenant-0") is None
    assert names.use("push", "tenant-0") is None
    assert (names.job_types, names.tenants) == (3, 4)


def test_known_names_go_on_whatever_others_do(clock):
    names = started(clock)
    assert names.use("email", "acme") is None
    for number in range(100):
        assert names.use("email", f"made-up-{number}") is not None
    assert names.use("email", "acme") is None
    assert names.refused == 100


def test_new_names_are_taken_as_time_passes(clock, caplog):
    """The advised wait is just as long as it must be."""
    names = started(clock)
    assert names.use("email", "acme") is None
    refusal = names.use("email", "other")
    assert "MAX_NEW_NAMES_PER_MINUTE" in str(refusal)
    assert refusal.retry_after == pytest.approx(30)
    clock.now += 29
    assert names.use("email", "other") is not None
    clock.now += 1.01
    assert names.use("email", "other") is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def establish(names, clock, *tenants):
    """Used, and used again a minute later."""
    for pause_s in (0, PROBATION_S):
        clock.now += pause_s
        assert [names.use("email", tenant) for tenant in tenants] == [None] * len(tenants)


def test_beyond_all_only_an_established_name_that_nobody_uses_makes_room(clock):
    names = Names(LIMITS, clock)
    establish(names, clock, *(f"tenant-{number}" for number in range(4)))
    began = clock.now
    clock.now = began + UNUSED_S - 1
    names.use("email", "tenant-0")
    refusal = names.use("email", "late")
    assert "too many tenants: 4 are already in use (MAX_TENANTS)" in str(refusal)
    assert refusal.retry_after == pytest.approx(1)
    clock.now = began + UNUSED_S
    assert names.use("email", "late") is None
    assert names.use("email", "tenant-0") is None
    assert names.use("email", "later") is None, "tenant-2 makes room, too"
    assert (names.job_types, names.tenants) == (1, 4)


def test_a_flood_right_after_a_start_keeps_others_out_for_a_minute(clock):
    """Its names came once. The advised wait is that of the oldest of them."""
    names = Names(LIMITS, clock)
    for number in range(4):
        names.use("email", f"made-up-{number}")
        clock.now += 1
    refusal = names.use("email", "real")
    assert "MAX_TENANTS" in str(refusal)
    assert refusal.retry_after == pytest.approx(PROBATION_S - 4)
    clock.now += refusal.retry_after
    assert names.use("email", "real") is None
    assert "MAX_TENANTS" in str(names.use("email", "another")), "the next one is a second younger"


def test_a_name_on_probation_that_is_in_use_is_kept(clock):
    """A busy newcomer cannot be driven out before it is established."""
    names = Names(NameLimits(job_types=1, tenants=2, new_per_minute=1_000), clock)
    for second in range(200):
        clock.now = float(second)
        assert names.use("email", "busy") is None
        names.use("email", f"made-up-{second}")
    clock.now += UNUSED_S - 1
    names.use("email", "another")
    assert names.use("email", "busy") is None


def test_a_name_whose_second_use_comes_soon_is_still_on_probation(clock):
    names = Names(LIMITS, clock)
    for number in range(4):
        names.use("email", f"made-up-{number}")
    clock.now = PROBATION_S / 2
    for number in range(4):
        names.use("email", f"made-up-{number}")
    assert names.use("email", "real").retry_after == pytest.approx(PROBATION_S)
    clock.now += PROBATION_S
    assert names.use("email", "real") is None


def test_a_refused_name_leaves_no_trace(clock):
    """Neither the type nor the tenant of a submission that is refused for the other."""
    names = Names(NameLimits(job_types=1, tenants=10, new_per_minute=10), clock)
    assert names.use("email", "acme") is None
    assert "MAX_JOB_TYPES" in str(names.use("sms", "other"))
    assert (names.job_types, names.tenants) == (1, 1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0, 2_000)), max_size=200))
def test_no_more_is_ever_known_than_the_bounds_say(uses):
    clock = Clock()
    names = Names(LIMITS, clock)
    taken = set()
    for job_type, tenant, pause in uses:
        clock.now += pause
        answer = names.use(f"type-{job_type}", f"tenant-{tenant}")
        if answer is None:
            taken.add((job_type, tenant))
            assert names.use(f"type-{job_type}", f"tenant-{tenant}") is None
        else:
            assert answer.retry_after >= 1
        assert names.job_types <= LIMITS.job_types
        assert names.tenants <= LIMITS.tenants


USES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0, 300)), max_size=300)


@given(USES)
def test_an_established_name_in_use_is_never_refused(uses):
    """It is used once an hour at least; others do whatever they like."""
    clock = Clock()
    names = Names(LIMITS, clock)
    establish(names, clock, "acme")
    used_at = clock.now
    for job_type, tenant, pause in uses:
        clock.now += pause
        if clock.now - used_at > UNUSED_S - 300:
            assert names.use("email", "acme") is None
            used_at = clock.now
        names.use(f"type-{job_type}", f"tenant-{tenant}")
    assert names.use("email", "acme") is None


@given(st.lists(st.floats(0, 120), min_size=4, max_size=20))
def test_names_that_came_once_keep_others_out_for_a_minute_at_most(pauses):
    """Counted from the last that was taken: then the table may be full of them, and a minute later it is not."""
    clock = Clock()
    names = Names(NameLimits(job_types=3, tenants=4, new_per_minute=1_000), clock)
    for number, pause in enumerate(pauses):
        clock.now += pause
        names.use("email", f"made-up-{number}")
    refusal = names.use("email", "real")
    if refusal is not None:
        assert refusal.retry_after <= PROBATION_S + 1e-6
        clock.now += refusal.retry_after + 1e-6
        assert names.use("email", "real") is None
