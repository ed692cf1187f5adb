"""Announces the schedules in the code of a worker's handlers, which the control plane then creates and changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sickbay.domain.code_schedule import RENEW_MS, CodeScheduleSet, set_of
from sickbay.handlers.registry import HandlerSpec
from sickbay.ports import Clock
from sickbay.ports.code_schedules import CodeSchedules
from worker.announcements import AGAIN_S, Announcements

RENEW_S: Final = RENEW_MS / 1000
_TROUBLE: Final = "this worker cannot announce the schedules of its handlers, so they remain as they are: %s"


class AnnouncedSchedules(Announcements[str, CodeScheduleSet]):
    """See `Announcements`. All schedules of the worker are one set."""

    def __init__(
        self,
        registry: CodeSchedules | None,
        handlers: Iterable[HandlerSpec],
        clock: Clock,
        *,
        every_s: float = RENEW_S,
        again_s: float = AGAIN_S,
    ) -> None:
        """`handlers` are those of modules: what is in the settings file, or in a program that connects, has no schedule."""
        super().__init__(registry, _content(handlers), _TROUBLE, every_s=every_s, again_s=again_s)
        self._clock = clock
        self.since = clock()
        """When the code was loaded that has these (ms)."""

    @property
    def digest(self) -> str:
        """What the heartbeats of the worker say of them; empty if there are none."""
        return next(iter(self.keys), "")

    def replace(self, handlers: Iterable[HandlerSpec]) -> None:
        """From now on it has those of these handlers."""
        content = _content(handlers)
        if [*content] != self.keys:
            self.since = max(self._clock(), self.since + 1)
        self.set(content)


def _content(handlers: Iterable[HandlerSpec]) -> dict[str, CodeScheduleSet]:
    found = set_of([one for spec in handlers for one in spec.schedules])
    return {} if found is None else {found.digest: found}
