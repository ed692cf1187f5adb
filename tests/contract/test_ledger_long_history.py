"""A job that is retried or released very often keeps the beginning of its history and the newest entries, whatever database it is."""

from dataclasses import replace

import pytest

from sickbay.adapters.sql.long_history import FIRST, NEWEST
from sickbay.domain.job import JobState
from tests.support.ledger_events import START, cancelled, parked, quarantined, queued, retrying, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

MANY = 300
RETRIES = [retrying(attempt=number, at=START + 1_000 * number) for number in range(1, MANY + 1)]
REMEMBERED = [*range(1, FIRST + 1), *range(MANY - NEWEST + 1, MANY + 1)]


async def attempts(ledger, job_id="j1"):
    return [change.attempt for change in await ledger.reader.history(job_id) if change.state is JobState.RETRYING]


@pytest.mark.parametrize("size", [1, 7, MANY])
async def test_the_middle_of_many_retries_is_left_out(ledger, size):
    """However they are batched; the row of the job is the newest as ever."""
    await ledger.writer.apply([queued(), queued("j2"), *(retrying("j2", attempt=number) for number in (1, 2))])
    for start in range(0, MANY, size):
        await ledger.writer.apply(RETRIES[start : start + size])
    assert await attempts(ledger) == REMEMBERED
    assert await attempts(ledger, "j2") == [1, 2]
    assert (await ledger.reader.get("j1")).job.attempt == MANY
    await ledger.writer.apply([succeeded(attempt=MANY, at=START + 10**6)])
    history = await ledger.reader.history("j1")
    assert (history[0].state, history[-1].state) == (JobState.QUEUED, JobState.SUCCEEDED)
    assert len(history) == 3 + 2 * (FIRST + NEWEST)


async def test_it_is_the_same_whichever_order_they_come_in(ledger):
    await ledger.writer.apply([queued(), *reversed(RETRIES)])
    assert await attempts(ledger) == REMEMBERED
    await ledger.writer.apply(RETRIES)
    assert await attempts(ledger) == REMEMBERED


async def test_what_people_did_and_how_it_ended_stays(ledger):
    """Of an outage with one probe a minute only what the healer did is left out."""
    ill = quarantined(generation=30, attempt=3, at=START + 31_000)
    mended = replace(queued(generation=31, at=START + 31_500), actor="ann")
    for generation in range(1, MANY):
        released = queued(generation=generation, at=START + 1_000 * generation)
        again = parked(generation=generation, at=START + 1_000 * generation + 500)
        await ledger.writer.apply([mended if generation == 31 else released, ill if generation == 30 else again])
    await ledger.writer.apply([cancelled(generation=MANY, at=START + 10**6)])
    history = await ledger.reader.history("j1")
    assert len(history) <= FIRST + NEWEST + 6
    assert ("ann", 31) in {(change.actor, change.generation) for change in history}
    assert {JobState.QUARANTINED, JobState.CANCELLED} < {change.state for change in history}
    assert [change.generation for change in history if change.state is JobState.PARKED][-1] == MANY - 1
