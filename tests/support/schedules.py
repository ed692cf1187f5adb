"""Short ways to write schedules, and to let them fire."""

from __future__ import annotations

from sickbay.domain.schedule import Overlap, Schedule, ScheduleKey, ScheduleSpec, Timing, WhileOpen
from sickbay.domain.schedule_firing import decide
from sickbay.domain.schedule_times import next_time
from tests.support.clock import START

KEY = ScheduleKey("default", "nightly")
_OF_TIMING = ("cron", "every_ms", "timezone", "start_at", "end_at", "jitter_ms")
_OF_SPEC = ("job_type", "payload_json", "priority", "catch_up_ms", "pause_on_failure", "description")


def schedule(*, key=KEY, overlap="SKIP", while_open="RUN", **fields):
    """A schedule of every second, as it is right after its creation at START."""
    timing = {name: fields.pop(name) for name in _OF_TIMING if name in fields}
    if "cron" not in timing:
        timing.setdefault("every_ms", 1_000)
    timing = Timing(**timing)
    spec = {"job_type": "email", **{name: fields.pop(name) for name in _OF_SPEC if name in fields}}
    spec = ScheduleSpec(timing=timing, overlap=Overlap(overlap), while_open=WhileOpen(while_open), **spec)
    return Schedule(key, spec, **{"created_at": START, "updated_at": START, "next_at": next_time(timing, START), **fields})


async def fire(ledger, *, is_open=False, limit=50):
    """What fired."""
    return await ledger.schedules.fire_due(decide, lambda *_: is_open, limit)
