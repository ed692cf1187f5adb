"""QuarantineService: parse, one core call, reply."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from controlplane.release import Releaser
from controlplane.requeue import Requeuer
from sickbay.concurrency.tasks import DetachedTasks, detached
from sickbay.contract import lost, responses
from sickbay.contract import requests as parse
from sickbay.contract.paging import next_page_token, parse_paging
from sickbay.domain.access import Principal, Right
from sickbay.domain.errors import NotFound, Unavailable
from sickbay.domain.queries import JobEdit
from sickbay.job_types.view import JobTypeView
from sickbay.jobs.v1 import quarantine_service_pb2 as pb
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceServicer
from sickbay.ports import Clock, QuarantineStore
from sickbay.server.access.caller import principal_of
from sickbay.server.audit.notes import notes_of


class QuarantineApi(QuarantineServiceServicer):
    """Serves QuarantineService."""

    def __init__(
        self,
        *,
        quarantine: QuarantineStore,
        releaser: Releaser,
        requeuer: Requeuer,
        on_released: Callable[[], None],
        clock: Clock,
        types: JobTypeView | None = None,
    ) -> None:
        """`on_released` is called when a job has left the quarantine; `types` say what an edited payload must be."""
        self._types = types or JobTypeView(None, None)
        self._quarantine = quarantine
        self._requeuer = requeuer
        self._releaser = releaser
        self._on_released = on_released
        self._clock = clock
        self.detached = DetachedTasks()

    async def ListQuarantinedJobs(self, request: pb.ListQuarantinedJobsRequest, context: Any) -> pb.ListQuarantinedJobsResponse:
        """See the contract."""
        principal = principal_of(context)
        paging = parse_paging(request, principal.name)
        query = parse.quarantine_query(request, self._clock(), principal)
        page = await self._quarantine.list_quarantined(query, paging.limit, paging.cursor)
        token = next_page_token(request, page.cursor, principal.name)
        return pb.ListQuarantinedJobsResponse(jobs=map(responses.quarantined, page.items), next_page_token=token, total_size=page.total)

    async def GetQuarantinedJob(self, request: pb.GetQuarantinedJobRequest, context: Any) -> pb.GetQuarantinedJobResponse:
        """See the contract."""
        job_id, principal = parse.job_id(request.job_id), principal_of(context)
        found = await self._quarantine.get_quarantined(job_id)
        if found is None or not principal.sees(found.record.job.tenant):
            raise NotFound(f"job {job_id!r} is not in quarantine; it may have left; GetJob shows where it is")
        return pb.GetQuarantinedJobResponse(job=responses.quarantined_details(found, hides_payload=not principal.may(Right.PAYLOADS)))

    async def ListFailureGroups(self, request: pb.ListFailureGroupsRequest, context: Any) -> pb.ListFailureGroupsResponse:
        """See the contract."""
        principal = principal_of(context)
        paging = parse_paging(request, principal.name)
        kind, tenants = parse.job_type_filter(request.job_type), parse.tenants(request.tenant, principal)
        page = await self._quarantine.groups(kind, tenants, paging.limit, paging.cursor)
        token = next_page_token(request, page.cursor, principal.name)
        return pb.ListFailureGroupsResponse(groups=map(responses.failure_group, page.items), next_page_token=token)

    @detached
    async def ResubmitJob(self, request: pb.ResubmitJobRequest, context: Any) -> pb.ResubmitJobResponse:
        """See the contract."""
        principal = principal_of(context)
        job_id, etag, actor = parse.job_id(request.job_id), parse.etag(request.etag), parse.actor(request.actor, principal)
        edit = parse.edit(request)
        await self._note_before(job_id, context)
        if not request.skip_validation:
            await self._check(job_id, edit, principal)
        lease = await self._quarantine.lease_job(job_id, edit, etag, actor, principal.tenants)
        (record,) = await self._releaser.release([lease])
        self._on_released()
        return pb.ResubmitJobResponse(job=responses.job(record))

    @detached
    async def DiscardJob(self, request: pb.DiscardJobRequest, context: Any) -> pb.DiscardJobResponse:
        """See the contract."""
        principal = principal_of(context)
        job_id, etag, actor = parse.job_id(request.job_id), parse.etag(request.etag), parse.actor(request.actor, principal)
        await self._note_before(job_id, context)
        record = await self._quarantine.discard(job_id, etag, actor, principal.tenants)
        self._on_released()
        return pb.DiscardJobResponse(job=responses.job(record))

    @detached
    async def RequeueJobs(self, request: pb.RequeueJobsRequest, context: Any) -> pb.RequeueJobsResponse:
        """See the contract."""
        principal = principal_of(context)
        paging = parse_paging(request, principal.name)
        query, order = lost.lost_query(request, self._clock(), principal), lost.requeue_order(request, principal)
        page = await self._requeuer.requeue(query, order, min(paging.limit, lost.MAX_REQUEUED), paging.cursor)
        token = next_page_token(request, page.cursor, principal.name)
        return pb.RequeueJobsResponse(jobs=map(lost.requeued, page.items), next_page_token=token)

    async def _note_before(self, job_id: str, context: Any) -> None:
        """Note its state and tenant for the audit log; that it is not there is for the action to say."""
        with suppress(Unavailable):
            if (found := await self._quarantine.get_quarantined(job_id)) is not None:
                job, notes = found.record.job, notes_of(context)
                notes.before, notes.tenant = f"{found.record.state}, generation {job.generation}", job.tenant

    async def _check(self, job_id: str, edit: JobEdit, principal: Principal) -> None:
        """Raise InvalidArgument if an edited payload does not fit the job's type; that the job is there is checked when it is leased."""
        if edit.payload_json is None:
            return
        found = None if edit.job_type else await self._quarantine.get_quarantined(job_id)
        known = found.record.job if found is not None and principal.sees(found.record.job.tenant) else None
        job_type = edit.job_type or (known.job_type if known is not None else "")
        if job_type and (mistake := await self._types.mistake(job_type, edit.payload_json)):
            raise mistake.advised("correct it, or set skip_validation (skipValidation, --skip-validation) to take it as it is")
