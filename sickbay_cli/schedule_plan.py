"""What must change so that schedules are as a file says: finds the differences, and carries them out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import grpc

from sickbay.client.errors import fault_of_call
from sickbay.schedules.v1.schedule_pb2 import Schedule, ScheduleSpec
from sickbay.schedules.v1.schedule_service_pb2 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    GetScheduleRequest,
    ListSchedulesRequest,
    UpdateScheduleRequest,
)
from sickbay.schedules.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from sickbay_cli.output import pages
from sickbay_cli.schedule_file import ScheduleFile, Written
from sickbay_cli.schedule_text import differences


class Action(StrEnum):
    """What is done with a schedule."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    KEEP = "keep"
    REFUSE = "refuse"
    """It differs, but comes from code, and is changed there."""


DONE = {Action.CREATE: "created", Action.UPDATE: "updated", Action.DELETE: "deleted", Action.KEEP: "unchanged"}


@dataclass(frozen=True, slots=True)
class Step:
    """What is done with one schedule: `changes` are keys with the values of TOML before and after, empty for a default."""

    action: Action
    tenant: str
    schedule_id: str
    changes: tuple[tuple[str, str, str], ...] = ()
    spec: ScheduleSpec | None = None
    etag: str = ""
    where: str = ""
    unread: bool = False
    """Its payload is hidden, so that it was not compared."""

    @property
    def key(self) -> tuple[str, str]:
        """Its tenant and its name."""
        return self.tenant, self.schedule_id

    @property
    def differs(self) -> bool:
        """Whether it is not as the file says."""
        return self.action is not Action.KEEP


def plan(stub: ScheduleServiceStub, file: ScheduleFile, timeout: float, *, delete_missing: bool) -> Sequence[Step]:
    """A step for each schedule of the file, in its order, and then for those that are to be deleted."""
    steps = [_step(stub, one, timeout) for one in file.schedules]
    return [*steps, *_missing(stub, file, timeout)] if delete_missing else steps


def carry_out(stub: ScheduleServiceStub, step: Step, timeout: float, actor: str, *, only_check: bool = False) -> None:
    """Make the change; with `only_check` let the service say whether it is valid. A change since it was compared is not overwritten."""
    if step.action is Action.CREATE:
        create = CreateScheduleRequest(
            schedule_id=step.schedule_id, tenant=step.tenant, spec=step.spec, validate_only=only_check, actor=actor
        )
        stub.CreateSchedule(create, timeout=timeout)
    elif step.action is Action.UPDATE:
        update = UpdateScheduleRequest(
            schedule_id=step.schedule_id, tenant=step.tenant, spec=step.spec, etag=step.etag, validate_only=only_check, actor=actor
        )
        stub.UpdateSchedule(update, timeout=timeout)
    elif step.action is Action.DELETE and not only_check:
        stub.DeleteSchedule(DeleteScheduleRequest(schedule_id=step.schedule_id, tenant=step.tenant, etag=step.etag), timeout=timeout)


def _step(stub: ScheduleServiceStub, one: Written, timeout: float) -> Step:
    try:
        asked = GetScheduleRequest(schedule_id=one.schedule_id, tenant=one.tenant)
        found = stub.GetSchedule(asked, timeout=timeout).schedule
    except grpc.RpcError as error:
        if fault_of_call(error).code is not grpc.StatusCode.NOT_FOUND:
            raise
        changes = differences(ScheduleSpec(), one.spec)
        return Step(Action.CREATE, one.tenant, one.schedule_id, tuple(changes), one.spec, where=one.where)
    changes = differences(found.spec, one.spec, with_payload=not found.payload_hidden)
    action = Action.KEEP
    if changes:
        action = Action.REFUSE if found.origin == Schedule.ORIGIN_CODE else Action.UPDATE
    return Step(action, one.tenant, one.schedule_id, tuple(changes), one.spec, found.etag, one.where, found.payload_hidden)


def _missing(stub: ScheduleServiceStub, file: ScheduleFile, timeout: float) -> Iterator[Step]:
    """Those of the tenants of the file that it does not have, except those that workers announce."""
    written = {(one.tenant, one.schedule_id) for one in file.schedules}
    for tenant in file.tenants:

        def fetch(size: int, token: str, tenant: str = tenant) -> tuple[list[Schedule], str]:
            request = ListSchedulesRequest(tenant=tenant, origin=Schedule.ORIGIN_API, page_size=size, page_token=token)
            page = stub.ListSchedules(request, timeout=timeout)
            return list(page.schedules), page.next_page_token

        found, _ = pages(fetch, sys.maxsize)
        for one in found:
            if (one.tenant, one.schedule_id) not in written and one.origin == Schedule.ORIGIN_API:
                yield Step(Action.DELETE, one.tenant, one.schedule_id, etag=one.etag, where=one.schedule_id)
