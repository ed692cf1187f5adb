"""One event that the ledger refuses, or one message that nobody can read, holds up no other and ends nobody who reads them."""

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import ledger_ingest as keeper_module
from controlplane.isolation import apply_events, foreign_event
from controlplane.ledger_ingest import LedgerIngester
from controlplane.reconcile import QuarantineReconciler
from sickbay.domain.errors import Unavailable, Unstorable
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.messages.codec import encode_event, encode_events
from sickbay.ports import TO_QUARANTINE, Message, Queue
from tests.support.clock import START
from tests.support.embedded_backends import open_backends
from tests.support.garbage import BODIES
from tests.support.quarantine_events import job, parked, set_aside


class Picky:
    """A ledger's writer that refuses the jobs named, as a database does: the whole batch."""

    def __init__(self, refused, inner=None, error=None):
        self.refused = set(refused)
        self.inner = inner
        self.error = error or Unstorable("no")
        self.has = []

    async def apply(self, events):
        if any(event.job.job_id in self.refused for event in events):
            raise self.error
        if self.inner is not None:
            await self.inner.apply(events)
        self.has += events

    def __getattr__(self, name):
        return getattr(self.inner, name)


def queued(job_id):
    return JobEvent(job(job_id), JobState.QUEUED, START)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_of_a_batch_all_but_the_refused_are_kept_and_those_stand_in_quarantine(refusals):
    """Whichever they are and however many; each keeps its place in the answer and its bytes in the quarantine."""
    events = [queued(f"j{number}") for number in range(len(refusals))]
    ledger = Picky(f"j{number}" for number, refused in enumerate(refusals) if refused)
    told = asyncio.run(apply_events(ledger, events, START))
    assert len(told) == len(events)
    for event, now_is, refused in zip(events, told, refusals, strict=True):
        if refused:
            assert (now_is.state, now_is.reason, now_is.job.job_type) == (JobState.QUARANTINED, Reason.UNDECODABLE, "undecodable")
            assert base64.b64decode(now_is.job.payload["contentBase64"]) == encode_event(event)
            assert event.job.job_id in now_is.job.failures[-1].message
        else:
            assert now_is is event
    assert {id(event) for event in ledger.has} == {id(event) for event in told}


async def test_a_fault_that_is_not_of_one_event_gives_none_up():
    """A ledger that takes nothing at all is out of order, whatever it raises: what it was told is told again."""
    ledger = Picky(["a", "b"])
    ledger.apply = Flat(RuntimeError("out of order"))
    with pytest.raises(RuntimeError):
        await apply_events(ledger, [queued("a"), queued("b")], START)
    ledger.apply = Flat(Unavailable("away"))
    with pytest.raises(Unavailable):
        await apply_events(ledger, [queued("a")], START)


class Flat:
    """A method that only raises."""

    def __init__(self, error):
        self.error = error

    async def __call__(self, *_):
        raise self.error


@pytest.mark.parametrize("error", [Unstorable("no"), RuntimeError("a fault")])
async def test_the_keeper_goes_on_after_an_event_the_ledger_refuses(error, monkeypatch):
    """Its neighbours in the batch and all that comes later reach the ledger; a fault is given some time to pass."""
    monkeypatch.setattr(keeper_module, "MAX_WRITE_RETRY_S", 0.0)
    monkeypatch.setattr(keeper_module, "MAX_FAULTS", 2)
    async with open_backends() as backends:
        ledger = Picky(["bad"], backends.writer, error)
        heard = asyncio.Queue()
        keeper = LedgerIngester(backends.broker, ledger, backends.clock, heard.put_nowait)
        await backends.broker.publish([Message("job.events", encode_events([queued("a"), queued("bad"), queued("b")]))])
        running = asyncio.create_task(keeper.run())
        await heard.get()
        await backends.broker.publish([Message("job.events", encode_events([queued("c")]))])
        await heard.get()
        await keeper.stop()
        await running
        assert [await backends.reader.get(job_id) is not None for job_id in ("a", "b", "c", "bad")] == [True, True, True, False]
        assert await backends.writer.counts() == dict.fromkeys(JobState, 0) | {JobState.QUEUED: 3, JobState.QUARANTINED: 1}
        assert await backends.broker.depth(Queue.LEDGER) == 0


async def test_the_keeper_outlives_a_fault_of_the_ledger_and_of_its_listeners(monkeypatch):
    """It waits as it does for one that is away; nothing is lost."""
    monkeypatch.setattr(keeper_module, "MAX_WRITE_RETRY_S", 0.0)
    monkeypatch.setattr(keeper_module, "MAX_FAULTS", 6)
    async with open_backends() as backends:
        backends.writer.fail("apply", 5, error=RuntimeError("a fault"))
        heard = asyncio.Queue()

        def listener(events):
            heard.put_nowait(events)
            raise RuntimeError("a fault of a listener")

        keeper = LedgerIngester(backends.broker, backends.writer, backends.clock, listener)
        running = asyncio.create_task(keeper.run())
        for job_id in ("a", "b"):
            await backends.broker.publish([Message("job.events", encode_events([queued(job_id)]))])
            (event,) = await heard.get()
            assert event.job.job_id == job_id
        await keeper.stop()
        await running


async def test_what_nobody_can_read_in_quarantine_becomes_one_job_for_good():
    """Under one id however often it is moved, and from then on as a copy that everybody can read."""
    async with open_backends() as backends:
        await backends.broker.publish(
            [Message(TO_QUARANTINE, b"\xff?"), Message(TO_QUARANTINE, b'{"state": "PARKED", "jobId": "a\\u0000"}')]
        )
        sweep = QuarantineReconciler(backends.broker, backends.writer, backends.clock)
        for _ in range(3):
            await sweep.run_round(whole=True)
        assert (await backends.writer.counts())[JobState.QUARANTINED] == 2
        assert await backends.broker.depth(Queue.QUARANTINE) == 2


async def test_marks_of_strangers_do_not_keep_the_sweep_from_going_round():
    """A mark of the far future, or of more digits than a number has, is none."""
    async with open_backends() as backends:
        await set_aside(backends, parked("dead"), parked("alive"))
        await backends.quarantine.discard("dead", "", "me")
        for mark in ("9" * 17, "9" * 5_000, "-1", "x"):
            body = encode_event(parked(f"m{len(mark)}"))
            await backends.broker.publish([Message(TO_QUARANTINE, body, headers={"swept": mark})])
        swept = await QuarantineReconciler(backends.broker, backends.writer, backends.clock).run_round(whole=True)
        assert (swept.ghosts, swept.kept, swept.wrapped) == (1, 5, False)


async def test_the_sweep_keeps_a_copy_that_the_ledger_refuses_as_what_stands_for_it():
    """Its bytes are in the quarantine, under the same id as in the ledger."""
    async with open_backends() as backends:
        ledger = Picky(["bad"], backends.writer)
        await backends.broker.publish([Message(TO_QUARANTINE, encode_event(parked(job_id))) for job_id in ("a", "bad", "b")])
        sweep = QuarantineReconciler(backends.broker, ledger, backends.clock)
        for _ in range(2):
            await sweep.run_round(whole=True)
        counts = await backends.writer.counts()
        assert (counts[JobState.PARKED], counts[JobState.QUARANTINED]) == (2, 1)
        assert await backends.broker.depth(Queue.QUARANTINE) == 3


async def test_the_sweep_outlives_a_fault(monkeypatch, caplog):
    """It says so and begins anew."""
    monkeypatch.setattr("controlplane.reconcile.LINGER_S", 0.0)
    monkeypatch.setattr("controlplane.reconcile.RECHECK_S", 0.0)
    async with open_backends() as backends:
        backends.writer.fail("counts", 1, error=RuntimeError("a fault"))
        await backends.broker.publish([Message(TO_QUARANTINE, encode_event(parked("a")))])
        running = asyncio.create_task(QuarantineReconciler(backends.broker, backends.writer, backends.clock).run())
        while await backends.reader.get("a") is None:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert "internal error in the sweep" in caplog.text


@pytest.mark.no_cover  # many examples; shorter tests cover the same
@given(st.lists(BODIES, max_size=8))
def test_whatever_lies_in_the_ledgers_queue_the_next_event_is_told(bodies):
    """Read, or kept in quarantine; the keeper takes the next one."""

    async def story():
        async with open_backends() as backends:
            heard = asyncio.Event()
            keeper = LedgerIngester(
                backends.broker,
                backends.writer,
                backends.clock,
                lambda events: any(event.job.job_id == "good" for event in events) and heard.set(),
            )
            await backends.broker.publish([Message("job.quarantined.x", body) for body in bodies])
            await backends.broker.publish([Message("job.events", encode_events([queued("good")]))])
            running = asyncio.create_task(keeper.run())
            await heard.wait()
            await QuarantineReconciler(backends.broker, backends.writer, backends.clock).run_round(whole=True)
            await keeper.stop()
            await running
            assert await backends.broker.depth(Queue.LEDGER) == 0

    asyncio.run(story())


def test_what_others_publish_for_the_ledger_is_kept_under_an_id_of_its_own() -> None:
    body = encode_event(JobEvent(job("victim"), JobState.DISCARDED, 1))
    event = foreign_event(body, 5)
    assert (event.state, event.reason, event.job.job_type, event.job.tenant) == (
        JobState.QUARANTINED,
        Reason.UNDECODABLE,
        "undecodable",
        "default",
    )
    assert event.job.job_id != "victim"
    assert base64.b64decode(event.job.payload["contentBase64"]) == body
