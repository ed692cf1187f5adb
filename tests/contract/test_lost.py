"""Jobs that the ledger knows and nobody has heard of for long (`Lost`): found, claimed as a release claims, or closed."""

from dataclasses import replace

import pytest

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.job import JobState
from sickbay.domain.queries import JobEdit, LostQuery, OldestJob
from tests.support.ledger_events import START, job, parked, queued, retrying, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]


def bare(event):
    """As it comes when its payload is too large for the ledger, or from a program that tells none."""
    return replace(event, job=replace(event.job, payload_json=b""))


async def unheard(ledger, before=START + 10_000, limit=10, cursor="", **query):
    return await ledger.lost.find_lost(LostQuery(before, **query), limit, cursor)


async def records(ledger, *ids):
    return [one.record for one in (await unheard(ledger, job_ids=ids)).items]


@pytest.mark.parametrize("event", [bare(running()), bare(retrying())], ids=["running", "retrying"])
@pytest.mark.parametrize("order", ["accepted first", "accepted last", "together", "together, accepted last"])
async def test_the_payload_of_an_accepted_job_stays_until_it_has_ended(ledger, event, order):
    """In whatever order the news come; nobody is shown it; the end forgets it."""
    news = [queued(), event] if order.endswith("first") or order == "together" else [event, queued()]
    if order.startswith("together"):
        await ledger.writer.apply(news)
    else:
        for one in news:
            await ledger.writer.apply([one])
    (found,) = (await unheard(ledger)).items
    assert found.has_payload
    assert found.record.job.payload_json == b""
    assert (await ledger.reader.get("j1")).job.payload_json == b""
    (claim,) = await ledger.lost.lease_lost([found.record], "ann")
    assert claim.job.payload_json == queued().job.payload_json
    await ledger.writer.apply([bare(succeeded(generation=1))])
    (ended,) = (await unheard(ledger, job_ids=("j1",))).items
    assert not ended.has_payload


async def test_a_job_that_was_released_keeps_its_payload(ledger):
    await ledger.writer.apply([parked()])
    claim = await ledger.quarantine.lease_job("j1", JobEdit(b'{"to":"b"}'), "", "ann")
    await ledger.quarantine.mark_released([claim])
    (found,) = (await unheard(ledger)).items
    assert (found.has_payload, found.record.state) == (True, JobState.QUEUED)
    (again,) = await ledger.lost.lease_lost([found.record], "ann")
    assert (again.job.payload_json, again.job.generation) == (b'{"to":"b"}', 2)


async def test_unfinished_jobs_are_found_in_pages_longest_unheard_of_first(ledger):
    told = [queued("a", at=START + 3), running("b", at=START + 1), retrying("c", at=START + 2), parked("d"), succeeded("e")]
    await ledger.writer.apply([*told, queued("late", at=START + 20_000)])
    first = await unheard(ledger, limit=2)
    assert [one.record.job.job_id for one in first.items] == ["b", "c"]
    rest = await unheard(ledger, limit=2, cursor=first.cursor)
    assert ([one.record.job.job_id for one in rest.items], rest.cursor) == (["a"], "")
    named = await unheard(ledger, job_ids=("d", "late", "unknown"))
    assert {one.record.job.job_id for one in named.items} == {"d", "late"}
    assert [one.record.job.job_id for one in (await unheard(ledger, job_type="sms")).items] == []


async def test_the_oldest_of_each_state_and_type_is_told(ledger):
    told = [queued("a", at=START + 5), queued("b", at=START + 3), queued("c", job_type="sms"), running("d"), parked("e"), succeeded("f")]
    await ledger.writer.apply(told)
    assert set(await ledger.lost.oldest()) == {
        OldestJob(JobState.QUEUED, "email", START + 3),
        OldestJob(JobState.QUEUED, "sms", START),
        OldestJob(JobState.RUNNING, "email", START + 100),
    }


async def test_a_claim_moves_to_the_next_generation_and_calls_the_old_one_off(ledger):
    await ledger.writer.apply([queued(), bare(retrying())])
    (claim,) = await ledger.lost.lease_lost(await records(ledger, "j1"), "ann")
    assert (claim.job.generation, claim.job.attempt, claim.job.maybe_duplicate, claim.actor) == (1, 1, True, "ann")
    assert ledger.duplicate_guard.is_cancelled(job(attempt=1))
    assert not ledger.duplicate_guard.is_cancelled(claim.job)
    (record,) = await ledger.quarantine.mark_released([claim])
    assert (record.state, record.job.generation, record.job.attempt) == (JobState.QUEUED, 1, 1)
    assert (await ledger.reader.history("j1"))[-1].actor == "ann"


async def test_what_has_changed_since_it_was_read_is_not_claimed(ledger):
    await ledger.writer.apply([queued("ran"), queued("claimed"), bare(queued("bare")), queued("still")])
    seen = await records(ledger, "ran", "claimed", "bare", "still")
    await ledger.writer.apply([bare(running("ran"))])
    await ledger.lost.lease_lost([one for one in seen if one.job.job_id == "claimed"], "bob")
    assert [claim.job.job_id for claim in await ledger.lost.lease_lost(seen, "ann")] == ["still"]


async def test_an_unfinished_claim_is_finished_by_another(ledger, clock):
    """Its holder was killed before or after it published."""
    await ledger.writer.apply([queued()])
    await ledger.lost.lease_lost(await records(ledger, "j1"), "ann")
    assert await ledger.quarantine.lease_expired() == []
    clock.now += 31_000
    (claim,) = await ledger.quarantine.lease_expired()
    assert (claim.job.generation, claim.job.payload_json, claim.job.maybe_duplicate) == (1, queued().job.payload_json, True)
    (record,) = await ledger.quarantine.mark_released([claim])
    assert record.state is JobState.QUEUED


async def test_a_process_that_starts_later_knows_what_was_called_off(url, clock):
    if url == "sqlite://":
        pytest.skip("it lives only as long as one process")
    async with open_ledger(url, clock) as ledger:
        await ledger.writer.apply([queued("done"), queued("under way")])
        claims = await ledger.lost.lease_lost(await records(ledger, "done", "under way"), "ann")
        await ledger.quarantine.mark_released([one for one in claims if one.job.job_id == "done"])
    async with open_ledger(url, clock) as ledger:
        assert ledger.duplicate_guard.is_cancelled(job("done"))
        assert ledger.duplicate_guard.is_cancelled(job("under way"))
        assert not ledger.duplicate_guard.is_cancelled(job("done", generation=1))


async def test_a_job_without_payload_can_be_closed(ledger):
    await ledger.writer.apply([bare(queued()), queued("whole")])
    seen = await records(ledger, "j1", "whole")
    (closed,) = await ledger.lost.discard_lost(seen, "ann", "no queue held it")
    assert (closed.job.job_id, closed.state) == ("j1", JobState.DISCARDED)
    last = (await ledger.reader.history("j1"))[-1]
    assert (last.state, last.code, last.message, last.actor) == (JobState.DISCARDED, "LOST", "no queue held it", "ann")
    assert ledger.duplicate_guard.is_cancelled(job())
    assert await ledger.lost.discard_lost(seen, "ann", "again") == []
