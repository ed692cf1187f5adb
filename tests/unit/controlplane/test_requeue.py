"""What is brought back when jobs may be lost, and what is left alone, on the embedded back ends."""

from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from controlplane.release import Releaser
from controlplane.requeue import LOST, Requeuer
from sickbay.domain.errors import NotFound, Unavailable
from sickbay.domain.job import Job, JobState
from sickbay.domain.queries import LostQuery, RequeueOrder, Verdict
from sickbay.domain.storable import MAX_COUNT
from sickbay.messages.codec import decode_job, job_message
from sickbay.ports import TO_MAIN, TO_RETRY, Message, Queue
from tests.support.embedded_backends import open_backends
from tests.support.ledger_events import parked, queued, retrying, running, succeeded

LATER = 100_000


@asynccontextmanager
async def open_ward(*events):
    """A ledger that knows these, whose queues are empty, and who looks for what is lost, a while later."""
    async with open_backends() as backends:
        await backends.writer.apply(events)
        backends.clock.now += LATER
        yield backends, requeuer(backends)


def requeuer(backends):
    releaser = Releaser(backends.broker, backends.quarantine)
    parts = {"lost": backends.lost, "holds": backends.holds, "broker": backends.broker, "releaser": releaser}
    return Requeuer(**parts, is_behind=lambda: False, clock=backends.clock)


async def verdicts(backends, ward, *ids, limit=10, **order):
    query = LostQuery(backends.clock.now - 60_000, job_ids=ids)
    page = await ward.requeue(query, RequeueOrder(**order), limit, "")
    return {one.record.job.job_id: one.verdict for one in page.items}


async def in_main(backends):
    copies = []
    async with backends.broker.consume(Queue.MAIN, 50) as consumer:
        while len(copies) < await backends.broker.depth(Queue.MAIN) + len(copies):
            copies += [decode_job(delivery.body, "", 0) for delivery in await consumer.get(50)]
    return copies


def bare(event):
    return replace(event, job=replace(event.job, payload_json=b""))


async def test_jobs_that_no_queue_holds_come_back_in_their_next_generation():
    async with open_ward(queued("a"), queued("b"), queued("c"), bare(running("b")), bare(retrying("c")), parked("d"), succeeded("e")) as (
        backends,
        ward,
    ):
        assert await verdicts(backends, ward, validate_only=True) == dict.fromkeys("abc", Verdict.REQUEUEABLE)
        assert await backends.broker.depth(Queue.MAIN) == 0
        assert await verdicts(backends, ward, actor="ann") == dict.fromkeys("abc", Verdict.REQUEUED)
        copies = {copy.job_id: copy for copy in await in_main(backends)}
        assert {job_id: (one.generation, one.attempt, one.maybe_duplicate) for job_id, one in copies.items()} == {
            "a": (1, 0, True),
            "b": (1, 0, True),
            "c": (1, 1, True),
        }
        assert {one.payload_json for one in copies.values()} == {queued().job.payload_json}
        assert (await backends.reader.get("a")).state is JobState.QUEUED
        assert backends.duplicate_guard.is_cancelled(queued("a").job), "a copy that turns up after all does not run"


@pytest.mark.parametrize("key", [TO_MAIN, TO_RETRY])
async def test_what_may_wait_in_a_queue_is_left_alone_unless_asked_for(key):
    async with open_ward(queued("a")) as (backends, ward):
        await backends.broker.publish([replace(job_message(key, Job("other", "email")), delay_ms=60_000)])
        assert await verdicts(backends, ward) == {"a": Verdict.MAY_WAIT}
        assert await verdicts(backends, ward, even_if_waiting=True) == {"a": Verdict.REQUEUED}


async def test_what_a_worker_runs_is_left_alone():
    async with open_ward(queued("a"), queued("b")) as (backends, ward):
        backends.duplicate_guard.register_worker(lambda _: False, takes_jobs=True)
        assert await backends.duplicate_guard.begin(queued("a").job)
        assert await verdicts(backends, ward) == {"a": Verdict.MAY_RUN, "b": Verdict.REQUEUED}


async def test_nothing_is_brought_back_while_a_worker_does_not_answer():
    async with open_ward(queued("a")) as (backends, ward), backends.broker.consume(Queue.MAIN, 1):
        assert await verdicts(backends, ward) == {"a": Verdict.MAY_RUN}


async def test_a_job_in_the_last_generation_is_not_brought_back():
    """Nobody could read the next one."""
    last = queued("last")
    last = replace(last, job=replace(last.job, generation=MAX_COUNT))
    async with open_ward(last) as (backends, ward):
        assert await verdicts(backends, ward) == {"last": Verdict.CHANGED}
        assert await backends.broker.depth(Queue.MAIN) == 0


async def test_a_job_that_was_heard_of_just_now_is_on_its_way():
    async with open_ward(queued("a")) as (backends, ward):
        await backends.writer.apply([queued("new", at=backends.clock.now)])
        assert await verdicts(backends, ward, "a", "new") == {"a": Verdict.REQUEUED, "new": Verdict.TOO_RECENT}


async def test_nothing_is_known_while_the_ledger_lags():
    async with open_ward(queued("a")) as (backends, ward):
        ward._is_behind = lambda: True
        assert await verdicts(backends, ward) == {"a": Verdict.TOO_RECENT}
        ward._is_behind = lambda: False
        await backends.broker.publish([Message("job.events", b"{}")])
        assert await verdicts(backends, ward) == {"a": Verdict.TOO_RECENT}


async def test_a_job_without_payload_can_only_be_closed():
    async with open_ward(bare(queued("a"))) as (backends, ward):
        assert await verdicts(backends, ward) == {"a": Verdict.NO_PAYLOAD}
        assert await verdicts(backends, ward, discard_without_payload=True, validate_only=True) == {"a": Verdict.NO_PAYLOAD}
        assert await verdicts(backends, ward, discard_without_payload=True) == {"a": Verdict.DISCARDED}
        last = (await backends.reader.history("a"))[-1]
        assert (last.state, last.message) == (JobState.DISCARDED, LOST)


async def test_named_jobs_that_do_not_wait_are_told():
    async with open_ward(parked("a"), succeeded("b")) as (backends, ward):
        assert await verdicts(backends, ward, "a", "b") == dict.fromkeys("ab", Verdict.CHANGED)
        with pytest.raises(NotFound, match="'nobody'"):
            await verdicts(backends, ward, "a", "nobody")


async def test_what_was_heard_of_in_between_is_left_alone():
    async with open_ward(queued("a")) as (backends, ward):

        class Racing:
            """Somebody else is faster between the judgement and the claim."""

            def __getattr__(self, name):
                return getattr(backends.lost, name)

            async def lease_lost(self, records, actor):
                await backends.writer.apply([bare(running("a"))])
                return await backends.lost.lease_lost(records, actor)

        ward._lost = Racing()
        assert await verdicts(backends, ward) == {"a": Verdict.CHANGED}


async def test_a_claim_that_could_not_be_published_is_finished_by_the_healer():
    """The broker is away in the middle, as it is for a control plane that is killed there."""
    async with open_ward(queued("a")) as (backends, ward):
        backends.broker.fail("publish")
        with pytest.raises(Unavailable):
            await verdicts(backends, ward)
        assert await verdicts(backends, ward) == {"a": Verdict.CHANGED}, "nobody else takes it"
        backends.clock.now += 31_000
        claims = await backends.quarantine.lease_expired()
        await Releaser(backends.broker, backends.quarantine).release(claims)
        (copy,) = await in_main(backends)
        assert (copy.generation, copy.payload_json) == (1, queued().job.payload_json)


async def test_pages_go_on_where_the_last_one_ended():
    async with open_ward(*(queued(f"j{number}", at=queued().at + number) for number in range(5))) as (backends, ward):
        seen, cursor = [], ""
        while True:
            page = await ward.requeue(LostQuery(backends.clock.now - 1_000), RequeueOrder(even_if_waiting=True), 2, cursor)
            seen += [one.verdict for one in page.items]
            cursor = page.cursor
            if not cursor:
                break
        assert seen == [Verdict.REQUEUED] * 5
