"""Tenants in metrics: the number of labels is bounded, no counter goes backwards, and a flood of names does not displace who is in use."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.telemetry.metrics import OTHER
from sickbay.telemetry.tenants import IDLE_S, MAX_CANDIDATES, PROVEN_S, TenantTable, largest


class Count:
    """What is counted for a label."""

    def __init__(self):
        self.jobs = 0


class Clock:
    """Seconds."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


class Counted:
    """A table that counts jobs."""

    def __init__(self, limit):
        self.clock = Clock()
        self.table = TenantTable(limit, Count, self.clock)

    def job(self, tenant, times=1):
        for _ in range(times):
            self.table.of(tenant).jobs += 1

    @property
    def seen(self):
        return {label: count.jobs for label, count in self.table.values()}


def test_the_first_tenants_have_labels_at_once_and_the_others_share_one():
    counted = Counted(2)
    for tenant in ("a", "b", "c", "d", "a"):
        counted.job(tenant)
    assert counted.seen == {"a": 2, "b": 1, OTHER: 2}


def test_without_tenants_there_is_no_series_of_others():
    counted = Counted(2)
    assert counted.seen == {}
    counted.job("default")
    assert counted.seen == {"default": 1}


def test_a_tenant_that_is_called_other_is_one_of_them():
    counted = Counted(2)
    counted.job(OTHER)
    assert counted.seen == {OTHER: 1}
    assert len(counted.table._holders) == 0


def test_one_hundred_thousand_invented_tenants_take_no_label_of_one_that_is_in_use_and_are_all_counted():
    counted = Counted(20)
    labels = set()
    for number in range(100_000):
        counted.clock.now += 0.05
        counted.job(f"random-{number}")
        if number % 100 == 99:
            counted.job("real")
            labels |= set(counted.seen)
    assert len(counted.seen) == 21
    assert len(labels) == 22, "20 were first, then one of them made room for the real one, and nobody else did"
    assert "real" in counted.seen
    assert len(counted.table._candidates) <= MAX_CANDIDATES


def test_who_was_in_use_keeps_its_label_for_an_hour():
    counted = Counted(1)
    counted.job("a")
    counted.clock.now += PROVEN_S
    counted.job("a")
    counted.job("b")
    counted.clock.now += IDLE_S - 1
    counted.job("b")
    assert counted.seen == {"a": 2, OTHER: 2}
    counted.clock.now += 1
    counted.job("b")
    assert counted.seen == {"b": 1, OTHER: 2}, "what was counted as other stays there"


def test_who_came_once_keeps_its_label_for_a_minute():
    counted = Counted(1)
    counted.job("once")
    counted.job("b")
    counted.clock.now += PROVEN_S - 1
    counted.job("b")
    assert "once" in counted.seen
    counted.clock.now += 1
    counted.job("b")
    assert counted.seen == {"b": 1, OTHER: 2}


def test_without_labels_all_are_others():
    counted = Counted(0)
    counted.job("a", 3)
    counted.clock.now += 2 * IDLE_S
    counted.job("a")
    assert counted.seen == {OTHER: 4}


@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from([*"abcdefgh", OTHER]), st.sampled_from([0.0, 1.0, PROVEN_S, IDLE_S])), max_size=60),
)
def test_no_counter_goes_backwards_and_no_job_is_missed_or_counted_twice(limit, jobs):
    """Whoever adds up increases, taking a smaller number for a new beginning as Prometheus does, counts every job once."""
    counted = Counted(limit)
    increases, before = Counter(), {}
    for tenant, wait in jobs:
        counted.clock.now += wait
        counted.job(tenant)
        now = counted.seen
        assert len(now) <= limit + 1
        for label, value in now.items():
            rose = value - before.get(label, 0)
            assert rose >= 0 or label not in before, f"{label} went backwards"
            increases[label] += rose
        before = now
    assert increases.total() == len(jobs)


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({}, {}),
        ({"a": 1, "b": 3}, {"b": 3, "a": 1}),
        ({"a": 1, "b": 3, "c": 2, "d": 2}, {"b": 3, "c": 2, OTHER: 3}),
        ({"a": 1, OTHER: 9}, {"a": 1, OTHER: 9}),
    ],
)
def test_the_largest_are_shown_and_the_rest_is_added_up(counts, shown):
    assert largest(counts, 2) == shown
