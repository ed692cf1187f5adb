"""ScheduleService on the embedded back ends, with its caller and what it tells others."""

from contextlib import asynccontextmanager
from types import SimpleNamespace

from controlplane.schedule_service import ScheduleApi
from sickbay.domain.schedule import Origin, Schedule, ScheduleKey, ScheduleSpec, Timing
from sickbay.ports.access import Credentials
from sickbay.schedules.v1 import schedule_pb2
from sickbay.schedules.v1 import schedule_service_pb2 as pb
from sickbay.server.access.caller import Caller
from sickbay.server.audit.notes import AuditedContext
from tests.support.embedded_backends import open_backends

HOUR = 3_600_000
SPEC = {"job_type": "report", "cron": "0 * * * *", "payload_json": '{"secret": 1}'}


class Ward:
    """A service, its calls, and what it has told others."""

    def __init__(self, backends, **options):
        self.backends, self.heard = backends, []
        self.schedules, self.clock = backends.schedules, backends.clock
        hears = {"on_change": lambda: self.heard.append("change"), "on_submitted": lambda: self.heard.append("jobs")}
        self.api = ScheduleApi(backends.schedules, **hears, **options)
        self.notes = None

    async def __call__(self, method, *, principal=None, **fields):
        context = None
        if principal is not None:
            context = AuditedContext(SimpleNamespace(), Caller(principal, Credentials()))
            self.notes = context.notes
        return await getattr(self.api, method)(getattr(pb, f"{method}Request")(**fields), context)

    async def create(self, name="nightly", **fields):
        spec = schedule_pb2.ScheduleSpec(**SPEC | fields.pop("spec", {}))
        return (await self("CreateSchedule", schedule_id=name, spec=spec, **fields)).schedule

    async def get(self, name="nightly", **fields):
        return (await self("GetSchedule", schedule_id=name, **fields)).schedule

    async def in_code(self, name="nightly", tenant="default"):
        now = self.clock.now
        spec = ScheduleSpec("report", Timing(cron="0 * * * *"))
        made = Schedule(ScheduleKey(tenant, name), spec, origin=Origin.CODE, created_at=now, handler="reports.nightly", next_at=now + HOUR)
        await self.schedules.create_schedule(made)


@asynccontextmanager
async def open_ward(**options):
    async with open_backends() as backends:
        yield Ward(backends, **options)


def stamp(ms):
    return {"seconds": ms // 1000}
