"""What an engine touches, as small recording stubs: every step is seen, and any can be made to fail."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sickbay import JobError
from sickbay.domain.breaker import BreakerScope, BreakerState, Permit, PermitKind
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import Job
from sickbay.domain.queries import Accepted, DuplicateCheck
from sickbay.domain.retry import RetryPolicy
from sickbay.domain.workers import Fleet
from sickbay.handlers.registry import HandlerSpec
from sickbay.messages.codec import decode_events, decode_job, encode_job
from sickbay.messages.outbox import EventOutbox
from sickbay.observer import Observers
from sickbay.ports import PoolQueue, Queue
from sickbay.telemetry.joblog import JobLog
from sickbay.telemetry.metrics import MetricsRegistry
from tests.support.known_fleet import KnownFleet
from worker.engine import Engine
from worker.metrics import JobMetrics
from worker.runner import Runner

TRACE = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "acme=1"}


@dataclass
class StubDelivery:
    body: bytes
    log: list
    redelivered: bool = False
    message_id: str = "m-1"
    encoding: str = ""
    headers: dict = field(default_factory=dict)
    held_s: float = 0.0
    is_lost: bool = False
    is_foreign: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    verdict: str = ""

    def ack(self):
        self._settle("ack")

    def nack(self):
        self._settle("nack")

    def _settle(self, verdict):
        assert not self.verdict, "settled twice"
        self.verdict = verdict
        self.log.append(verdict)
        self.settled.set()


class StubBroker:
    def __init__(self, log):
        self.log = log
        self.queue = asyncio.Queue()
        self.published = []
        self.failing = 0
        """Publishes that fail from now on, also those of events: that a run began may be told before its end, on a busy machine."""
        self.failing_copies = 0
        """The same, of copies of jobs only."""
        self.silent = 0
        self.stopped = asyncio.Event()

    async def publish(self, messages):
        if self.failing or (self.failing_copies and messages[0].key != "job.events"):
            self.failing, self.failing_copies = max(0, self.failing - 1), max(0, self.failing_copies - 1)
            self.log.append("publish failed")
            raise Unavailable("the broker is away")
        self.published += messages
        self.log += [f"published {message.key}" for message in messages]

    @asynccontextmanager
    async def consume(self, queue, prefetch):
        yield self if queue is Queue.MAIN or isinstance(queue, PoolQueue) else IdleConsumer(self.stopped)

    def put_back(self, deliveries):
        for delivery in deliveries:
            delivery.log.append("put back")
            delivery.verdict = "put back"

    async def get(self, limit):
        if self.stopped.is_set():
            return []
        if self.silent:
            self.silent -= 1
            raise Unavailable("the broker does not answer")
        waiting = asyncio.ensure_future(self.queue.get())
        stopping = asyncio.ensure_future(self.stopped.wait())
        done, pending = await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for one in pending:
            one.cancel()
        return [] if self.stopped.is_set() or waiting not in done else [waiting.result()]

    async def stop(self):
        self.stopped.set()

    async def depth(self, queue):
        return self.queue.qsize()

    def events(self):
        return [event for message in self.published if message.key.startswith("job.") for event in decode_events(message.body)]

    def copies(self):
        return [decode_job(message.body, "", 0) for message in self.published if message.key in {"retry", "main"}]


class IdleConsumer:
    """Of a lane without jobs."""

    def __init__(self, stopped):
        self.stopped = stopped

    async def get(self, limit):
        await self.stopped.wait()
        return []

    def put_back(self, deliveries):
        assert not deliveries

    async def stop(self):
        self.stopped.set()


class StubBreakers:
    def __init__(self, log):
        self.log = log
        self.answer = None
        self.state = BreakerState.CLOSED
        self.outcomes = []
        self.asked = []
        self.renewals = asyncio.Queue()
        self.kind = PermitKind.NORMAL

    async def admit(self, key, job_id, longest_ms=0, *, released=False):
        self.asked.append(key)
        return self.answer or Permit(key, self.kind, 1, job_id, token="t", lease_ms=30, longest_ms=longest_ms)

    async def settle(self, permit, outcome, took_ms=0):
        self.outcomes.append((permit, outcome))
        self.log.append(f"settled {outcome.kind}")
        return self.state

    async def renew(self, permit):
        self.renewals.put_nowait(permit)
        return True


class StubFence:
    def __init__(self):
        self.entry = DuplicateCheck(superseded=False)
        self.entered = []
        self.left = []
        self.cancelled = set()
        self.to_end = set()
        self.cancel = None
        self.held = {}
        self.begun = []
        self.takes_jobs = False
        self.deaths = 0
        self.away = False
        self.known = asyncio.Event()

    async def caught_up(self):
        await self.known.wait()

    async def crashes(self, job):
        if self.away:
            raise Unavailable("the ledger is away")
        return self.deaths

    async def check(self, job, *, suspect):
        if self.away:
            raise Unavailable("the ledger is away")
        self.entered.append((job.job_id, suspect))
        return self.entry

    async def clear_crashes(self, job):
        self.left.append(job.job_id)

    def is_cancelled(self, job):
        return job.job_id in self.cancelled

    def is_to_end(self, job):
        return job.job_id in self.to_end

    def ask_to_end(self, job_id):
        """As the ledger's notice does."""
        self.to_end.add(job_id)
        if job_id in self.begun:
            self.cancel(job_id)

    async def begin(self, job):
        if job.job_id in self.held:
            await self.held[job.job_id].wait()
        if self.is_cancelled(job):
            return False
        self.begun.append(job.job_id)
        return True

    def end(self, job):
        self.begun.remove(job.job_id)

    def register_worker(self, is_unreported, cancel, *, takes_jobs):
        self.cancel = cancel
        self.takes_jobs = takes_jobs


class StubSubmitter:
    """Accepts what it is given, by idempotency key, or rejects it with the error of its job type."""

    def __init__(self):
        self.jobs = {}
        self.rejects = {}
        self.contexts = []
        self.go_on = None

    async def accept(self, submissions):
        if self.go_on is not None:
            await self.go_on.wait()
        return [self._accept(one) for one in submissions]

    def _accept(self, one):
        if one.job_type in self.rejects:
            return self.rejects[one.job_type]
        duplicate = one.request_id in self.jobs
        known = self.jobs.setdefault(one.request_id, one)
        return Accepted(known.job(f"{one.job_type}-{list(self.jobs).index(one.request_id)}", 0), duplicate)


class PromptEvents(EventOutbox):
    """Tells the end of a run at once, and its begin after the linger: a busy machine tells no begin that the test does not wait for."""

    def add(self, event, delivery=None):
        super().add(event, delivery)
        self._full.set()


class Bench:
    """An engine with everything around it, started by `open_bench`."""

    def __init__(
        self,
        handlers,
        concurrency=10,
        timeout_s=5.0,
        linger_s=5.0,
        observers=(),
        *,
        scope=BreakerScope.TYPE,
        broker=None,
        table=None,
        **options,
    ):
        self.log = []
        self.working = None
        self.broker = broker or StubBroker(self.log)
        self.breakers = StubBreakers(self.log)
        self.fence = StubFence()
        self.fleet = KnownFleet(Fleet(5_000, unannounced=0))
        self.now = 1_000
        self.runner = Runner(self.breakers, timeout_s=timeout_s, concurrency=concurrency)
        self.told = MetricsRegistry("worker")
        self.metrics = JobMetrics(self.told.registry, [spec.job_type for spec in handlers], lambda: self.now / 1000)
        observer = Observers([self.metrics, JobLog(), *observers])
        self.events = PromptEvents(self.broker, linger_s=linger_s, observer=observer)
        self.submitter = StubSubmitter()
        self.engine = Engine(
            submitter=self.submitter,
            broker=self.broker,
            breakers=self.breakers,
            scope=scope,
            guard=self.fence,
            events=self.events,
            runner=self.runner,
            handlers={spec.job_type: spec for spec in handlers} if table is None else table,
            policy=RetryPolicy(3, 5_000),
            concurrency=concurrency,
            clock=lambda: self.now,
            name="w",
            fleet=self.fleet,
            observer=observer,
            pause_s=0.0,
            last_s=0.05,
            **options,
        )

    def deliver(self, job=None, *, body=None, redelivered=False, held_s=0.0, headers=None, encoding="", is_foreign=False):
        content = body if body is not None else encode_job(job)
        delivery = StubDelivery(
            content, self.log, redelivered, headers=headers or {}, held_s=held_s, encoding=encoding, is_foreign=is_foreign
        )
        self.broker.queue.put_nowait(delivery)
        return delivery

    async def run_one(self, job=None, **options):
        delivery = self.deliver(job, **options)
        await delivery.settled.wait()
        return delivery.verdict


@asynccontextmanager
async def open_bench(*handlers, knows=True, **options):
    """A worker that works; unless it `knows`, the cancellations of before are not known yet."""
    bench = Bench(handlers, **options)
    if knows:
        bench.fence.known.set()
    async with bench.events:
        bench.working = asyncio.create_task(bench.engine.run())
        try:
            yield bench
        finally:
            await bench.engine.drain(0)
            await bench.working
            bench.runner.close()


def job(job_id="j", **fields):
    return Job(job_id, "email", b'{"a": 1}', submitted_at=1, **fields)


def does(function, **options):
    return HandlerSpec("email", function, **options)


async def fine(job):
    pass


def fails(*args, **kwargs):
    async def run(job):
        raise JobError(*args, **kwargs)

    return run
