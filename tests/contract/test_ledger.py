"""What a ledger must do with events and questions, whatever database it is (`JobReader`, `LedgerWriter`)."""

from dataclasses import replace

import pytest

from sickbay.adapters.sql.chunks import MAX_VALUES
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.domain.priority import Priority
from sickbay.domain.queries import JobQuery, QuarantineQuery
from tests.support.ledger_events import DAY, START, TIMEOUT, cancelled, job, parked, quarantined, queued, retrying, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]


async def state(ledger, job_id="j1"):
    return (await ledger.reader.get(job_id)).state


async def test_an_unknown_job_is_none(ledger):
    assert await ledger.reader.get("nobody") is None
    assert list(await ledger.reader.history("nobody")) == []


async def test_a_record_says_what_the_event_said(ledger):
    await ledger.writer.apply([quarantined(tenant="acme")])
    record = await ledger.reader.get("j1")
    assert record.job == job(tenant="acme", attempt=3, failures=(TIMEOUT,))
    assert (record.state, record.updated_at, record.started_at) == (JobState.QUARANTINED, START + 400, START + 350)
    assert record.reason is Reason.RETRIES_EXHAUSTED
    assert record.etag
    assert record.fingerprint


async def test_the_tracebacks_of_failures_are_kept_and_older_rows_have_none(ledger):
    """As text of any kind, also after the job has left the quarantine; what an older worker told has none."""
    told = (TIMEOUT, replace(TIMEOUT, attempt=1, code="KEY_ERROR", traceback='File "h\u00e9.py", line 1\n  \u2028\U0001f600'))
    await ledger.writer.apply([quarantined(failures=told)])
    assert (await ledger.reader.get("j1")).job.failures == told
    assert (await ledger.quarantine.get_quarantined("j1")).record.job.failures == told
    await ledger.writer.apply([succeeded(generation=1, failures=told)])
    assert (await ledger.reader.get("j1")).job.failures == told


async def test_the_payload_is_kept_only_while_set_aside(ledger):
    """Byte for byte while it lies in quarantine, gone when it leaves."""
    odd = b'{"n": 9007199254740993,  "u":"\xc3\xa9"}'
    await ledger.writer.apply([queued(payload_json=odd)])
    assert (await ledger.reader.get("j1")).job.payload_json == b""
    await ledger.writer.apply([parked(payload_json=odd)])
    assert (await ledger.reader.get("j1")).job.payload_json == odd
    await ledger.writer.apply([succeeded(generation=1)])
    record = await ledger.reader.get("j1")
    assert (record.job.payload_json, record.reason, record.fingerprint) == (b"", None, "")


@pytest.mark.parametrize(
    ("first", "second", "final"),
    [
        (running(), queued(), JobState.RUNNING),
        (retrying(), running(), JobState.RETRYING),
        (parked(), running(), JobState.PARKED),
        (quarantined(attempt=0), parked(), JobState.QUARANTINED),
        (parked(), quarantined(attempt=0), JobState.PARKED),
        (queued(generation=1), quarantined(), JobState.QUEUED),
        (parked(generation=1), succeeded(), JobState.PARKED),
        (succeeded(), quarantined(), JobState.SUCCEEDED),
        (quarantined(), succeeded(), JobState.SUCCEEDED),
        (cancelled(), succeeded(), JobState.SUCCEEDED),
        (succeeded(), cancelled(attempt=2), JobState.SUCCEEDED),
        (succeeded(), queued(generation=1), JobState.QUEUED),
        (cancelled(), retrying(), JobState.CANCELLED),
        (retrying(), cancelled(), JobState.CANCELLED),
        (cancelled(), parked(attempt=3), JobState.CANCELLED),
        (cancelled(), replace(cancelled(attempt=2), state=JobState.DISCARDED), JobState.CANCELLED),
        (cancelled(), queued(generation=1), JobState.QUEUED),
    ],
    ids=lambda event: f"{event.state}{event.job.generation}{event.job.attempt}" if isinstance(event, JobEvent) else event.value,
)
@pytest.mark.parametrize("together", [True, False], ids=["one-batch", "two-batches"])
async def test_the_later_truth_stays(ledger, first, second, final, together):
    """The greater order wins, equal changes nothing, and a success is sticky in its generation; folded or not."""
    if together:
        await ledger.writer.apply([first, second])
    else:
        await ledger.writer.apply([first])
        await ledger.writer.apply([second])
    assert await state(ledger) is final


async def test_an_event_that_changes_nothing_changes_nothing_at_all(ledger):
    await ledger.writer.apply([quarantined()])
    before = await ledger.reader.get("j1")
    await ledger.writer.apply([replace(quarantined(), at=START + 9_000, message="other"), parked(at=START + 9_000)])
    assert await ledger.reader.get("j1") == before


@pytest.mark.parametrize("together", [True, False])
async def test_what_one_event_does_not_say_another_may(ledger, together):
    bare = succeeded(submitted_at=0, job_type="", tenant="")
    events = [queued(tenant="acme", priority=Priority.HIGH), bare]
    for batch in [events] if together else [[event] for event in events]:
        await ledger.writer.apply(batch)
    record = await ledger.reader.get("j1")
    assert (record.job.job_type, record.job.tenant, record.job.submitted_at, record.state) == ("email", "acme", START, JobState.SUCCEEDED)
    assert record.job.priority is Priority.HIGH


@pytest.mark.parametrize("batches", [[0, 1, 2, 1, 0], [2, 2, 1, 0, 0], [1, 0, 2]])
@pytest.mark.parametrize("together", [True, False])
async def test_each_second_run_counts_once(ledger, batches, together):
    """Three runs of one generation succeeded: two too many, however often and in whichever order that is told."""
    runs = [succeeded(run="w.1"), succeeded(run="w.2"), succeeded(run="w.3", attempt=1)]
    told = [runs[number] for number in batches]
    for batch in [told] if together else [[event] for event in told]:
        await ledger.writer.apply(batch)
    assert (await ledger.reader.get("j1")).duplicates == 2
    assert await ledger.writer.duplicates() == 2


async def test_a_success_without_a_run_is_no_duplicate(ledger):
    for run in ("", "w.1", ""):
        await ledger.writer.apply([succeeded(run=run)])
    assert await ledger.writer.duplicates() == 0


async def test_a_dropped_copy_is_counted_once_and_changes_nothing_else(ledger):
    await ledger.writer.apply([succeeded()])
    before = await ledger.reader.get("j1")
    dropped = replace(queued(generation=7), duplicate=True, run="w.77")
    await ledger.writer.apply([dropped, dropped])
    await ledger.writer.apply([dropped, replace(dropped, run="", at=START + 8)])
    assert await ledger.reader.get("j1") == replace(before, duplicates=2)


async def test_a_dropped_copy_of_an_unknown_job_makes_no_job(ledger):
    await ledger.writer.apply([replace(queued(), duplicate=True)])
    assert await ledger.reader.get("j1") is None
    assert await ledger.writer.duplicates() == 0


async def test_history_tells_the_whole_way(ledger):
    """What the quiet path did not write down is told from the row."""
    await ledger.writer.apply([queued(), retrying(), quarantined(), queued(generation=1, at=START + 450)])
    await ledger.writer.apply([succeeded(generation=1)])
    told = [(change.at - START, change.state, change.generation, change.attempt) for change in await ledger.reader.history("j1")]
    assert told == [
        (0, JobState.QUEUED, 0, 0),
        (150, JobState.RUNNING, 0, 0),
        (200, JobState.RETRYING, 0, 1),
        (350, JobState.RUNNING, 0, 3),
        (400, JobState.QUARANTINED, 0, 3),
        (450, JobState.QUEUED, 1, 0),
        (450, JobState.RUNNING, 1, 0),
        (500, JobState.SUCCEEDED, 1, 0),
    ]


async def test_histories_are_those_of_each_job(ledger):
    """Also of more jobs than one statement takes."""
    await ledger.writer.apply([queued(), retrying(), quarantined(), cancelled("j2")])
    await ledger.writer.apply([succeeded(f"k{number}") for number in range(MAX_VALUES + 1)])
    asked = ["j1", "j2", "nobody", *(f"k{number}" for number in range(MAX_VALUES + 1))]
    found = await ledger.reader.histories(asked)
    assert found.keys() == {*asked} - {"nobody"}
    for job_id in ("j1", "j2", "k0", f"k{MAX_VALUES}"):
        assert found[job_id] == await ledger.reader.history(job_id)
    assert await ledger.reader.histories([]) == {}


async def test_history_keeps_code_message_and_actor_and_no_replays(ledger):
    for _ in range(2):
        await ledger.writer.apply([quarantined(), cancelled("j2")])
    line = (await ledger.reader.history("j1"))[-1]
    assert (line.code, line.message) == ("API_TIMEOUT", TIMEOUT.message)
    assert [change.actor for change in await ledger.reader.history("j2")] == ["", "ann"]


async def test_history_names_the_worker_of_each_run(ledger):
    await ledger.writer.apply([queued(), replace(retrying(), actor="w"), succeeded(attempt=1, run="x.y.7")])
    told = [(change.state, change.actor) for change in await ledger.reader.history("j1")]
    assert told == [
        (JobState.QUEUED, ""),
        (JobState.RUNNING, "w"),
        (JobState.RETRYING, "w"),
        (JobState.RUNNING, "x.y"),
        (JobState.SUCCEEDED, "x.y"),
    ]


async def test_a_job_that_came_back_is_nobodys(ledger):
    """The worker of its last run has nothing to do with it any more."""
    await ledger.writer.apply([queued(), running(), queued(generation=1, at=START + 450)])
    assert (await ledger.reader.history("j1"))[-1].actor == ""


async def test_texts_that_no_database_takes_are_stored_nevertheless(ledger):
    """One odd message must not stop the keeper."""
    await ledger.writer.apply([quarantined(message="nul \0 and half a pair \ud800")])
    assert (await ledger.quarantine.groups("", None, 10, "")).items[0].sample_message == "nul  and half a pair ?"


async def test_find_lists_newest_first_and_pages(ledger):
    await ledger.writer.apply([queued(f"j{number}", submitted_at=START + number // 2) for number in range(7)])
    seen, cursor = [], ""
    while True:
        page = await ledger.reader.find(JobQuery(), 3, cursor)
        seen += [record.job.job_id for record in page.items]
        cursor = page.cursor
        if not cursor:
            break
    assert seen == ["j6", "j5", "j4", "j3", "j2", "j1", "j0"]


async def test_a_full_last_page_is_the_last(ledger):
    await ledger.writer.apply([quarantined("a"), quarantined("b")])
    assert (await ledger.reader.find(JobQuery(), 2, "")).cursor == ""
    assert (await ledger.quarantine.list_quarantined(QuarantineQuery(), 2, "")).cursor == ""
    assert (await ledger.quarantine.groups("", None, 1, "")).cursor == ""


async def test_find_filters(ledger):
    await ledger.writer.apply([queued("a"), queued("b", job_type="sms"), queued("c", tenant="acme"), succeeded("d"), parked("e")])

    async def found(query):
        return {record.job.job_id for record in (await ledger.reader.find(query, 10, "")).items}

    assert await found(JobQuery(job_type="sms")) == {"b"}
    assert await found(JobQuery(tenants=frozenset({"acme"}))) == {"c"}
    assert await found(JobQuery(states=frozenset({JobState.SUCCEEDED, JobState.PARKED}))) == {"d", "e"}
    assert await found(JobQuery(job_type="sms", tenants=frozenset({"acme"}))) == set()
    await ledger.writer.apply([queued("f", priority=Priority.HIGH), parked("g", priority=Priority.LOW)])
    assert await found(JobQuery(priority=Priority.HIGH)) == {"f"}
    assert await found(JobQuery(priority=Priority.NORMAL, job_type="email")) == {"a", "c", "d", "e"}
    assert await found(JobQuery(priority=Priority.LOW, states=frozenset({JobState.QUEUED}))) == set()
    assert all(record.job.payload_json == b"" for record in (await ledger.reader.find(JobQuery(), 10, "")).items)


@pytest.mark.parametrize("cursor", ["x", "5", ":j1", "-1:j1", "99999999999999999999:j1", "1.5:j1"])
async def test_a_cursor_of_another_kind_is_refused(ledger, cursor):
    with pytest.raises(InvalidArgument) as caught:
        await ledger.reader.find(JobQuery(), 3, cursor)
    assert caught.value.reason is ErrorReason.INVALID_PAGE_TOKEN


async def test_live_knows_copies_from_ghosts(ledger):
    await ledger.writer.apply([parked("here"), quarantined("later"), queued("gone", generation=1), queued("behind"), succeeded("done")])
    asked = [job("here"), job("later"), job("gone"), job("behind"), job("done"), job("nobody")]
    live = await ledger.writer.check_copies(asked)
    assert live == {"here": True, "later": False, "gone": False, "behind": None, "done": False, "nobody": None}


async def test_live_gives_up_no_copy_while_another_of_the_job_is_alive(ledger):
    await ledger.writer.apply([parked(generation=1)])
    assert await ledger.writer.check_copies([job(generation=0), job(generation=1)]) == {"j1": True}
    assert await ledger.writer.check_copies([job(generation=1), job(generation=0)]) == {"j1": True}


async def test_counts_names_every_state(ledger):
    await ledger.writer.apply([queued("a"), queued("b"), parked("c")])
    assert await ledger.writer.counts() == dict.fromkeys(JobState, 0) | {JobState.QUEUED: 2, JobState.PARKED: 1}


async def test_prune_forgets_what_is_past_its_retention(ledger):
    old = [succeeded("done"), cancelled("off"), parked("aside"), quarantined("ill"), queued("waits"), retrying("again"), parked("thrown")]
    await ledger.writer.apply([*old, succeeded("done", run="w.5"), succeeded("fresh", at=START + DAY)])
    await ledger.quarantine.discard("thrown", "", "ann")
    assert await ledger.writer.prune(START + 600 + DAY) == 1
    assert await ledger.writer.prune(START + 600 + DAY) == 0
    assert await ledger.reader.get("done") is None
    assert await ledger.writer.duplicates() == 0
    assert await ledger.writer.prune(START + 600 + 30 * DAY) == 3
    assert await ledger.reader.get("off") is None
    left = {record.job.job_id for record in (await ledger.reader.find(JobQuery(), 10, "")).items}
    assert left == {"aside", "ill", "waits", "again"}


async def test_prune_of_more_than_one_bite(ledger):
    await ledger.writer.apply([succeeded(f"j{number}") for number in range(1_100)])
    assert await ledger.writer.prune(START + 2 * DAY) == 1_100


async def test_an_empty_batch_is_fine(ledger):
    await ledger.writer.apply([])


async def test_what_is_set_aside_can_be_told_again_in_pages(ledger):
    """Whole, as the events that set the jobs aside; what left, and what came too late, is not among them."""
    told = [parked("a"), quarantined("b"), parked("c"), parked("d", at=START + 1_000), quarantined("e")]
    await ledger.writer.apply(told)
    await ledger.writer.apply([succeeded("c", generation=1)])
    first = await ledger.writer.list_set_aside("", 2, START + 900)
    rest = await ledger.writer.list_set_aside("b", 2, START + 900)
    assert [event.job.job_id for event in (*first, *rest)] == ["a", "b", "e"]
    whole = [(event.job, event.state, event.at, event.reason, event.code, event.message) for event in (*first, *rest)]
    assert whole == [(event.job, event.state, event.at, event.reason, event.code, event.message) for event in (told[0], told[1], told[4])]


async def test_one_process_at_a_time_sweeps(ledger, url, clock):
    """Only PostgreSQL is shared by processes; who was told False may have it when the first is done."""
    async with ledger.writer.sweep_lock() as first:
        assert first
        if url.startswith("postgresql"):
            async with open_ledger(url, clock) as other, other.writer.sweep_lock() as second:
                assert not second
    async with ledger.writer.sweep_lock() as again:
        assert again
