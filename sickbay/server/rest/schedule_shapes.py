"""The exceptions of REST from the rules of `transcoding` for schedules."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from sickbay.domain.job import NAME_PATTERN
from sickbay.jobs.v1.job_pb2 import Job
from sickbay.schedules.v1.schedule_pb2 import ScheduleRun
from sickbay.server.rest.transcoding.fields import Shape, Shapes
from sickbay.server.rest.transcoding.kinds import known_value

_BOUNDS: Final = {"start_time": "startAt", "end_time": "endAt"}
_NAME: Final = {"pattern": f"^{NAME_PATTERN}$"}
_NAME_OR_NONE: Final = {"pattern": f"^({NAME_PATTERN})?$"}

SCHEDULES: Final[Shapes] = MappingProxyType(
    {
        "sickbay.schedules.v1.ScheduleSpec": Shape(
            names=_BOUNDS, sparse=frozenset({"cron", "description"}), documented={"job_type": _NAME}
        ),
        "sickbay.schedules.v1.Schedule": Shape(
            names={"create_time": "createdAt", "update_time": "updatedAt", "buffered_time": "bufferedAt"},
            sparse=frozenset({"orphaned", "pause_note", "paused_by", "description_of_times", "payload_hidden"}),
        ),
        "sickbay.schedules.v1.ScheduleRun": Shape(
            names={"tick_time": "tickAt", "handle_time": "handledAt", "end_time": "endedAt"},
            sparse=frozenset({"outcome", "job_id", "job_state", "actor"}),
            kinds={"outcome": known_value(ScheduleRun.Outcome.DESCRIPTOR), "job_state": known_value(Job.State.DESCRIPTOR)},
        ),
        # Requests.
        "sickbay.schedules.v1.CreateScheduleRequest": Shape(documented={"schedule_id": _NAME, "tenant": _NAME_OR_NONE}),
        "sickbay.schedules.v1.BackfillScheduleRequest": Shape(names=_BOUNDS),
    }
)
