"""Refused calls: a flood of them neither fills the ledger nor is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.audit import AuditEntry
from sickbay.server.audit.refusals import BURST, MAX_SOURCES, PER_S, TOTAL_BURST, TOTAL_PER_S, RefusalLimit


def refusal(source="10.0.0.1", number=0):
    return AuditEntry(f"e{number}", 1, "ResetBreaker", "UNAUTHENTICATED", source=source, message="who are you")


def test_of_one_source_the_first_are_entries_and_the_others_are_counted():
    limit = RefusalLimit(0.0)
    admitted = sum(limit.admits(refusal(), 0.0) for _ in range(1_000))
    assert admitted == BURST
    (summary,) = limit.summaries()
    assert (summary.count, summary.source, summary.action) == (1_000 - BURST, "10.0.0.1", "ResetBreaker")
    assert summary.message == "980 more refused calls; the last one: who are you"
    assert limit.summaries() == []


def test_later_it_gets_entries_again_at_its_rate():
    limit = RefusalLimit(0.0)
    for _ in range(BURST + 5):
        limit.admits(refusal(), 0.0)
    assert not limit.admits(refusal(), 0.5 / PER_S)
    assert limit.admits(refusal(), 1.6 / PER_S)


def test_a_flood_of_one_source_takes_nothing_from_another():
    limit = RefusalLimit(0.0)
    for _ in range(10_000):
        limit.admits(refusal("10.0.0.1"), 0.0)
    assert limit.admits(refusal("10.0.0.2"), 0.0)


def test_the_addresses_of_one_ipv6_network_are_one_source():
    limit = RefusalLimit(0.0)
    assert sum(limit.admits(refusal(f"2001:db8::{number:x}"), 0.0) for number in range(1, 100)) == BURST


@given(st.lists(st.tuples(st.integers(0, 3 * MAX_SOURCES), st.integers(1, 60)), max_size=60))
def test_law_every_call_is_an_entry_or_counted_in_one_and_there_are_few_of_both(calls):
    limit, admitted, told, made = RefusalLimit(0.0), 0, [], 0
    for network, count in calls:
        for _ in range(count):
            made += 1
            admitted += limit.admits(refusal(f"10.{network // 250}.{network % 250}.1"), 0.0)
    told = limit.summaries()
    assert admitted + sum(one.count for one in told) == made
    assert admitted <= TOTAL_BURST
    assert len(told) <= TOTAL_BURST + 1


def test_more_sources_than_are_told_apart_are_counted_all_the_same():
    limit = RefusalLimit(0.0)
    sources = 3 * MAX_SOURCES
    admitted = sum(limit.admits(refusal(f"10.{n // 250}.{n % 250}.1"), 0.0) for n in range(sources))
    told = limit.summaries()
    assert admitted == TOTAL_BURST
    assert admitted + sum(one.count for one in told) == sources
    assert len(told) == TOTAL_BURST + 1
    assert told[-1].source == ""
    assert TOTAL_PER_S * 86_400 < 200_000, "entries of a day of floods"
