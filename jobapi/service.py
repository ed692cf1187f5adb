"""JobService: parse, one core call, reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from jobapi.cancel import Canceller
from jobapi.explain import Explainer
from sickbay.concurrency.slices import Slices
from sickbay.concurrency.tasks import DetachedTasks, detached
from sickbay.contract import explanations, responses, resume
from sickbay.contract import requests as parse
from sickbay.contract.paging import next_page_token, parse_paging
from sickbay.contract.requests import Submission
from sickbay.domain.access import Principal, Right, Tenants
from sickbay.domain.errors import NotFound, SickbayError
from sickbay.domain.job import JobRecord, JobState, StateChange
from sickbay.domain.progress import is_later
from sickbay.domain.queries import Accepted
from sickbay.domain.truth import Truth
from sickbay.fleet import FleetView
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Broker, Clock, JobReader
from sickbay.ports.lost import Holds
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.server.access.caller import principal_of
from sickbay.server.audit.notes import notes_of
from sickbay.server.errors import batch_error, fault_of
from sickbay.submission.circuits import Circuits
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import JobSubmitter


class JobApi(JobServiceServicer):
    """Serves JobService."""

    def __init__(
        self,
        *,
        submitter: JobSubmitter,
        reader: JobReader,
        holds: Holds,
        recent: RecentJobs,
        broker: Broker,
        clock: Clock,
        policies: Policies | None = None,
        circuits: Circuits | None = None,
        fleet: FleetView | None = None,
        slices: Slices | None = None,
        observer: Observer = NOBODY,
    ) -> None:
        """Read from `reader`, and from `recent` jobs that are not in the ledger yet.

        `policies`, `circuits` and `fleet` say what happens to jobs, for those who submit them or ask for an explanation.
        `slices` says when work on a list of jobs goes on.
        """
        self._slices = slices or Slices()
        self._submitter = submitter
        self._reader = reader
        self._recent = recent
        self.detached = DetachedTasks()
        self._circuits = circuits or Circuits()
        self._explainer = Explainer(reader, self._circuits, policies or Policies(Settings()), clock, self._find, fleet=fleet)
        self._canceller = Canceller(reader, holds, broker, clock, self._find, observer=observer)

    @detached
    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        """See the contract."""
        self._slices.called()
        principal = principal_of(context)
        (result,) = await self._submitter.accept([parse.submission(request, principal)])
        if isinstance(result, SickbayError):
            raise result
        accepted = JobRecord(result.job, result.job.first_state, result.job.submitted_at)
        return pb.SubmitJobResponse(job=responses.job(accepted), duplicate=result.duplicate, breaker=self._notice(result))

    @detached
    async def BatchSubmitJobs(self, request: pb.BatchSubmitJobsRequest, context: Any) -> pb.BatchSubmitJobsResponse:
        """See the contract."""
        principal = principal_of(context)
        validated = [_validate(item, principal) async for item in self._slices.over(parse.batch(request))]
        accepted = iter(await self._submitter.accept([item for item in validated if isinstance(item, Submission)]))
        results = [next(accepted) if isinstance(item, Submission) else item for item in validated]
        return pb.BatchSubmitJobsResponse(results=[self._batch_result(result) async for result in self._slices.over(results)])

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        """See the contract."""
        full = parse.full_view(request.view, default=True)
        principal = principal_of(context)
        record = await self._find(parse.job_id(request.job_id), principal.tenants)
        if not full:
            return pb.GetJobResponse(job=responses.job(replace(record, result=None)))
        history = await self._reader.history(record.job.job_id) or (_initial_change(record),)
        return pb.GetJobResponse(job=responses.job(record, history, hides_result=not principal.may(Right.PAYLOADS)))

    async def ExplainJob(self, request: pb.ExplainJobRequest, context: Any) -> pb.ExplainJobResponse:
        """See the contract."""
        case, explained = await self._explainer.explain(parse.job_id(request.job_id), principal_of(context).tenants)
        return pb.ExplainJobResponse(explanation=explanations.job(case, explained))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """See the contract."""
        full = parse.full_view(request.view, default=False)
        principal = principal_of(context)
        paging = parse_paging(request, principal.name)
        page = await self._reader.find(parse.job_query(request, principal), paging.limit, paging.cursor)
        histories = await self._reader.histories([record.job.job_id for record in page.items]) if full else {}
        hides = not principal.may(Right.PAYLOADS)
        jobs = [
            responses.job(record, histories.get(record.job.job_id, ()), hides_result=hides)
            async for record in self._slices.over(page.items)
        ]
        return pb.ListJobsResponse(jobs=jobs, next_page_token=next_page_token(request, page.cursor, principal.name))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        """See the contract."""
        job_id, principal = parse.job_id(request.job_id), principal_of(context)
        told = partial(responses.job, hides_result=not principal.may(Right.PAYLOADS))
        async with self._reader.watch(job_id) as changes:
            found = await self._find(job_id, principal.tenants)
            sent, is_final, known = resume.position_of(found), found.state.is_final, found
            since = resume.parse_token(request.resume_token)
            if since is None:
                yield pb.WatchJobResponse(job=told(found), resume_token=resume.token_of(found))
            else:
                missed = await self._missed(job_id, since)
                for change in missed:
                    sent, is_final = max(sent, resume.position(change)), is_final or change.state.is_final
                    yield _change_response(told(_as_of(found, change)), found, change)
                if (found.progress is not None or found.cancel_requested_at) and not missed:
                    yield pb.WatchJobResponse(job=told(found), resume_token=resume.token_of(found))
            if is_final:
                return
            async for record, news in changes:
                if news is None:
                    if resume.position_of(record) == sent and _says_more(record, known):
                        known = record
                        yield pb.WatchJobResponse(job=told(record), resume_token=resume.token_of(record))
                    continue
                if resume.position(news) <= sent:
                    continue
                sent, known = resume.position(news), record
                yield _change_response(told(replace(record, state=news.state)), record, news)
                if news.state.is_final:
                    return

    @detached
    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        """See the contract."""
        job_id, principal = parse.job_id(request.job_id), principal_of(context)
        await self._note_before(job_id, context)
        if principal.tenants is not None:  # before anything is done; a job's tenant never changes
            await self._find(job_id, principal.tenants)
        cancelled = await self._canceller.cancel(job_id)
        return pb.CancelJobResponse(job=responses.job(cancelled, hides_result=not principal.may(Right.PAYLOADS)))

    async def _note_before(self, job_id: str, context: Any) -> None:
        """Note its state and tenant for the audit log; that it cannot be read is for the action to say."""
        with suppress(SickbayError):
            record, notes = await self._find(job_id), notes_of(context)
            notes.before, notes.tenant = f"{record.state}, generation {record.job.generation}", record.job.tenant

    def _batch_result(self, result: Accepted | SickbayError) -> pb.BatchSubmitResult:
        if isinstance(result, Accepted):
            return pb.BatchSubmitResult(job_id=result.job.job_id, duplicate=result.duplicate, breaker=self._notice(result))
        return pb.BatchSubmitResult(error=batch_error(fault_of(result)))

    def _notice(self, accepted: Accepted) -> pb.BreakerNotice | None:
        """What its producer is told about the breaker; nothing about a duplicate, which may have run long ago, and about a later job."""
        if accepted.duplicate or accepted.job.first_state is JobState.SCHEDULED:
            return None
        return explanations.notice(self._circuits.unless_closed(accepted.job.job_type, accepted.job.tenant))

    async def _missed(self, job_id: str, since: Truth) -> Sequence[StateChange]:
        """The changes of the job after `since`, in the order of truth."""
        return [change for change in await self._reader.history(job_id) if resume.position(change) > since]

    async def _find(self, job_id: str, tenants: Tenants = None) -> JobRecord:
        """The job; NotFound, also if it is of none of these tenants."""
        record = await self._reader.get(job_id) or self._recent.get(job_id)
        if record is None or not (tenants is None or record.job.tenant in tenants):
            raise NotFound(f"there is no job {job_id!r}; use an id that SubmitJob returned; ended jobs are deleted after their retention")
        return record


def _validate(request: pb.SubmitJobRequest, principal: Principal) -> Submission | SickbayError:
    try:
        return parse.submission(request, principal)
    except SickbayError as error:
        return error


def _initial_change(record: JobRecord) -> StateChange:
    return StateChange(record.job.submitted_at, record.job.first_state, 0, 0)


def _change_response(job: Job, record: JobRecord, change: StateChange) -> pb.WatchJobResponse:
    sent = responses.change(change, record.job.failures)
    return pb.WatchJobResponse(job=job, change=sent, resume_token=resume.token(change))


def _says_more(record: JobRecord, known: JobRecord) -> bool:
    """Whether a record says more than another one of the same state: of its progress, a request to cancel it, or when it is to run."""
    if record.cancel_requested_at != known.cancel_requested_at or record.job.run_at != known.job.run_at:
        return True
    return is_later(record.progress, known.progress)


def _as_of(record: JobRecord, change: StateChange) -> JobRecord:
    """The job in the state of a change, which is an earlier one unless the job is still in that state."""
    if resume.position(change) == resume.position_of(record):
        return record
    job = replace(record.job, generation=change.generation, attempt=change.attempt)
    asked_at = record.cancel_requested_at if record.cancel_requested_at <= change.at else 0
    return replace(record, state=change.state, job=job, result=None, progress=None, cancel_requested_at=asked_at)
