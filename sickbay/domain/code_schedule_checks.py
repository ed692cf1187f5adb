"""Whether a schedule in code makes sense: as `check_spec` says, but one may have ended, or a worker could start today and not tomorrow."""

from __future__ import annotations

from dataclasses import replace

from sickbay.domain.schedule import ScheduleSpec
from sickbay.domain.schedule_checks import check_spec


def check_code_spec(spec: ScheduleSpec, now: int) -> None:
    """Say what is wrong, at any time; `now` (ms) is for the next times that the message has. InvalidArgument(INVALID_SCHEDULE)."""
    check_spec(replace(spec, timing=replace(spec.timing, end_at=0)), now)
    if spec.timing.end_at:
        check_spec(spec, 1)
