r"""A worker program in plain Python, without the package of Sickbay: only grpcio, and the contract compiled from proto/.

    sickbay up --programs                                  # in one terminal
    pip install grpcio grpcio-tools                        # in another one, in this folder
    python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. \
        ../../proto/google/api/*.proto ../../proto/sickbay/jobs/v1/*.proto
    python worker.py
    curl localhost:3000/jobs -H 'Content-Type: application/json' -d '{"jobType": "thumbnail", "payload": {"image": "cat.png"}}'

docs/any-language.md describes the protocol.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from sickbay.jobs.v1 import work_pb2 as pb
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub

ADDRESS = os.environ.get("SICKBAY_WORKER", "localhost:50052")
SLOTS = int(os.environ.get("SLOTS", "4"))
STOP_S = 30
"""How long running jobs may take after SIGTERM."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Between two attempts to connect."""

Progress = Callable[[float, str], Awaitable[None]]


class Failure(Exception):
    """Raised by a handler to say what went wrong, and whose fault it is (SYSTEMIC, TRANSIENT, DATA or UNKNOWN)."""

    def __init__(self, code: str, message: str = "", *, kind: str = "UNSPECIFIED", retry_after: int | None = None) -> None:
        """Set what the worker is told; `retry_after` in seconds."""
        super().__init__(message)
        self.code, self.kind, self.retry_after = code, kind, retry_after


async def thumbnail(run: Any, payload: dict[str, Any], progress: Progress) -> Any:
    """Pretend to make a thumbnail."""
    if "image" not in payload:
        raise Failure("VALIDATION_ERROR", "the payload has no image", kind="DATA")
    for step in range(1, 5):
        await asyncio.sleep(payload.get("seconds", 0.2) / 4)
        await progress(step / 4, f"{step} of 4")
    return {"thumbnail": f"{payload['image']}.small", "attempt": run.job.attempt, "process": os.getpid()}


HANDLERS = {"thumbnail": thumbnail}


class Session:
    """One stream to a worker."""

    def __init__(self, stream: Any) -> None:
        """`stream` is the call of Work."""
        self.stream = stream
        self.writing = asyncio.Lock()  # grpc.aio writes one message of a stream at a time
        self.runs: dict[str, asyncio.Task[None]] = {}
        self.heartbeat_s = 5.0

    async def send(self, **message: Any) -> None:
        """Say one thing; on a broken stream nothing happens: its reader ends as well."""
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            async with self.writing:
                await self.stream.write(pb.WorkRequest(**message))

    async def serve(self) -> None:
        """Register, and run what comes until the stream ends."""
        types = [pb.WorkRequest.HandledType(job_type=name, timeout=Duration(seconds=60)) for name in HANDLERS]
        await self.send(register=pb.WorkRequest.Register(name="thumbnails", version="1.0", language="python", slots=SLOTS, types=types))
        beating = asyncio.create_task(self.beat())
        try:
            async for said in self.stream:
                self.take_in(said)
        finally:
            beating.cancel()
            for run in self.runs.values():  # the worker gives these jobs to somebody else
                run.cancel()

    def take_in(self, said: Any) -> None:
        """Act on what the worker says."""
        match said.WhichOneof("message"):
            case "registered":
                self.heartbeat_s = said.registered.heartbeat_interval.ToTimedelta().total_seconds()
                print(f"connected to {ADDRESS}", flush=True)
            case "run":
                print(f"running {said.run.job.job_id}", flush=True)
                run = asyncio.create_task(self.run(said.run))
                self.runs[said.run.run_id] = run
                run.add_done_callback(lambda _: self.runs.pop(said.run.run_id))
            case "cancel":
                if (run := self.runs.get(said.cancel.run_id)) is not None:
                    run.cancel()

    async def run(self, run: Any) -> None:
        """Run one job, and answer in any case: until then its slot stays taken."""

        async def progress(fraction: float, message: str = "") -> None:
            await self.send(progress=pb.WorkRequest.Progress(run_id=run.run_id, fraction=fraction, message=message))

        try:
            result = await HANDLERS[run.job.job_type](run, json.loads(run.payload_json), progress)
            answer: dict[str, Any] = {"succeeded": pb.WorkRequest.Succeeded(run_id=run.run_id, result_json=json.dumps(result))}
        except asyncio.CancelledError:  # its timeout, or the worker stops: the outcome does not count, but the slot becomes free
            answer = {"failed": pb.WorkRequest.Failed(run_id=run.run_id, code="CANCELLED")}
        except Failure as error:
            wait = None if error.retry_after is None else Duration(seconds=error.retry_after)
            kind = pb.WorkRequest.Failed.Kind.Value(f"KIND_{error.kind}")
            failed = pb.WorkRequest.Failed(run_id=run.run_id, code=error.code, message=str(error), kind=kind, retry_after=wait)
            answer = {"failed": failed}
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker is told
            text, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
            answer = {"failed": pb.WorkRequest.Failed(run_id=run.run_id, code="ERROR", message=text, traceback=trace)}
        await self.send(**answer)

    async def beat(self) -> None:
        """Say that this program is alive: from the loop that runs the jobs, so that a program that hangs says nothing."""
        while True:
            await asyncio.sleep(self.heartbeat_s)
            await self.send(heartbeat=pb.WorkRequest.Heartbeat())

    async def stop(self) -> None:
        """Get no more jobs, finish those that run, and end the stream."""
        await self.send(drain=pb.WorkRequest.Drain())
        if self.runs:
            await asyncio.wait(self.runs.values(), timeout=STOP_S)
        await self.stream.done_writing()


async def connect_and_serve(stopping: asyncio.Event) -> None:
    """Serve one stream until it ends. grpc.RpcError if it broke."""
    async with grpc.aio.insecure_channel(ADDRESS) as channel:
        session = Session(WorkerServiceStub(channel).Work())
        serving, stop = asyncio.create_task(session.serve()), asyncio.create_task(stopping.wait())
        await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await session.stop()
        stop.cancel()
        await serving


async def main() -> None:
    """Serve streams one after another until SIGTERM or Ctrl-C."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stopping.set)
    pause = FIRST_PAUSE_S
    while not stopping.is_set():
        began = loop.time()
        try:
            await connect_and_serve(stopping)
        except grpc.RpcError as error:
            print(f"the stream has ended: {error.code().name}: {error.details()}", flush=True)
        pause = FIRST_PAUSE_S if loop.time() - began > LONGEST_PAUSE_S else min(2 * pause, LONGEST_PAUSE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - so that many programs do not come at once
                await stopping.wait()


if __name__ == "__main__":
    asyncio.run(main())
