"""Clients that do not give up, and an administrator at work."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, Self
from zlib import crc32

import grpc

from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from sickbay.jobs.v1.quarantine_service_pb2 import DiscardJobRequest, ListQuarantinedJobsRequest, QuarantinedJob, ResubmitJobRequest
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub

KINDS: Final = {
    "ok": {"do": "ok"},
    "retry": {"do": ["BAD_REQUEST", "ok"]},
    "bad": {"do": "VALIDATION_ERROR"},
    "outage": {},
    "down": {},
}
BATCH: Final = ("ok",) * 8 + ("retry",) * 4 + ("bad",) * 3 + ("outage",) * 4 + ("down",)
PACE_S: Final = 0.25
CALL_S: Final = 15
MOST_CALLS: Final = 33
"""At a time; three rounds' worth."""
OPTIONS: Final = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]


class Clients:
    """`accepted` is what they were promised: job id -> type. `failed` counts calls that were not answered well, by code."""

    def __init__(self, jobapis: Sequence[str], planes: Sequence[str]) -> None:
        """Calls go to the addresses in turn."""
        self._addresses = {JobServiceStub: jobapis, QuarantineServiceStub: planes}
        self._stubs: dict[type, itertools.cycle] = {}
        self._stack = AsyncExitStack()
        self._numbers = itertools.count()
        self._turns = asyncio.Semaphore(MOST_CALLS)
        self.accepted: dict[str, str] = {}
        self.failed: Counter[str] = Counter()
        self.edited: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        for stub, addresses in self._addresses.items():
            channels = [await self._stack.enter_async_context(grpc.aio.insecure_channel(address, OPTIONS)) for address in addresses]
            self._stubs[stub] = itertools.cycle([stub(channel) for channel in channels])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def submit(self, jobs: int, over: asyncio.Event) -> None:
        """Hand in mixed jobs, half of them one by one, until it is over and at least so many are accepted; who is refused tries again."""
        async with asyncio.TaskGroup() as calls:
            while not over.is_set() or len(self.accepted) < jobs:
                requests = [self._request(kind) for kind in BATCH]
                for work in (partial(self._batch, requests[::2]), *(partial(self._one, one) for one in requests[1::2])):
                    await self._turns.acquire()
                    calls.create_task(work()).add_done_callback(lambda _: self._turns.release())
                await asyncio.sleep(PACE_S)

    async def administer(self, over: asyncio.Event) -> None:
        """Half of the bad jobs are mended and resubmitted, a quarter is thrown away, a quarter stays; until it is over."""
        while not over.is_set():
            try:
                await self._administer_once()
            except grpc.aio.AioRpcError as error:
                self._missed(error)
            await asyncio.sleep(PACE_S)

    async def _administer_once(self) -> None:
        wanted = ListQuarantinedJobsRequest(
            job_type="bad", state=Job.STATE_QUARANTINED, reason=QuarantinedJob.REASON_RETRIES_EXHAUSTED, page_size=1000
        )
        reply = await next(self._stubs[QuarantineServiceStub]).ListQuarantinedJobs(wanted, timeout=CALL_S)
        chosen = [(case, crc32(case.job.job_id.encode()) % 4) for case in reply.jobs]
        for case, choice in [(case, choice) for case, choice in chosen if choice < 3][:10]:
            stub, job_id = next(self._stubs[QuarantineServiceStub]), case.job.job_id
            if choice < 2:
                mended = ResubmitJobRequest(job_id=job_id, payload_json='{"do":"ok"}', etag=case.etag, actor="chaos")
                await stub.ResubmitJob(mended, timeout=CALL_S)
            else:
                await stub.DiscardJob(DiscardJobRequest(job_id=job_id, etag=case.etag, actor="chaos"), timeout=CALL_S)
            self.edited["resubmitted" if choice < 2 else "discarded"] += 1

    def _request(self, kind: str) -> SubmitJobRequest:
        number = next(self._numbers)
        return SubmitJobRequest(job_type=kind, payload_json=json.dumps(KINDS[kind] | {"number": number}), request_id=f"chaos-{number}")

    async def _one(self, request: SubmitJobRequest) -> None:
        while True:
            try:
                reply = await next(self._stubs[JobServiceStub]).SubmitJob(request, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                self._missed(error)
                await asyncio.sleep(PACE_S)
            else:
                self.accepted[reply.job.job_id] = request.job_type
                return

    async def _batch(self, requests: Sequence[SubmitJobRequest]) -> None:
        while requests:
            try:
                reply = await next(self._stubs[JobServiceStub]).BatchSubmitJobs(BatchSubmitJobsRequest(requests=requests), timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                self._missed(error)
            else:
                for request, result in zip(requests, reply.results, strict=True):
                    if result.job_id:
                        self.accepted[result.job_id] = request.job_type
                    else:
                        self.failed[f"item {result.error.code}"] += 1
                requests = [request for request, result in zip(requests, reply.results, strict=True) if not result.job_id]
            if requests:
                await asyncio.sleep(PACE_S)

    def _missed(self, error: grpc.aio.AioRpcError) -> None:
        """A call may fail while the world does, but only in ways that say so."""
        self.failed[error.code().name] += 1
        assert error.code() in ALLOWED, f"{error.code()}: {error.details()}"


ALLOWED: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # the server was killed
    grpc.StatusCode.ABORTED,  # the first request with this key is under way; or somebody edited before us
    grpc.StatusCode.FAILED_PRECONDITION,  # being released by a call whose answer was lost
    grpc.StatusCode.NOT_FOUND,  # it has left meanwhile
}
