"""Whatever happens beside a cancellation or a discard that was answered, no further run of the job begins.

A world of one job: copies that wait, runs, events that the ledger has not heard of yet and hears in any order and more than once, claims
that are published once or twice, people who cancel, discard and resubmit. Everything is the product's own but the queues and the worker.
"""

import asyncio
import itertools
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobapi import cancel
from jobapi.cancel import Canceller
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import Aborted, FailedPrecondition, NotFound, Unavailable
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.queries import JobEdit
from sickbay.messages.codec import decode_events
from sickbay.ports import Queue
from tests.support.clock import ManualClock

pytest_plugins = ["tests.support.ledger_fixtures"]

STEPS = ("begin", "succeed", "retry", "park", "tell", "tell again", "claim", "resubmit", "publish", "release", "discard", "cancel")
STEPS += ("run now", "cancel before")
BEGINNINGS = (
    [],
    ["begin", "park", "tell", "tell", "tell"],
    ["begin", "retry", "begin"],
    ["begin", "park", "tell", "tell", "tell", "discard"],
    ["begin", "park", "tell", "tell", "tell", "claim"],
    ["begin", "park", "tell", "tell", "tell", "resubmit", "publish"],
    ["tell", "run now", "publish"],
)
"""How a life may begin, so that each kind of it is tried often."""
EACH_END = (["tell", "cancel", "answer"], BEGINNINGS[3], [])
"""A life that ends cancelled, one that ends discarded, and one that nobody calls off; by chance a few random lives may lack one."""
TOO_LATE = (FailedPrecondition, NotFound, Aborted, Unavailable)


class World:
    """One job and all that happens to it."""

    def __init__(self, ledger, clock, job_id, *, later=False):
        """`later`: the job is SCHEDULED, so that no queue has a copy until somebody runs it."""
        self.ledger = ledger
        self.clock = clock
        self.job_id = job_id
        job = Job(job_id, job_id, b"{}", submitted_at=clock(), run_at=clock() + 3_600_000 if later else 0)
        self.copies = [] if later else [job]
        self.events = [JobEvent(job, job.first_state, clock())]
        self.told = []
        self.runs = []
        self.claims = []
        self.cancelling = []
        self.closed = ""
        self.begun_before = 0
        self.runs_begun = itertools.count(1)
        ledger.duplicate_guard.register_worker(lambda job_id: False, takes_jobs=True)

    async def find(self, job_id):
        record = await self.ledger.reader.get(job_id)
        if record is None:
            raise NotFound("not yet")
        return record

    async def consumers(self, queue):
        return int(queue is Queue.MAIN)

    async def publish(self, messages):
        self.events += decode_events(messages[0].body)

    async def step(self, what, which):
        self.clock.now += 10
        with suppress(*TOO_LATE):
            await getattr(self, "_" + what.replace(" ", "_"))(which)
        for _ in range(3):
            await asyncio.sleep(0)

    async def _begin(self, which):
        if not self.copies:
            return
        copy = self.copies.pop(which % len(self.copies))
        if self.ledger.duplicate_guard.is_cancelled(copy):
            return
        if not copy.is_fresh and (await self.ledger.duplicate_guard.check(copy, suspect=False)).superseded:
            return
        beginning = asyncio.create_task(self.ledger.duplicate_guard.begin(copy))
        await asyncio.sleep(0)
        if not beginning.done():
            beginning.cancel()
            self.copies.append(copy)
        elif beginning.result():
            assert not self.closed, f"a run begins although the job was {self.closed}"
            run = f"w.{next(self.runs_begun)}"
            self.runs.append((copy, run))
            self.events.append(JobEvent(copy, JobState.RUNNING, self.clock(), started_at=self.clock(), run=run))

    async def _succeed(self, which):
        if self.runs:
            copy, run = self.runs.pop(which % len(self.runs))
            self.events.append(JobEvent(copy, JobState.SUCCEEDED, self.clock(), started_at=self.clock(), run=run))
            self.ledger.duplicate_guard.end(copy)

    async def _retry(self, which):
        if self.runs:
            copy, run = self.runs.pop(which % len(self.runs))
            if not self.ledger.duplicate_guard.is_cancelled(copy):
                self.copies.append(copy.charged())
                self.events.append(JobEvent(copy.charged(), JobState.RETRYING, self.clock(), started_at=self.clock(), run=run))
            self.ledger.duplicate_guard.end(copy)

    async def _park(self, which):
        if self.runs:
            copy, run = self.runs.pop(which % len(self.runs))
            if not self.ledger.duplicate_guard.is_cancelled(copy):
                reason = Reason.CIRCUIT_OPEN
                self.events.append(JobEvent(copy, JobState.PARKED, self.clock(), started_at=self.clock(), run=run, reason=reason))
            self.ledger.duplicate_guard.end(copy)

    async def _tell(self, which):
        if self.events:
            self.told.append(self.events.pop(which % len(self.events)))
            await self.ledger.writer.apply([self.told[-1]])

    async def _tell_again(self, which):
        if self.told:
            await self.ledger.writer.apply([self.told[which % len(self.told)]])

    async def _claim(self, which):
        self.claims += await self.ledger.quarantine.lease_parked(BreakerKey(self.job_id), 1)

    async def _resubmit(self, which):
        self.claims.append(await self.ledger.quarantine.lease_job(self.job_id, JobEdit(), "", "ann"))

    async def _run_now(self, which):
        self.claims.append(await self.ledger.scheduled_jobs.lease_scheduled(self.job_id, "", "ann"))

    async def _cancel_before(self, which):
        await self.ledger.scheduled_jobs.cancel_scheduled(self.job_id, "", "ann")
        self.closed = "cancelled"

    async def _publish(self, which):
        if self.claims:
            self.copies.append(self.claims[which % len(self.claims)].job)

    async def _release(self, which):
        if self.claims:
            claim = self.claims.pop(which % len(self.claims))
            self.copies.append(claim.job)
            await self.ledger.quarantine.mark_released([claim])

    async def _discard(self, which):
        await self.ledger.quarantine.discard(self.job_id, "", "ann")
        self.closed = "discarded"

    async def _cancel(self, which):
        canceller = Canceller(self.ledger.reader, self.ledger.holds, self, self.clock, self.find)
        self.cancelling.append(asyncio.create_task(self._cancelled(canceller)))

    async def _answer(self, which):
        """The ledger hears all there is until the cancellations are answered."""
        while (await asyncio.wait(self.cancelling, timeout=0.001))[1]:
            await self._tell(0)

    async def _cancelled(self, canceller):
        with suppress(*TOO_LATE):
            await canceller.cancel(self.job_id)
            self.closed = "cancelled"

    async def end(self):
        """Everything that waits comes to its end, in the order in which it waits."""
        while self.copies or self.runs or self.events or self.claims or not all(task.done() for task in self.cancelling):
            await self.step("release", 0)
            await self.step("begin", 0)
            await self.step("succeed", 0)
            await self.step("tell", 0)
        await asyncio.gather(*self.cancelling)
        record = await self.ledger.reader.get(self.job_id)
        if self.closed:
            assert record.state in {JobState.CANCELLED, JobState.DISCARDED, JobState.SUCCEEDED}


@pytest.mark.parametrize(
    ("where", "examples"), [("sqlite", 150), pytest.param("postgresql", 40, marks=pytest.mark.servers)], ids=["sqlite", "postgresql"]
)
def test_no_run_begins_after_a_job_was_cancelled_or_discarded(where, examples, request, monkeypatch):
    url = request.getfixturevalue("postgres").url if where == "postgresql" else "sqlite://"
    clock, numbers, ended = ManualClock(), itertools.count(), []
    with asyncio.Runner() as runner:
        opened = open_ledger(url, clock)
        ledger = runner.run(opened.__aenter__())

        async def live(steps, *, later=False):
            world = World(ledger, clock, f"j{next(numbers)}", later=later)
            for what, which in steps:
                await world.step(what, which)
            await world.end()
            ended.append(world.closed)

        @settings(max_examples=examples, deadline=None)
        @given(
            st.booleans(),
            st.sampled_from(BEGINNINGS),
            st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), min_size=4, max_size=30),
        )
        def law(later, beginning, steps):
            runner.run(live([*((what, 0) for what in beginning), *steps], later=later))

        try:
            for steps in EACH_END:
                runner.run(live([(what, 0) for what in steps]))
            assert ended == ["cancelled", "discarded", ""]
            runner.run(live([("tell", 0), ("cancel", 0), ("answer", 0)], later=True))
            assert ended.pop() == "cancelled"
            monkeypatch.setattr(cancel, "PATIENCE_S", 0.02)
            law()
        finally:
            runner.run(opened.__aexit__(None, None, None))
