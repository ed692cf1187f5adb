"""Schedules that are written in the code of handlers, as workers announce them, and which of several announcements is in force. Pure.

Each worker announces all its schedules as one set. Of several live workers that announce the same schedule, as during a deployment, the
one counts whose code was loaded last: so a new version wins when its first worker is there, and so does an older one that is brought back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from sickbay.domain.schedule import ScheduleKey, ScheduleSpec
from sickbay.domain.workers import Fleet

RETENTION_MS: Final = 86_400_000
"""How long a set is kept after its last worker."""
RENEW_MS: Final = 60_000
"""How often a live worker says that its set is in use."""


@dataclass(frozen=True, slots=True)
class CodeSchedule:
    """A schedule of a handler; `handler` is where the function is (`module.name`)."""

    key: ScheduleKey
    spec: ScheduleSpec
    handler: str = ""


@dataclass(frozen=True)
class CodeScheduleSet:
    """All schedules that a worker announces, in the order of their keys; `digest` names the set, the same for the same set of any worker.

    One that was read is not `is_whole` if another version has written more than can be understood.
    """

    schedules: tuple[CodeSchedule, ...]
    is_whole: bool = True

    @cached_property
    def digest(self) -> str:
        """Of everything that is announced."""
        return hashlib.blake2b(repr(self.schedules).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class InForce:
    """A schedule as the code says it that was loaded last, at `since` (ms). `is_disputed`: other live workers announce it otherwise."""

    schedule: CodeSchedule
    since: int
    is_disputed: bool = False


@dataclass(frozen=True, slots=True)
class Announced:
    """What live workers announce. `is_certain`: they certainly announce nothing else. `has_workers`: there is a live worker."""

    schedules: Mapping[ScheduleKey, InForce] = field(default_factory=dict)
    is_certain: bool = False
    has_workers: bool = False


NOTHING_KNOWN: Final = Announced()


def set_of(schedules: Sequence[CodeSchedule]) -> CodeScheduleSet | None:
    """The set of these; None if there are none."""
    return CodeScheduleSet(tuple(sorted(schedules, key=lambda one: one.key))) if schedules else None


def announced(sets: Mapping[str, CodeScheduleSet], fleet: Fleet) -> Announced:
    """What the live workers announce, of which these sets are known by their digests.

    A worker that the registry does not know, or whose set is unknown, may announce anything.
    """
    found: dict[ScheduleKey, InForce] = {}
    for worker in sorted(fleet.workers, key=lambda one: (one.code_since, one.schedules)):
        known = sets.get(worker.schedules)
        for one in known.schedules if known is not None else ():
            before = found.get(one.key)
            is_disputed = before is not None and (before.is_disputed or before.schedule != one)
            found[one.key] = InForce(one, worker.code_since, is_disputed)
    digests = {worker.schedules for worker in fleet.workers} - {""}
    is_known = all(digest in sets and sets[digest].is_whole for digest in digests)
    return Announced(found, is_known and fleet.unannounced == 0, bool(fleet.workers))
