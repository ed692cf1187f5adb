"""Entries of the audit log on their way to the ledger: beside events, with a ledger that fails, and what cannot be stored."""

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from controlplane import ledger_ingest
from controlplane.audit_ingest import DAY_MS, PRUNE_EVERY_S, PRUNE_RETRY_S, AuditRetention
from controlplane.ledger_ingest import LedgerIngester
from sickbay.domain.audit import AuditEntry, AuditQuery
from sickbay.domain.errors import Unstorable
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.domain.queries import QuarantineQuery
from sickbay.messages.audit import audit_message
from sickbay.messages.codec import encode_events
from sickbay.ports import Message, Queue
from tests.support.clock import START
from tests.support.embedded_backends import open_backends
from tests.support.quarantine_events import job

BEGUN = AuditEntry("a", START, "ResetBreaker")
ENDED = replace(BEGUN, result="OK", ended_at=START + 1)
LAST = Message("job.events", encode_events([JobEvent(job("last"), JobState.QUEUED, 5)]))


@asynccontextmanager
async def ingesting(backends):
    """At work; what it gives waits until an event that was published last is durable."""
    done = asyncio.Queue()
    ingester = LedgerIngester(backends.broker, backends.writer, backends.clock, done.put_nowait, audit=backends.audit)
    running = asyncio.create_task(ingester.run())

    async def caught_up():
        await backends.broker.publish([LAST])
        while all(event.job.job_id != "last" for event in await done.get()):
            pass

    yield caught_up
    await ingester.stop()
    await running


async def entries(backends):
    return list((await backends.audit.find_entries(AuditQuery(), 1_000, "")).items)


async def test_entries_and_events_in_one_queue_both_arrive():
    async with open_backends() as backends:
        await backends.broker.publish([audit_message([BEGUN]), LAST, audit_message([ENDED])])
        async with ingesting(backends) as caught_up:
            await caught_up()
        assert await entries(backends) == [ENDED]
        assert await backends.broker.depth(Queue.LEDGER) == 0


async def test_entries_wait_in_their_queue_while_the_ledger_is_away_and_none_is_lost(monkeypatch, caplog):
    """For as long as a minute of attempts takes; the waits themselves are left out."""
    monkeypatch.setattr(ledger_ingest, "MAX_WRITE_RETRY_S", 0.0)
    async with open_backends() as backends:
        backends.audit.fail("record", 300)
        many = [replace(ENDED, entry_id=f"e{number:03}") for number in range(250)]
        await backends.broker.publish([audit_message(many[begin : begin + 50]) for begin in range(0, 250, 50)])
        async with ingesting(backends) as caught_up:
            await caught_up()
        assert {one.entry_id for one in await entries(backends)} == {one.entry_id for one in many}
    assert "the ledger lags behind" in caplog.text


async def test_it_stops_although_the_ledger_is_away_and_gives_the_entries_back(caplog):
    async with open_backends() as backends:
        backends.audit.fail("record", 1_000_000)
        await backends.broker.publish([audit_message([ENDED])])
        async with ingesting(backends):
            while "lags behind" not in caplog.text:
                await asyncio.sleep(0)
        assert await backends.broker.depth(Queue.LEDGER) == 1


async def test_entries_come_again_after_it_was_cut_between_ledger_and_ack():
    async with open_backends() as backends:
        await backends.broker.publish([audit_message([ENDED])])
        backends.audit.fail("record", 1, after=True)
        ingester = LedgerIngester(backends.broker, backends.writer, backends.clock, lambda _: None, audit=backends.audit)
        first = asyncio.create_task(ingester.run())
        while not await entries(backends):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert await backends.broker.depth(Queue.LEDGER) == 1
        async with ingesting(backends) as caught_up:
            await caught_up()
        assert await entries(backends) == [ENDED]


async def test_an_entry_that_the_ledger_rejects_is_kept_in_quarantine_and_holds_up_no_other():
    async with open_backends() as backends:
        record = backends.audit.record

        async def refusing(several):
            if any(one.entry_id == "bad" for one in several):
                raise Unstorable("it cannot store that")
            await record(several)

        backends.audit.record = refusing
        await backends.broker.publish([audit_message([ENDED]), audit_message([replace(ENDED, entry_id="bad")])])
        async with ingesting(backends) as caught_up:
            await caught_up()
        assert await entries(backends) == [ENDED]
        kept = await backends.quarantine.list_quarantined(QuarantineQuery(reason=Reason.UNDECODABLE), 10, "")
        assert len(kept.items) == 1


async def test_entries_that_cannot_be_read_are_kept_in_quarantine():
    async with open_backends() as backends:
        await backends.broker.publish([Message("job.audit", b'{"audit":[{"from":"a newer version"}]}')])
        async with ingesting(backends) as caught_up:
            await caught_up()
        kept = await backends.quarantine.list_quarantined(QuarantineQuery(reason=Reason.UNDECODABLE), 10, "")
        assert "audit log" in kept.items[0].job.failures[0].message


async def test_old_entries_are_deleted_once_an_hour_and_later_while_the_ledger_is_away(caplog):
    caplog.set_level(logging.INFO)
    async with open_backends() as backends:
        await backends.audit.record([replace(ENDED, at=START - 3 * DAY_MS), replace(ENDED, entry_id="b")])
        retention = AuditRetention(backends.audit, backends.clock, 2)
        backends.audit.fail("prune", 2)
        waits = [await retention.prune() for _ in range(3)]
        assert [one.entry_id for one in await entries(backends)] == ["b"]
    assert waits[0] < 2 * PRUNE_RETRY_S
    assert waits[1] > waits[0] * 1.2
    assert waits[2] == pytest.approx(PRUNE_EVERY_S, rel=0.3)
    assert "1 entries of the audit log were deleted" in caplog.text


async def test_without_retention_nothing_is_deleted():
    async with open_backends() as backends:
        await backends.audit.record([replace(ENDED, at=1)])
        await AuditRetention(backends.audit, backends.clock, 0).run()
        assert len(await entries(backends)) == 1
