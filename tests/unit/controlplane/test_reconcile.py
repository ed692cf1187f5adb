"""The sweep, cut in the middle or beside another one."""

from dataclasses import replace

import pytest

from controlplane import reconcile as sweep_module
from controlplane.reconcile import QuarantineReconciler
from sickbay.domain.errors import Unavailable
from sickbay.domain.failure import Failure
from sickbay.domain.job import JobState, Reason
from sickbay.domain.run_rate import OVER_RATE
from sickbay.messages.codec import encode_event
from sickbay.ports import TO_QUARANTINE, Message, Queue
from tests.support.embedded_backends import ends_though_nudged, open_backends
from tests.support.quarantine_events import parked, set_aside, take


async def test_the_sweep_takes_ghosts_and_keeps_the_living():
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"p{n}") for n in range(5)))
        for n in (0, 3):
            await backends.quarantine.discard(f"p{n}", "", "me")
        swept = await QuarantineReconciler(backends.broker, backends.writer, backends.clock).run_round()
        assert swept.ghosts == 2
        assert await backends.broker.depth(Queue.QUARANTINE) == 3
        left = await take(backends, Queue.QUARANTINE, 3)
        assert {one.job_id for one in left} == {"p1", "p2", "p4"}
        assert {one.payload_json for one in left} == {b'{"n": 1}'}


async def test_the_sweep_takes_the_second_of_two_equal_copies():
    async with open_backends() as backends:
        await set_aside(backends, parked("a"), parked("a"))
        assert (await QuarantineReconciler(backends.broker, backends.writer, backends.clock).run_round()).ghosts == 1
        assert await backends.broker.depth(Queue.QUARANTINE) == 1


async def test_the_sweep_takes_an_older_copy_beside_the_one_that_counts():
    """Both are asked about in one batch."""
    async with open_backends() as backends:
        older = parked("a")
        later = replace(older, job=replace(older.job, attempt=older.job.attempt + 1), at=older.at + 1)
        await set_aside(backends, older, later, older)
        swept = await QuarantineReconciler(backends.broker, backends.writer, backends.clock).run_round()
        assert (swept.ghosts, swept.kept) == (2, 1)
        (left,) = await take(backends, Queue.QUARANTINE, 1)
        assert left.attempt == later.job.attempt


async def test_the_sweep_rebuilds_a_lost_ledger_from_the_copies():
    async with open_backends() as backends:
        event = parked("a")
        tired = replace(event, job=event.job.failed(Failure(1, 0, 0, "API_TIMEOUT", "slow")))
        await backends.broker.publish([Message("job.quarantined.parked", encode_event(tired)), Message(TO_QUARANTINE, b"\xff?")])
        swept = await QuarantineReconciler(backends.broker, backends.writer, backends.clock).run_round()
        assert (swept.adopted, swept.kept) == (2, 2)
        case = await backends.quarantine.get_quarantined("a")
        assert (case.record.job.payload_json, case.record.job.failures[-1].code) == (b'{"n": 1}', "API_TIMEOUT")


async def test_a_sweep_cut_after_its_republish_loses_nothing():
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"p{n}") for n in range(3)))
        await backends.quarantine.discard("p1", "", "me")
        backends.broker.fail("publish", after=True)
        sweep = QuarantineReconciler(backends.broker, backends.writer, backends.clock)
        with pytest.raises(Unavailable):
            await sweep.run_round()
        while await backends.broker.depth(Queue.QUARANTINE) > 2:
            await sweep.run_round()
        left = [one.job_id for one in await take(backends, Queue.QUARANTINE, 2)]
        assert sorted(left) == ["p0", "p2"]


async def test_a_sweep_that_is_nudged_while_it_is_cancelled_ends(monkeypatch):
    monkeypatch.setattr(sweep_module, "LINGER_S", 0)
    async with open_backends() as backends:
        sweep = QuarantineReconciler(backends.broker, backends.writer, backends.clock)
        assert await ends_though_nudged(sweep.run(), sweep._due, sweep.wake)


async def test_two_sweeps_at_once_destroy_no_last_copy(monkeypatch):
    """In the middle of one round another control plane moves every copy; the first does not take those for second copies."""
    monkeypatch.setattr(sweep_module, "BATCH", 1)
    monkeypatch.setattr(sweep_module, "PAUSE_S", 0)
    async with open_backends() as backends:
        await set_aside(backends, *(parked(name) for name in "abc"), parked("b"))
        for name in "xyz":
            await backends.broker.publish([Message(TO_QUARANTINE, encode_event(parked(name)))])
        await backends.writer.apply([replace(parked(name), state=JobState.DISCARDED) for name in "xyz"])
        ours, theirs = (QuarantineReconciler(backends.broker, backends.writer, backends.clock) for _ in range(2))
        keep, kept = ours._copies._move_to_tail, 0

        async def keep_and_be_overtaken(deliveries, swept):
            nonlocal kept
            await keep(deliveries, swept)
            kept += 1
            if kept == 2:
                backends.clock.now += 1
                await theirs.run_round(whole=True)

        monkeypatch.setattr(ours._copies, "_move_to_tail", keep_and_be_overtaken)
        assert (await ours.run_round(whole=True)).wrapped
        while await backends.broker.depth(Queue.QUARANTINE) > 3:
            await theirs.run_round()
        left = [one.job_id for one in await take(backends, Queue.QUARANTINE, 3)]
        assert sorted(left) == ["a", "b", "c"]


async def test_copies_that_never_reached_the_queue_are_made_from_the_ledger():
    """At the second look in a row, for they may only be late; complete, so that a lost ledger could be rebuilt from them."""
    async with open_backends() as backends:
        tired = parked("b", attempt=2)
        missing = replace(tired, job=tired.job.failed(Failure(1, 2, 0, "API_TIMEOUT", "slow")))
        await set_aside(backends, parked("a"))
        await backends.writer.apply([missing])
        backends.clock.now = missing.at + sweep_module.SETTLED_MS + 1
        sweep = QuarantineReconciler(backends.broker, backends.writer, backends.clock)
        assert not await sweep.look()
        assert await sweep.look()
        (copy,) = [one for one in await take(backends, Queue.QUARANTINE, 2) if one.job_id == "b"]
        assert copy == missing.job


async def test_a_sweep_goes_on_although_another_had_a_clock_ahead_of_ours():
    """Its marks are above our number once; before, we did nothing until our clock had got there."""
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"p{n}") for n in range(3)))
        ahead = QuarantineReconciler(backends.broker, backends.writer, lambda: backends.clock.now + 3_600_000)
        await ahead.run_round(whole=True)
        await backends.quarantine.discard("p1", "", "me")
        ours = QuarantineReconciler(backends.broker, backends.writer, backends.clock)
        assert [(await ours.run_round()).ghosts for _ in range(2)] == [0, 1]


async def test_what_stays_wrong_is_looked_at_ever_more_seldom():
    async with open_backends() as backends:
        sweep = QuarantineReconciler(backends.broker, backends.writer, backends.clock)
        pauses = []
        for sweep._mismatches in (1, 3, 5, 7, 99):
            pauses.append(sweep._recheck_s())
        assert [low <= pause <= 1.5 * low for low, pause in zip((4, 4, 16, 48, 48), pauses, strict=True)] == [True] * 5


async def test_jobs_that_wait_for_a_rate_have_no_copies_and_one_made_by_an_older_version_is_a_ghost():
    async with open_backends() as backends:
        limited = replace(parked("a"), reason=Reason.RATE_LIMITED, code=OVER_RATE)
        await backends.broker.publish([Message("job.waiting.parked", encode_event(limited))])
        await backends.writer.apply([limited])
        await set_aside(backends, parked("b"))
        reconciler = QuarantineReconciler(backends.broker, backends.writer, backends.clock)
        assert await reconciler.look()
        backends.clock.now += 60_000
        assert await reconciler.recreate_missing() == 0
        await backends.broker.publish([Message(TO_QUARANTINE, encode_event(limited))])
        assert await reconciler.look()
        assert [one.job_id for one in await take(backends, Queue.QUARANTINE, 1)] == ["b"]
        assert (await backends.reader.get("a")).state is JobState.PARKED
