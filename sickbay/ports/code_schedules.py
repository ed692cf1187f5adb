"""The schedules in the code of live workers. The rules of the package apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sickbay.domain.code_schedule import CodeScheduleSet


class CodeSchedules(Protocol):
    """The sets of schedules that workers have announced. Each is kept for `RETENTION_MS` after it was announced or renewed last."""

    async def announce(self, sets: Sequence[CodeScheduleSet]) -> None:
        """Enter sets. Done once at the start of a worker, when its code changes, and when one is unknown."""

    async def renew(self, digests: Sequence[str]) -> Sequence[str]:
        """Keep sets that are in use; repeat it every `RENEW_MS`. Returns those that are unknown, to be announced again."""

    async def announced(self, seen: Mapping[str, CodeScheduleSet]) -> Mapping[str, CodeScheduleSet]:
        """All that are known, by digest. Those in `seen`, which never change, are not read again. Unavailable if they are unknown."""

    async def changed(self, seconds: float) -> None:
        """Wait for so many seconds, or until something is announced, if the registry hears of that at once."""
