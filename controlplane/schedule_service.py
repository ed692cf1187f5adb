"""ScheduleService: parse, one core call, reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from controlplane.schedule_replies import ScheduleReplies
from sickbay.concurrency.tasks import DetachedTasks, detached
from sickbay.contract import requests as parse
from sickbay.contract import schedules as contract
from sickbay.contract.paging import next_page_token, parse_paging
from sickbay.contract.schedule_words import schedule_change
from sickbay.domain.errors import AlreadyExists, ErrorReason, FailedPrecondition, NotFound
from sickbay.domain.schedule import NewRun, Origin, Schedule, ScheduleKey, ScheduleSpec, Trigger
from sickbay.domain.schedule_changes import backfill_times, new_schedule, paused, resumed, with_spec
from sickbay.domain.schedule_checks import check_spec
from sickbay.job_types.view import JobTypeView
from sickbay.ports.schedules import Schedules
from sickbay.schedules.v1 import schedule_service_pb2 as pb
from sickbay.schedules.v1.schedule_service_pb2_grpc import ScheduleServiceServicer
from sickbay.server.access.caller import principal_of
from sickbay.server.audit.notes import notes_of

VALIDATED: Final = "nothing (validate_only)"
"""What an action has done that only checked, for the audit log."""


def _nothing() -> None:
    """Nobody needs to hear of it."""


class ScheduleApi(ScheduleServiceServicer):
    """Serves ScheduleService."""

    def __init__(
        self,
        schedules: Schedules,
        *,
        is_orphaned: Callable[[Schedule], bool] = lambda _: False,
        may_be_in_code: Callable[[Schedule], bool] = lambda schedule: schedule.origin is Origin.CODE,
        on_change: Callable[[], None] = _nothing,
        on_submitted: Callable[[], None] = _nothing,
        types: JobTypeView | None = None,
    ) -> None:
        """`is_orphaned`: whether certainly no live worker announces a schedule of origin CODE; `may_be_in_code`: whether one does, or may.

        `types` say what the payloads of a type must be.
        `on_change` is called when a schedule may be due earlier, `on_submitted` when jobs were submitted.
        """
        self._schedules = schedules
        self._may_be_in_code = may_be_in_code
        self._on_change = on_change
        self._on_submitted = on_submitted
        self._types = types or JobTypeView(None, None)
        self._replies = ScheduleReplies(is_orphaned)
        self.detached = DetachedTasks()

    @detached
    async def CreateSchedule(self, request: pb.CreateScheduleRequest, context: Any) -> pb.CreateScheduleResponse:
        """See the contract."""
        principal = principal_of(context)
        key, by = contract.new_key(request, principal), parse.actor(request.actor, principal)
        spec, now = contract.required_spec(request), await self._schedules.now()
        notes_of(context).tenant = key.tenant
        await self._check(spec, now)
        made = new_schedule(key, spec, now, paused_by=by if request.paused else None)
        if request.validate_only:
            await self._check_is_new(key)
            notes_of(context).after = VALIDATED
        else:
            made = await self._schedules.create_schedule(made)
            self._note(context, None, made)
            self._on_change()
        return pb.CreateScheduleResponse(schedule=self._replies.of(made, principal, now))

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Any) -> pb.GetScheduleResponse:
        """See the contract."""
        principal = principal_of(context)
        found = await self._schedules.get_schedule(contract.key_of(request, principal))
        return pb.GetScheduleResponse(schedule=self._replies.of(found, principal, await self._schedules.now()))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Any) -> pb.ListSchedulesResponse:
        """See the contract."""
        principal = principal_of(context)
        paging, query = parse_paging(request, principal.name), contract.schedule_query(request, principal)
        page = await self._schedules.list_schedules(query, paging.limit, paging.cursor)
        token = next_page_token(request, page.cursor, principal.name)
        return pb.ListSchedulesResponse(schedules=map(self._replies.in_list, page.items), next_page_token=token)

    @detached
    async def UpdateSchedule(self, request: pb.UpdateScheduleRequest, context: Any) -> pb.UpdateScheduleResponse:
        """See the contract."""
        principal = principal_of(context)
        key, etag = _named(request, context), parse.etag(request.etag)
        parse.actor(request.actor, principal)
        spec, now = contract.required_spec(request), await self._schedules.now()

        def change(before: Schedule, at: int) -> Schedule:
            if before.origin is Origin.CODE:
                raise _in_code(before, "change it there, or pause it")
            return with_spec(before, spec, at)

        before = await self._schedules.get_schedule(key)
        self._note(context, before, before)
        if spec != before.spec:  # what has no further time may be sent again as it is
            await self._check(spec, now)
        if request.validate_only:
            contract.check_etag(before, etag)
            after = change(before, now)
            notes_of(context).after = VALIDATED
        else:
            after = await self._change(key, change, etag, context)
        return pb.UpdateScheduleResponse(schedule=self._replies.of(after, principal, now))

    @detached
    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, context: Any) -> pb.DeleteScheduleResponse:
        """See the contract."""
        key, etag = _named(request, context), parse.etag(request.etag)
        before = await self._schedules.get_schedule(key)
        self._note(context, before, None)
        if self._may_be_in_code(before):
            raise _in_code(before, "remove it there and deploy that first, or pause it")
        await self._schedules.delete_schedule(key, etag)
        notes_of(context).after = "deleted"
        return pb.DeleteScheduleResponse()

    @detached
    async def PauseSchedule(self, request: pb.PauseScheduleRequest, context: Any) -> pb.PauseScheduleResponse:
        """See the contract."""
        principal = principal_of(context)
        key, etag, by = _named(request, context), parse.etag(request.etag), parse.actor(request.actor, principal)
        note = contract.note(request.note)
        after = await self._change(key, lambda before, _: paused(before, note, by), etag, context)
        return pb.PauseScheduleResponse(schedule=self._replies.of(after, principal, after.updated_at))

    @detached
    async def ResumeSchedule(self, request: pb.ResumeScheduleRequest, context: Any) -> pb.ResumeScheduleResponse:
        """See the contract."""
        principal = principal_of(context)
        key, etag = _named(request, context), parse.etag(request.etag)
        parse.actor(request.actor, principal)
        after = await self._change(key, resumed, etag, context)
        return pb.ResumeScheduleResponse(schedule=self._replies.of(after, principal, await self._schedules.now()))

    @detached
    async def TriggerSchedule(self, request: pb.TriggerScheduleRequest, context: Any) -> pb.TriggerScheduleResponse:
        """See the contract."""
        principal = principal_of(context)
        key = _named(request, context)
        wanted = contract.manual_run(request, await self._schedules.now(), principal)
        (run,) = filter(None, await self._schedules.submit_runs(key, [wanted]))  # which returns a MANUAL run even if it is not new
        notes_of(context).after = f"job {run.job_id}"
        self._on_submitted()
        return pb.TriggerScheduleResponse(run=contract.run(run))

    @detached
    async def BackfillSchedule(self, request: pb.BackfillScheduleRequest, context: Any) -> pb.BackfillScheduleResponse:
        """See the contract."""
        principal = principal_of(context)
        key, by, now = _named(request, context), parse.actor(request.actor, principal), await self._schedules.now()
        start, end = contract.backfill_window(request, now)
        found = await self._schedules.get_schedule(key)
        ticks = backfill_times(found.spec.timing, start, end)
        if request.validate_only:
            had = await self._schedules.times_with_jobs(key, start, end)
            notes_of(context).after = VALIDATED
            fresh = [contract.would_run(at) for at in ticks if at not in had]
        else:
            wanted = [NewRun(at, now, Trigger.BACKFILL, actor=by) for at in ticks]
            runs = await self._schedules.submit_runs(key, wanted)
            fresh = [contract.run(run) for run in runs if run is not None]
            notes_of(context).after = f"{len(fresh):,} jobs"
            self._on_submitted()
        return pb.BackfillScheduleResponse(runs=fresh, existing=len(ticks) - len(fresh))

    async def ListScheduleRuns(self, request: pb.ListScheduleRunsRequest, context: Any) -> pb.ListScheduleRunsResponse:
        """See the contract."""
        principal = principal_of(context)
        key, paging = contract.key_of(request, principal), parse_paging(request, principal.name)
        page = await self._schedules.list_runs(key, contract.outcome_filter(request), paging.limit, paging.cursor)
        token = next_page_token(request, page.cursor, principal.name)
        return pb.ListScheduleRunsResponse(runs=map(contract.run, page.items), next_page_token=token)

    async def _change(self, key: ScheduleKey, change: Callable[[Schedule, int], Schedule], etag: str, context: Any) -> Schedule:
        """Change it, note that for the audit log, and let the scheduler look."""
        seen: list[Schedule] = []

        def noted(before: Schedule, now: int) -> Schedule:
            seen.append(before)
            self._note(context, before, before)
            return change(before, now)

        after = await self._schedules.change_schedule(key, noted, etag)
        self._note(context, seen[-1], after)
        self._on_change()
        return after

    async def _check(self, spec: ScheduleSpec, now: int) -> None:
        """InvalidArgument if its times make no sense, or a submit would reject its payload."""
        check_spec(spec, now)
        if mistake := await self._types.rejection_now(spec.job_type, spec.payload_json):
            raise mistake

    async def _check_is_new(self, key: ScheduleKey) -> None:
        try:
            await self._schedules.get_schedule(key)
        except NotFound:
            return
        raise AlreadyExists(f"the schedule {key.schedule_id!r} exists already", ErrorReason.SCHEDULE_EXISTS)

    def _note(self, context: Any, before: Schedule | None, after: Schedule | None) -> None:
        notes = notes_of(context)
        notes.before, notes.after = schedule_change(before, after)


def _named(request: contract.Named, context: Any) -> ScheduleKey:
    """Which schedule an action is about; its tenant is noted for the audit log."""
    key = contract.key_of(request, principal_of(context))
    notes_of(context).tenant = key.tenant
    return key


def _in_code(schedule: Schedule, advice: str) -> FailedPrecondition:
    where = schedule.handler or "a handler"
    return FailedPrecondition(
        f"the schedule {schedule.key.schedule_id!r} is in the code of {where}: {advice}", ErrorReason.SCHEDULE_IN_CODE
    )
