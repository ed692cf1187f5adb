"""The audit log in the ledger (`AuditStore`): entries are added, get their result once, and leave when they are old."""

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from sickbay.adapters.sql.chunks import MAX_VALUES
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.audit import AuditEntry, AuditQuery, merged
from sickbay.domain.errors import ErrorReason, InvalidArgument, Unavailable
from tests.support.clock import START

pytest_plugins = ["tests.support.ledger_fixtures"]

DAY_MS = 86_400_000


@pytest.fixture
def store(ledger):
    return ledger.audit


def entry(entry_id="a", at=START, **fields):
    return AuditEntry(entry_id, at, **({"action": "ResetBreaker"} | fields))


async def listed(store, limit=100, **query):
    return list((await store.find_entries(AuditQuery(**query), limit, "")).items)


async def ids(store, **query):
    return [one.entry_id for one in await listed(store, **query)]


async def test_what_is_stored_is_read_again_in_all_its_fields(store):
    whole = AuditEntry(
        *("a", START, "ResetBreaker", "OK", START + 5, "ann", "key", "k_1", "ceo", "why", "breaker", "email", "acme", "10.0.0.1", "rest"),
        *("NONE", "all well", "OPEN", "CLOSED", "seconds=5", 3),
    )
    await store.record([whole])
    assert await listed(store) == [whole]


@pytest.mark.parametrize("together", [True, False])
async def test_the_result_is_kept_in_whatever_order_and_however_often_it_arrives(store, together):
    begun = entry(claimed_actor="ceo")
    ended = replace(begun, result="OK", ended_at=START + 1, after="CLOSED")
    late = replace(begun, result="INTERNAL", ended_at=START + 9)
    messages = [begun, ended, begun, late, ended, begun]
    for several in [messages] if together else [[one] for one in messages]:
        await store.record(several)
    assert await listed(store) == [ended]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["STARTED", "OK", "NOT_FOUND"])), max_size=12))
def test_law_of_merging_an_entry_with_a_result_never_changes(arrivals):
    known: dict[str, AuditEntry] = {}
    for entry_id, result in arrivals:
        before = known.get(entry_id)
        known[entry_id] = merged(before, entry(entry_id, result=result))
        assert before is None or not before.is_final or known[entry_id] is before
    for entry_id, kept in known.items():
        assert kept.is_final == any(result != "STARTED" for one, result in arrivals if one == entry_id)


async def test_several_writers_that_record_the_same_do_not_hinder_each_other(url, clock):
    async with open_ledger(url, clock) as ledger:
        entries = [entry(f"e{number}") for number in range(40)]
        ended = [replace(one, result="OK") for one in entries]

        async def write(seed):
            shuffled = entries + ended
            random.Random(seed).shuffle(shuffled)
            for begin in range(0, len(shuffled), 20):
                await ledger.audit.record(shuffled[begin : begin + 20])

        await asyncio.gather(*map(write, range(5)))
        found = await listed(ledger.audit)
    assert (len(found), {one.result for one in found}) == (40, {"OK"})


async def test_the_database_itself_refuses_to_change_an_entry_that_has_a_result(ledger):
    await ledger.audit.record([entry("done", result="OK"), entry("begun")])
    with pytest.raises((Unavailable, DBAPIError, InvalidArgument)):
        async with ledger.store.write() as connection:
            await connection.execute(text("UPDATE audit_entries SET principal = 'nobody' WHERE entry_id = 'done'"))
    async with ledger.store.write() as connection:
        await connection.execute(text("UPDATE audit_entries SET result = 'OK' WHERE entry_id = 'begun'"))
    assert {one.principal for one in await listed(ledger.audit)} == {""}


async def test_filters(store):
    await store.record(
        [
            entry("1", START + 1, principal="ann", tenant="acme", target="email", result="OK"),
            entry("2", START + 2, principal="bob", action="CancelJob", tenant="other", target="j1", result="PERMISSION_DENIED"),
            entry("3", START + 3, principal="", action="GET /docs", result="UNAUTHENTICATED"),
            entry("4", START + 4, principal="ann"),
        ]
    )
    assert await ids(store) == ["4", "3", "2", "1"]
    assert await ids(store, oldest_first=True) == ["1", "2", "3", "4"]
    assert await ids(store, principal="ann") == ["4", "1"]
    assert await ids(store, action="CancelJob") == ["2"]
    assert await ids(store, target="email") == ["1"]
    assert await ids(store, tenant="acme") == ["1"]
    assert await ids(store, result="STARTED") == ["4"]
    assert await ids(store, refused=True) == ["3", "2"]
    assert await ids(store, since=START + 2, until=START + 4) == ["3", "2"]


async def test_with_some_tenants_only_their_entries_are_seen(store):
    await store.record([entry("mine", tenant="acme"), entry("theirs", tenant="other"), entry("of-none")])
    assert await ids(store, visible=frozenset({"acme"})) == ["mine"]
    assert await ids(store, visible=frozenset({"acme"}), tenant="other") == []
    assert await ids(store, visible=frozenset({""})) == []
    assert await ids(store, visible=frozenset()) == []
    assert len(await ids(store, visible=None)) == 3


@pytest.mark.parametrize("oldest_first", [True, False])
async def test_pages_have_every_entry_once_also_those_of_one_moment(store, oldest_first):
    await store.record([entry(f"{number:02}", START + number // 7) for number in range(30)])
    query, seen, cursor = AuditQuery(oldest_first=oldest_first), [], ""
    while True:
        page = await store.find_entries(query, 4, cursor)
        seen += [one.entry_id for one in page.items]
        if not (cursor := page.cursor):
            break
    assert seen == sorted(seen, reverse=not oldest_first)
    assert len(set(seen)) == 30


async def test_a_cursor_of_another_list_is_an_error(store):
    with pytest.raises(InvalidArgument) as caught:
        await store.find_entries(AuditQuery(), 4, "nonsense")
    assert caught.value.reason is ErrorReason.INVALID_PAGE_TOKEN


async def test_what_is_too_old_is_deleted_in_slices(ledger):
    old = [entry(f"old{number}", START - 31 * DAY_MS) for number in range(MAX_VALUES + 3)]
    await ledger.audit.record([*old, entry("young", START - 29 * DAY_MS), entry("begun", START - 40 * DAY_MS, result="OK")])
    deletions = []
    event.listen(
        ledger.store._writer.sync_engine,
        "before_cursor_execute",
        lambda *told: deletions.append(told[2]) if told[2].startswith("DELETE") else None,
    )
    assert await ledger.audit.prune(START, 30 * DAY_MS) == MAX_VALUES + 4
    assert len(deletions) == 2
    assert await ids(ledger.audit) == ["young"]
    assert await ledger.audit.prune(START, 30 * DAY_MS) == 0


async def test_texts_are_cut_and_cleaned_before_they_are_stored(store):
    await store.record([entry("odd", principal="nul\0and \ud800", note="x" * 10_000, request="\u2028", count=-5)])
    (found,) = await listed(store)
    assert (found.principal, len(found.note), found.request, found.count) == ("nuland ?", 500, "\u2028", 1)
