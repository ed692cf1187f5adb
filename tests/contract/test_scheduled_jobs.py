"""Jobs that are to run later (`ScheduledJobs`): what is due, leased by one; and changes by people, against a lease and each other."""

import asyncio
import json
from dataclasses import replace

import pytest

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.quarantine_store import LEASE_MS
from sickbay.domain.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.domain.queries import LostQuery, ScheduledJobEdit, ScheduledJobQuery
from tests.support.ledger_events import START, cancelled, parked, queued, running, scheduled, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

HOUR = 3_600_000
TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


async def soon(awaitable):
    async with asyncio.timeout(10):
        return await awaitable


REFUSED = (NotFound, FailedPrecondition, Aborted)


async def due(ledger, limit=10):
    return [lease.job.job_id for lease in await ledger.scheduled_jobs.lease_due(limit)]


async def sent(ledger) -> list[str]:
    """What is due, and on its way to the workers after that."""
    leases = await ledger.scheduled_jobs.lease_due(50)
    await ledger.quarantine.mark_released(leases)
    return [lease.job.job_id for lease in leases]


async def listed(ledger, limit=10, cursor="", **query):
    page = await ledger.scheduled_jobs.list_scheduled(ScheduledJobQuery(**query), limit, cursor)
    return [record.job.job_id for record in page.items]


async def state(ledger, job_id="j1"):
    return (await ledger.reader.get(job_id)).state


async def test_a_job_is_as_it_was_accepted(ledger):
    """Its time, payload, priority and trace, and of which schedule it is; lists have no payload."""
    event = scheduled(
        run_at=START + HOUR, schedule_id="nightly", tick_at=START + HOUR - 5, priority=Priority.LOW, tenant="acme", trace=TRACE
    )
    await ledger.writer.apply([event])
    found = await ledger.scheduled_jobs.get_scheduled("j1")
    assert found.record.job == event.job
    assert found.record.state is JobState.SCHEDULED
    assert [(change.state, change.at) for change in found.history] == [(JobState.SCHEDULED, START)]
    (item,) = (await ledger.scheduled_jobs.list_scheduled(ScheduledJobQuery(), 10, "")).items
    read = await ledger.reader.get("j1")
    assert item == replace(read, job=replace(read.job, payload_json=b"", trace=""))
    assert (read.job.run_at, read.job.schedule_id, read.job.tick_at) == (START + HOUR, "nightly", START + HOUR - 5)


async def test_the_next_one_is_known_and_the_longest_due_come_first(ledger, clock):
    jobs = ledger.scheduled_jobs
    assert await jobs.next_ms() is None
    assert await jobs.overdue() == (0, 0)
    await ledger.writer.apply([scheduled(name, run_at=START + ahead) for name, ahead in (("c", 30), ("a", 10), ("d", 40), ("b", 10))])
    assert (await jobs.next_ms(), await due(ledger), await jobs.overdue()) == (10, [], (4, 0))
    clock.now += 9
    assert (await jobs.next_ms(), await due(ledger)) == (1, [])
    clock.now += 21
    assert (await jobs.next_ms(), await jobs.overdue()) == (-20, (4, 20))
    assert await due(ledger, limit=2) == ["a", "b"]
    assert (await jobs.next_ms(), await due(ledger)) == (0, ["c"])
    assert (await jobs.next_ms(), await due(ledger)) == (10, [])


async def test_only_scheduled_jobs_are_due(ledger, clock):
    await ledger.writer.apply([queued("q"), parked("p"), succeeded("s"), running("r"), scheduled("later")])
    await ledger.writer.apply([cancelled("later")])
    clock.now += HOUR
    assert (await ledger.scheduled_jobs.next_ms(), await due(ledger), await listed(ledger)) == (None, [], [])


async def test_a_lease_has_the_next_copy_and_ends_when_that_is_durable(ledger, clock):
    event = scheduled(priority=Priority.HIGH, trace=TRACE, schedule_id="nightly", tick_at=START + 1)
    await ledger.writer.apply([event])
    clock.now += 1_000
    (lease,) = await ledger.scheduled_jobs.lease_due(5)
    assert lease.job == replace(event.job, generation=1)
    assert await state(ledger) is JobState.SCHEDULED, "until it is durable in a lane"
    (record,) = await ledger.quarantine.mark_released([lease])
    assert (record.state, record.job.generation, record.job.attempt, record.job.run_at) == (JobState.QUEUED, 1, 0, event.job.run_at)
    assert (record.job.schedule_id, record.job.tick_at) == ("nightly", START + 1)
    assert [change.state for change in await ledger.reader.history("j1")] == [JobState.SCHEDULED, JobState.QUEUED]
    assert (await ledger.scheduled_jobs.get_scheduled("j1"), await due(ledger)) == (None, [])
    (lost,) = (await ledger.lost.find_lost(LostQuery(START + HOUR, job_ids=("j1",)), 5, "")).items
    assert lost.has_payload, "in case its queue is lost"


async def test_a_job_that_began_before_its_lease_was_ended_stays_where_it_is(ledger, clock):
    """Its worker was faster than the ledger."""
    await ledger.writer.apply([scheduled()])
    clock.now += 1_000
    (lease,) = await ledger.scheduled_jobs.lease_due(5)
    await ledger.writer.apply([succeeded(generation=1)])
    (record,) = await ledger.quarantine.mark_released([lease])
    assert (record.state, record.job.generation, record.job.run_at) == (JobState.SUCCEEDED, 1, START + 1_000)
    assert await ledger.quarantine.lease_expired() == []


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
async def test_each_job_is_leased_once_by_those_who_ask_at_the_same_time(url, clock, together):
    async with open_ledger(url, clock) as ledger:
        await ledger.writer.apply([scheduled(f"j{number:03}", run_at=START + number) for number in range(100)])
        clock.now += 1_000
        takers = [ledger.scheduled_jobs.lease_due(10) for _ in range(15)]
        leased = await asyncio.gather(*takers) if together else [await one for one in takers]
        ids = [lease.job.job_id for batch in leased for lease in batch]
        assert len(ids) == len(set(ids))
        ids += [lease.job.job_id for lease in await ledger.scheduled_jobs.lease_due(100)]
        assert sorted(ids) == [f"j{number:03}" for number in range(100)]


@pytest.mark.servers
async def test_three_control_planes_share_what_is_due(postgres, clock):
    """None waits for the rows that another one is leasing."""
    async with open_ledger(postgres.url, clock) as one, open_ledger(postgres.url, clock) as two, open_ledger(postgres.url, clock) as three:
        await one.writer.apply([scheduled(f"j{number:03}", run_at=START + number) for number in range(90)])
        clock.now += 1_000
        leased = await asyncio.gather(*(ledger.scheduled_jobs.lease_due(20) for ledger in (one, two, three) for _ in range(3)))
        ids = [lease.job.job_id for batch in leased for lease in batch]
        assert len(ids) == len(set(ids))
        rest = await one.scheduled_jobs.lease_due(100)
        assert len(ids) + len(rest) == 90


@pytest.mark.parametrize("taker", ["dispatcher", "healer"])
async def test_a_lease_whose_holder_died_is_taken_over(ledger, clock, taker):
    """By a look at what is due, or as those of releases are; marked, because it may have been published."""
    event = scheduled(trace=TRACE)
    await ledger.writer.apply([event])
    clock.now += 1_000
    await ledger.scheduled_jobs.lease_due(5)
    assert (await ledger.quarantine.lease_expired(), await ledger.scheduled_jobs.next_ms()) == ([], None)
    clock.now += LEASE_MS + 1
    assert await ledger.scheduled_jobs.next_ms() < 0
    (again,) = await ledger.quarantine.lease_expired() if taker == "healer" else await ledger.scheduled_jobs.lease_due(5)
    assert again.job == replace(event.job, generation=1, maybe_duplicate=True)
    assert (await ledger.quarantine.lease_expired(), await due(ledger)) == ([], [])
    await ledger.quarantine.mark_released([again])
    assert await state(ledger) is JobState.QUEUED


async def test_a_job_is_leased_to_run_now(ledger, clock):
    await ledger.writer.apply([scheduled(run_at=START + 10_000)])
    lease = await ledger.scheduled_jobs.lease_scheduled("j1", "", "ann")
    assert (lease.job.generation, lease.job.payload_json, lease.actor) == (1, b'{"to":"a"}', "ann")
    clock.now += 10_000
    assert await due(ledger) == []
    (record,) = await ledger.quarantine.mark_released([lease])
    assert record.state is JobState.QUEUED
    assert (await ledger.reader.history("j1"))[-1].actor == "ann"


async def test_an_edit_changes_what_it_names(ledger, clock):
    await ledger.writer.apply([scheduled(run_at=START + HOUR)])
    jobs, before = ledger.scheduled_jobs, await ledger.reader.get("j1")
    clock.now += 100
    edited = await jobs.edit_scheduled("j1", ScheduledJobEdit(run_at=START + 5), "", "ann")
    assert (edited.job.run_at, edited.job.priority, edited.state) == (START + 5, Priority.NORMAL, JobState.SCHEDULED)
    assert await jobs.next_ms() == -95
    edited = await jobs.edit_scheduled("j1", ScheduledJobEdit(delay_ms=200, priority=Priority.HIGH), edited.etag, "ann")
    assert (edited.job.run_at, edited.job.priority) == (clock.now + 200, Priority.HIGH)
    edited = await jobs.edit_scheduled("j1", ScheduledJobEdit(payload_json=b'{"to": "b"}'), edited.etag, "bob")
    found = await jobs.get_scheduled("j1")
    assert (found.record.job.payload_json, found.record.etag) == (b'{"to": "b"}', edited.etag)
    (revision,) = found.revisions
    assert (revision.actor, revision.before, revision.after, revision.at) == ("bob", b'{"to":"a"}', b'{"to": "b"}', clock.now)
    assert edited.etag != before.etag
    clock.now += 200
    (lease,) = await jobs.lease_due(5)
    assert (lease.job.payload_json, lease.job.priority) == (b'{"to": "b"}', Priority.HIGH)


async def test_an_edit_survives_the_event_of_the_submission(ledger):
    """Which may be told again, by a control plane that died after it had written it."""
    await ledger.writer.apply([scheduled(run_at=START + HOUR)])
    edit = ScheduledJobEdit(run_at=START + 2 * HOUR, payload_json=b'{"n":2}', priority=Priority.LOW)
    edited = await ledger.scheduled_jobs.edit_scheduled("j1", edit, "", "ann")
    await ledger.writer.apply([scheduled(run_at=START + HOUR)])
    found = (await ledger.scheduled_jobs.get_scheduled("j1")).record
    assert (found.job, found.etag) == (replace(edited.job, payload_json=b'{"n":2}'), edited.etag)


async def test_watchers_are_told_another_time(ledger):
    await ledger.writer.apply([scheduled(run_at=START + HOUR)])
    async with ledger.reader.watch("j1") as changes:
        await ledger.scheduled_jobs.edit_scheduled("j1", ScheduledJobEdit(run_at=START + 5), "", "ann")
        record, change = await soon(anext(changes))
        assert (record.job.run_at, change) == (START + 5, None)
        await ledger.scheduled_jobs.cancel_scheduled("j1", "", "ann")
        record, change = await soon(anext(changes))
        assert (record.state, change.actor) == (JobState.CANCELLED, "ann")


async def test_a_job_is_cancelled_for_good(ledger, clock):
    """Again without an error; it is due no more, and its payload goes. A late event of its submission brings nothing back."""
    await ledger.writer.apply([scheduled()])
    etag = (await ledger.reader.get("j1")).etag
    for _ in range(2):
        record = await ledger.scheduled_jobs.cancel_scheduled("j1", etag, "ann")
        assert record.state is JobState.CANCELLED
    await ledger.writer.apply([scheduled()])
    clock.now += HOUR
    assert (await due(ledger), await ledger.scheduled_jobs.next_ms(), await state(ledger)) == ([], None, JobState.CANCELLED)
    assert [(change.state, change.actor) for change in await ledger.reader.history("j1")][1:] == [(JobState.CANCELLED, "ann")]
    (found,) = (await ledger.lost.find_lost(LostQuery(START, job_ids=("j1",)), 5, "")).items
    assert not found.has_payload


async def test_the_event_of_a_cancellation_cancels_it(ledger, clock):
    """As the Job API tells it; but not while the job is being sent to the workers."""
    await ledger.writer.apply([scheduled("a"), scheduled("b", run_at=START + HOUR)])
    clock.now += 1_000
    (lease,) = await ledger.scheduled_jobs.lease_due(5)
    await ledger.writer.apply([cancelled("a"), cancelled("b")])
    assert (await state(ledger, "a"), await state(ledger, "b")) == (JobState.SCHEDULED, JobState.CANCELLED)
    await ledger.quarantine.mark_released([lease])
    assert await state(ledger, "a") is JobState.QUEUED
    clock.now += HOUR
    assert await due(ledger) == []


async def test_a_cancellation_that_comes_before_the_submission_holds(ledger, clock):
    await ledger.writer.apply([cancelled()])
    await ledger.writer.apply([scheduled()])
    clock.now += HOUR
    assert (await state(ledger), await due(ledger), await listed(ledger)) == (JobState.CANCELLED, [], [])


CHANGES = {
    "edit": lambda jobs, etag, tenants: jobs.edit_scheduled("j1", ScheduledJobEdit(priority=Priority.HIGH), etag, "ann", tenants),
    "run": lambda jobs, etag, tenants: jobs.lease_scheduled("j1", etag, "ann", tenants),
    "cancel": lambda jobs, etag, tenants: jobs.cancel_scheduled("j1", etag, "ann", tenants),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_change_is_refused_with_the_reason(ledger, clock, what):
    def change(etag="", tenants=None):
        return CHANGES[what](ledger.scheduled_jobs, etag, tenants)

    with pytest.raises(NotFound, match="no job 'j1'"):
        await change()
    await ledger.writer.apply([scheduled(tenant="acme")])
    before = await ledger.reader.get("j1")
    with pytest.raises(NotFound, match="no job 'j1'"):
        await change(tenants=frozenset({"other"}))
    with pytest.raises(Aborted, match="has changed since"):
        await change("another")
    assert await ledger.reader.get("j1") == before
    clock.now += 1_000
    (lease,) = await ledger.scheduled_jobs.lease_due(5)
    with pytest.raises(FailedPrecondition, match="being sent to the workers right now"):
        await change(before.etag)
    await ledger.quarantine.mark_released([lease])
    with pytest.raises(NotFound, match="the job is QUEUED, not SCHEDULED"):
        await change()


@pytest.mark.parametrize("what", CHANGES)
async def test_a_change_by_its_etag_is_made_for_its_tenants(ledger, what):
    await ledger.writer.apply([scheduled(tenant="acme")])
    etag = (await ledger.reader.get("j1")).etag
    await CHANGES[what](ledger.scheduled_jobs, etag, frozenset({"acme", "other"}))


@pytest.mark.parametrize("one", CHANGES)
@pytest.mark.parametrize("other", [*CHANGES, "due"])
async def test_of_two_changes_at_once_each_sees_the_other_or_is_refused(ledger, clock, one, other):
    """Whatever is first: a job that was cancelled is never leased, one that was leased is neither edited nor cancelled."""
    jobs = ledger.scheduled_jobs
    names = [f"r{number:02}" for number in range(12)]
    await ledger.writer.apply([scheduled(name) for name in names])
    clock.now += 1_000

    def begin(what, name):
        if what == "due":
            return jobs.lease_due(1)
        if what == "edit":
            return jobs.edit_scheduled(name, ScheduledJobEdit(payload_json=b'{"edited":1}'), "", "ann")
        return jobs.lease_scheduled(name, "", "ann") if what == "run" else jobs.cancel_scheduled(name, "", "ann")

    calls = [begin(what, name) for name in names for what in (one, other)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert not [answer for answer in answers if isinstance(answer, BaseException) and not isinstance(answer, REFUSED)]
    leases = [lease for answer in answers if not isinstance(answer, BaseException) for lease in _leases(answer)]
    ids = [lease.job.job_id for lease in leases]
    assert len(ids) == len(set(ids))
    for lease in leases:
        assert await state(ledger, lease.job.job_id) is JobState.SCHEDULED
    await ledger.quarantine.mark_released(leases)
    for name in names:
        expected = JobState.QUEUED if name in ids else None
        found = await state(ledger, name)
        assert found is expected if expected else found in {JobState.SCHEDULED, JobState.CANCELLED}
    edited = {name for name, answer in zip((name for name in names for _ in range(2)), answers, strict=True)
              if not isinstance(answer, BaseException | list) and getattr(answer, "state", None) is JobState.SCHEDULED}  # fmt: skip
    for lease in leases:
        assert (b"edited" in lease.job.payload_json) == (lease.job.job_id in edited)


def _leases(answer):
    return answer if isinstance(answer, list) else [answer] if hasattr(answer, "actor") else []


async def test_they_are_listed_by_when_they_are_due(ledger):
    events = [scheduled(f"j{number}", run_at=START + 1_000 * (number * 7 % 10)) for number in range(10)]
    events += [scheduled("same", run_at=START + 7_000), scheduled("t", run_at=START + 50, tenant="acme")]
    events += [scheduled("n", run_at=START + 60, schedule_id="nightly", job_type="report"), queued("q")]
    await ledger.writer.apply(events)
    in_order = [event.job.job_id for event in sorted(events[:-1], key=lambda event: (event.job.run_at, event.job.job_id))]
    found, cursor = [], ""
    while True:
        page = await ledger.scheduled_jobs.list_scheduled(ScheduledJobQuery(), 4, cursor)
        found += [record.job.job_id for record in page.items]
        cursor = page.cursor
        if not cursor:
            break
    assert found == in_order
    assert await listed(ledger, tenants=frozenset({"acme"})) == ["t"]
    assert await listed(ledger, tenants=frozenset({"acme", "default"}), limit=3) == in_order[:3]
    assert await listed(ledger, tenants=frozenset()) == []
    assert await listed(ledger, schedule_id="nightly") == await listed(ledger, job_type="report") == ["n"]
    assert await listed(ledger, before=START + 60) == ["j0", "t"]
    for cursor in ("x", "1", f"{START}"):
        with pytest.raises(InvalidArgument):
            await listed(ledger, cursor=cursor)


@pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["back", "ahead"])
async def test_a_clock_that_is_set_moves_what_is_due_and_loses_nothing(ledger, clock, step):
    """Set back: later by the machine's clock, not by the time of day. Set ahead: at once. Never twice."""
    await ledger.writer.apply([scheduled("a"), scheduled("b", run_at=START + 2 * HOUR)])
    clock.now += step
    assert await ledger.scheduled_jobs.next_ms() == 1_000 - step
    assert await sent(ledger) == (["a"] if step > 0 else [])
    clock.now = START + 1_000
    assert await sent(ledger) == ([] if step > 0 else ["a"])
    clock.now = START + 2 * HOUR
    assert await sent(ledger) == ["b"]


async def test_a_lease_given_before_the_clock_was_set_back_is_over(ledger, clock):
    await ledger.writer.apply([scheduled()])
    clock.now += HOUR
    await ledger.scheduled_jobs.lease_due(5)
    clock.now -= HOUR
    (again,) = await ledger.quarantine.lease_expired()
    assert (again.job.job_id, again.job.maybe_duplicate) == ("j1", True)


async def test_a_payload_is_kept_byte_for_byte(ledger, clock):
    text = json.dumps({"text": "é" * 1000}, ensure_ascii=False).encode() + b"  "
    payload = b'{"a": 1.00,' + b" " * (1024 * 1024 - len(text) - 12) + text[1:]
    await ledger.writer.apply([scheduled(payload_json=payload)])
    assert (await ledger.scheduled_jobs.get_scheduled("j1")).record.job.payload_json == payload
    clock.now += 1_000
    (lease,) = await ledger.scheduled_jobs.lease_due(5)
    assert lease.job.payload_json == payload


async def test_scheduled_jobs_are_neither_lost_nor_forgotten_nor_in_quarantine(ledger, clock):
    await ledger.writer.apply([scheduled(run_at=START + 3_650 * 24 * HOUR)])
    clock.now += 400 * 24 * HOUR
    assert await ledger.writer.prune(clock.now) == 0
    assert await ledger.lost.oldest() == []
    assert (await ledger.lost.find_lost(LostQuery(clock.now), 5, "")).items == []
    assert await ledger.quarantine.get_quarantined("j1") is None
    assert (await ledger.writer.counts())[JobState.SCHEDULED] == 1
