"""JobService: parse, one core call, reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from gen.sickbay.jobs.v1 import job_service_pb2 as pb
from gen.sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer
from jobapi.intake import Accepted, TakesIn
from jobapi.recent import Recent
from sickbay import wire
from sickbay import wire_requests as parse
from sickbay.envelope import encode_event
from sickbay.errors import FailedPrecondition, NotFound, SickbayError, Unavailable
from sickbay.job import Change, Event, Record, State
from sickbay.ports import Broker, Clock, JobReader, Message
from sickbay.rpc.errors import batch_error, fault_of
from sickbay.wire_pages import next_page_token, paging
from sickbay.wire_requests import Submission

CANCEL_PATIENCE_S: Final = 3.0
CANCEL_TRIES: Final = 3


class JobApi(JobServiceServicer):
    """Serves JobService."""

    def __init__(self, intake: TakesIn, reader: JobReader, recent: Recent, broker: Broker, clock: Clock) -> None:
        """Read from `reader`, and from `recent` what it does not know yet."""
        self._intake = intake
        self._reader = reader
        self._recent = recent
        self._broker = broker
        self._clock = clock

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        """See the contract."""
        (result,) = await self._intake.accept([parse.submission(request)])
        if isinstance(result, SickbayError):
            raise result
        queued = Record(result.job, State.QUEUED, result.job.submitted_at)
        return pb.SubmitJobResponse(job=wire.job(queued), duplicate=result.duplicate)

    async def BatchSubmitJobs(self, request: pb.BatchSubmitJobsRequest, context: Any) -> pb.BatchSubmitJobsResponse:
        """See the contract."""
        judged = [_judge(item) for item in parse.batch(request)]
        accepted = iter(await self._intake.accept([item for item in judged if isinstance(item, Submission)]))
        results = [next(accepted) if isinstance(item, Submission) else item for item in judged]
        return pb.BatchSubmitJobsResponse(results=map(_batch_result, results))

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        """See the contract."""
        full = parse.full_view(request.view, default=True)
        record = await self._find(parse.job_id(request.job_id))
        history = await self._reader.history(record.job.job_id) if full else ()
        return pb.GetJobResponse(job=wire.job(record, history or (_first(record),) if full else ()))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """See the contract."""
        full = parse.full_view(request.view, default=False)
        asked = paging(request)
        page = await self._reader.find(parse.job_query(request), asked.limit, asked.cursor)
        jobs = [wire.job(record, await self._reader.history(record.job.job_id) if full else ()) for record in page.items]
        return pb.ListJobsResponse(jobs=jobs, next_page_token=next_page_token(request, page.cursor))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        """See the contract."""
        job_id = parse.job_id(request.job_id)
        async with self._reader.watch(job_id) as changes:
            found = await self._find(job_id)
            yield pb.WatchJobResponse(job=wire.job(found))
            if found.state.is_final:
                return
            async for record, change in changes:
                if not change.state.is_final and _order(change) <= _order_of(found):
                    continue
                yield pb.WatchJobResponse(job=wire.job(replace(record, state=change.state)), change=wire.change(change))
                if change.state.is_final:
                    return

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        """See the contract."""
        job_id = parse.job_id(request.job_id)
        for _ in range(CANCEL_TRIES):
            record = await self._find(job_id)
            if record.state is State.CANCELLED:
                return pb.CancelJobResponse(job=wire.job(record))
            if record.state.is_final or record.state is State.RUNNING:
                raise FailedPrecondition(f"the job is {record.state} and can no longer be cancelled")
            await self._cancel(record)
        raise Unavailable("the ledger lags behind; the cancellation is on its way, look at the job again in a moment")

    async def _cancel(self, record: Record) -> None:
        """Tell the ledger, and wait until it has decided."""
        async with self._reader.watch(record.job.job_id) as changes:
            cancelled = Event(record.job, State.CANCELLED, self._clock(), code="CANCELLED")
            await self._broker.publish([Message("job.cancelled", encode_event(cancelled))])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_PATIENCE_S):
                    await anext(changes)

    async def _find(self, job_id: str) -> Record:
        record = await self._reader.get(job_id) or self._recent.get(job_id)
        if record is None:
            raise NotFound(
                f"there is no job {job_id!r}; ids are those that SubmitJob answered, ended jobs are forgotten after their retention"
            )
        return record


def _judge(request: pb.SubmitJobRequest) -> Submission | SickbayError:
    try:
        return parse.submission(request)
    except SickbayError as error:
        return error


def _batch_result(result: Accepted | SickbayError) -> pb.BatchSubmitResult:
    if isinstance(result, Accepted):
        return pb.BatchSubmitResult(job_id=result.job.job_id, duplicate=result.duplicate)
    return pb.BatchSubmitResult(error=batch_error(fault_of(result)))


def _first(record: Record) -> Change:
    return Change(record.job.submitted_at, State.QUEUED, 0, 0)


def _order(change: Change) -> tuple[int, int, int]:
    return (change.generation, change.attempt, change.state.rank)


def _order_of(record: Record) -> tuple[int, int, int]:
    return (record.job.generation, record.job.attempt, record.state.rank)
