"""ScheduledJobService: parse, one core call, reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from controlplane.release import Releaser
from sickbay.concurrency.tasks import DetachedTasks, detached
from sickbay.contract import requests as parse
from sickbay.contract import responses
from sickbay.contract import scheduled_jobs as contract
from sickbay.contract.audit import job_words
from sickbay.contract.paging import next_page_token, parse_paging
from sickbay.domain.access import Principal, Right
from sickbay.domain.errors import NotFound, Unavailable
from sickbay.domain.job import time_of_id
from sickbay.domain.queries import QuarantinedJob, ScheduledJobEdit
from sickbay.job_types.view import JobTypeView
from sickbay.jobs.v1 import scheduled_job_service_pb2 as pb
from sickbay.jobs.v1.scheduled_job_service_pb2_grpc import ScheduledJobServiceServicer
from sickbay.ports import Clock
from sickbay.ports.scheduled_jobs import ScheduledJobs
from sickbay.server.access.caller import principal_of
from sickbay.server.audit.notes import notes_of
from sickbay.submission.lanes import LaneChoice

YOUNG_MS: Final = 3_000
"""A job that was submitted so recently may be on its way to the ledger,"""
LOOKS_S: Final = (0.03, 0.07, 0.15, 0.3, 0.5)
"""... where it is looked for after these pauses."""

T = TypeVar("T")


class ScheduledJobApi(ScheduledJobServiceServicer):
    """Serves ScheduledJobService."""

    def __init__(
        self,
        *,
        jobs: ScheduledJobs,
        releaser: Releaser,
        lanes: LaneChoice,
        on_changed: Callable[[], None],
        clock: Clock,
        types: JobTypeView | None = None,
    ) -> None:
        """`on_changed` is called when a job may be due earlier; `types` say what a changed payload must be."""
        self._jobs = jobs
        self._releaser = releaser
        self._lanes = lanes
        self._on_changed = on_changed
        self._clock = clock
        self._types = types or JobTypeView(None, None)
        self.detached = DetachedTasks()

    async def ListScheduledJobs(self, request: pb.ListScheduledJobsRequest, context: Any) -> pb.ListScheduledJobsResponse:
        """See the contract."""
        principal = principal_of(context)
        paging = parse_paging(request, principal.name)
        page = await self._jobs.list_scheduled(contract.scheduled_query(request, principal), paging.limit, paging.cursor)
        token = next_page_token(request, page.cursor, principal.name)
        return pb.ListScheduledJobsResponse(jobs=map(contract.scheduled, page.items), next_page_token=token)

    async def GetScheduledJob(self, request: pb.GetScheduledJobRequest, context: Any) -> pb.GetScheduledJobResponse:
        """See the contract."""
        job_id, principal = parse.job_id(request.job_id), principal_of(context)
        found = await self._jobs.get_scheduled(job_id) or await self._arrival(job_id)
        if found is None or not principal.sees(found.record.job.tenant):
            raise NotFound(f"job {job_id!r} is not SCHEDULED; it may have been due; GetJob shows where it is")
        return pb.GetScheduledJobResponse(job=contract.scheduled_details(found, hides_payload=not principal.may(Right.PAYLOADS)))

    @detached
    async def UpdateScheduledJob(self, request: pb.UpdateScheduledJobRequest, context: Any) -> pb.UpdateScheduledJobResponse:
        """See the contract."""
        principal = principal_of(context)
        job_id, etag, actor = parse.job_id(request.job_id), parse.etag(request.etag), parse.actor(request.actor, principal)
        edit = contract.scheduled_edit(request)

        async def update() -> pb.UpdateScheduledJobResponse:
            if not request.skip_validation:
                await self._check(job_id, edit, principal)
            record = await self._jobs.edit_scheduled(job_id, edit, etag, actor, principal.tenants)
            self._on_changed()
            return pb.UpdateScheduledJobResponse(job=contract.scheduled(record))

        return await self._act(job_id, context, update)

    @detached
    async def RunScheduledJob(self, request: pb.RunScheduledJobRequest, context: Any) -> pb.RunScheduledJobResponse:
        """See the contract."""
        principal = principal_of(context)
        job_id, etag, actor = parse.job_id(request.job_id), parse.etag(request.etag), parse.actor(request.actor, principal)

        async def run() -> pb.RunScheduledJobResponse:
            await self._lanes.look()
            lease = await self._jobs.lease_scheduled(job_id, etag, actor, principal.tenants)
            (record,) = await self._releaser.release([lease], keys=self._lanes.keys([lease.job]))
            return pb.RunScheduledJobResponse(job=responses.job(record))

        return await self._act(job_id, context, run)

    @detached
    async def CancelScheduledJob(self, request: pb.CancelScheduledJobRequest, context: Any) -> pb.CancelScheduledJobResponse:
        """See the contract."""
        principal = principal_of(context)
        job_id, etag, actor = parse.job_id(request.job_id), parse.etag(request.etag), parse.actor(request.actor, principal)

        async def cancel() -> pb.CancelScheduledJobResponse:
            return pb.CancelScheduledJobResponse(
                job=responses.job(await self._jobs.cancel_scheduled(job_id, etag, actor, principal.tenants))
            )

        return await self._act(job_id, context, cancel)

    async def _act(self, job_id: str, context: Any, action: Callable[[], Awaitable[T]]) -> T:
        """The reply of an action, which is tried again once its job has arrived in the ledger."""
        await self._note_before(job_id, context)
        try:
            return await action()
        except NotFound:
            if await self._arrival(job_id) is None:
                raise
        await self._note_before(job_id, context)
        return await action()

    async def _arrival(self, job_id: str) -> QuarantinedJob | None:
        """The job once its event has arrived, if that may be on its way; None if it does not within moments."""
        made_at = time_of_id(job_id)
        if made_at is None or abs(self._clock() - made_at) > YOUNG_MS:
            return None
        for pause_s in LOOKS_S:
            await asyncio.sleep(pause_s)
            if (found := await self._jobs.get_scheduled(job_id)) is not None:
                return found
        return None

    async def _note_before(self, job_id: str, context: Any) -> None:
        """Note its state and tenant for the audit log; that it is not there is for the action to say."""
        with suppress(Unavailable):
            if (found := await self._jobs.get_scheduled(job_id)) is not None:
                notes = notes_of(context)
                notes.before, notes.tenant = job_words(responses.job(found.record)), found.record.job.tenant

    async def _check(self, job_id: str, edit: ScheduledJobEdit, principal: Principal) -> None:
        """Raise InvalidArgument if another payload does not fit the job's type; that the job is there is checked when it is changed."""
        if edit.payload_json is None:
            return
        found = await self._jobs.get_scheduled(job_id)
        if found is None or not principal.sees(found.record.job.tenant):
            return
        if mistake := await self._types.mistake(found.record.job.job_type, edit.payload_json):
            raise mistake.advised("correct it, or set skip_validation (skipValidation, --skip-validation) to take it as it is")
