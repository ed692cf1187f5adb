"""An engine whose jobs are run by scripted programs: each step of the protocol is a call, with no socket in between."""

import asyncio
from collections import deque
from contextlib import asynccontextmanager

from sickbay.contract import work
from sickbay.domain.errors import SickbayError
from sickbay.domain.job import Job
from sickbay.domain.program import HEARTBEAT_S
from sickbay.jobs.v1 import work_pb2 as pb
from tests.support.engine_bench import open_bench
from worker.handlers import Handlers
from worker.programs.connected import Connected

LONG_S = 30


def register(*types, slots=1, name="p", **options):
    """The message of a registration; a type is its name, or a pair with its concurrency."""
    pairs = [(one, 0) if isinstance(one, str) else one for one in types]
    handled = [pb.WorkRequest.HandledType(job_type=job_type, concurrency=most) for job_type, most in pairs]
    return pb.WorkRequest(register=pb.WorkRequest.Register(name=name, slots=slots, types=handled, **options))


def succeeded(run_id, result=""):
    return pb.WorkRequest(succeeded=pb.WorkRequest.Succeeded(run_id=run_id, result_json=result))


def failed(run_id, code="SMTP_DOWN", **fields):
    return pb.WorkRequest(failed=pb.WorkRequest.Failed(run_id=run_id, code=code, **fields))


def progress(run_id, fraction, message=""):
    return pb.WorkRequest(progress=pb.WorkRequest.Progress(run_id=run_id, fraction=fraction, message=message))


HEARTBEAT = pb.WorkRequest(heartbeat=pb.WorkRequest.Heartbeat())
DRAIN = pb.WorkRequest(drain=pb.WorkRequest.Drain())


class Scripted:
    """A program that does what the test says; it reads at once unless told otherwise."""

    def __init__(self, connected, *types, slots=1, reads=True, name="p"):
        self._connected = connected
        self.program = connected.connect("127.0.0.1:5")
        self.said = deque()
        self.ended = asyncio.get_running_loop().create_future()
        self._heard = asyncio.Event()
        self._reading = asyncio.create_task(self._read()) if reads else None
        if types:
            self.register(*types, slots=slots, name=name)

    def register(self, *types, **options):
        self._connected.register(self.program, work.registration(register(*types, **options).register))

    def say(self, message):
        self.program.heard()
        return self.program.take_in(message)

    async def _read(self):
        error = None
        try:
            async for said in self.program.outgoing():
                self.said.append(said)
                self._heard.set()
        except SickbayError as caught:
            error = caught
        self.ended.set_result(error)
        self._heard.set()

    async def next(self, kind="run"):
        """The next message of this kind; others before it are dropped."""
        async with asyncio.timeout(LONG_S):
            while True:
                while self.said:
                    said = self.said.popleft()
                    if said.WhichOneof("message") == kind:
                        return getattr(said, kind)
                assert not self.ended.done(), f"it has ended: {self.ended.result()}"
                self._heard.clear()
                await self._heard.wait()

    def runs(self):
        """The runs that it has been sent and the test has not taken."""
        return [said.run for said in self.said if said.WhichOneof("message") == "run"]

    def break_off(self):
        """Its stream breaks."""
        self._connected.end(self.program)

    def close(self):
        self.break_off()
        if self._reading is not None:
            self._reading.cancel()


class ProgramBench:
    """A bench with programs."""

    def __init__(self, bench, connected, handlers):
        self.bench, self.connected, self.handlers = bench, connected, handlers
        self.opened = []

    def __getattr__(self, name):
        return getattr(self.bench, name)

    def program(self, *types, **options):
        self.opened.append(Scripted(self.connected, *types, **options))
        return self.opened[-1]

    async def verdict(self, delivery):
        async with asyncio.timeout(LONG_S):
            await delivery.settled.wait()
        return delivery.verdict


@asynccontextmanager
async def open_programs(*specs, heartbeat_s=HEARTBEAT_S, **options):
    """A worker that takes programs beside its own handlers `specs`."""
    handlers = Handlers({spec.job_type: spec for spec in specs})
    async with open_bench(table=handlers, **options) as bench:
        handlers.on_change(bench.engine.handlers_changed)
        connected = Connected(handlers, lambda: bench.now, heartbeat_s=heartbeat_s)
        programs = ProgramBench(bench, connected, handlers)
        try:
            yield programs
        finally:
            for one in programs.opened:
                one.close()
            connected.close()


def a_job(job_type="email", job_id="j", payload=b'{"a": 1}', **fields):
    return Job(job_id, job_type, payload, submitted_at=1, **fields)
