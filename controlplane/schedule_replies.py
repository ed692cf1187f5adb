"""Schedules as ScheduleService shows them: with their next times, and without what the principal may not read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sickbay.contract import schedules as contract
from sickbay.contract.schedules import Shown
from sickbay.domain.access import Principal, Right
from sickbay.domain.errors import InvalidArgument
from sickbay.domain.schedule import Schedule, ScheduleState
from sickbay.domain.schedule_times import describe, next_times
from sickbay.schedules.v1.schedule_pb2 import Schedule as Message


class ScheduleReplies:
    """Creates the messages."""

    def __init__(self, is_orphaned: Callable[[Schedule], bool]) -> None:
        """`is_orphaned`: whether no live worker announces a schedule of origin CODE."""
        self._is_orphaned = is_orphaned

    def of(self, found: Schedule, principal: Principal, now: int) -> Message:
        """One schedule, with everything."""
        shown = Shown(*_times(found, now), self._is_orphaned(found))
        return contract.schedule(found, shown, hides_payload=not principal.may(Right.PAYLOADS))

    def in_list(self, found: Schedule) -> Message:
        """One of many: without its payload, and with its next time alone, which needs no search."""
        shown = Shown((found.next_at,) if found.next_at else (), "", self._is_orphaned(found))
        return contract.schedule(found, shown, has_payload=False)


def _times(found: Schedule, now: int) -> tuple[Sequence[int], str]:
    """Its next times, and when it runs in words; what this machine cannot read, it says."""
    timing, after = found.spec.timing, max(now, found.next_at - 1)
    ahead = "resumed now, it would run at" if found.state is ScheduleState.PAUSED else "next"
    try:
        return next_times(timing, after) if found.state is ScheduleState.ACTIVE else (), describe(timing, after, ahead)
    except InvalidArgument as error:  # the time zones of another machine
        return (), str(error)
