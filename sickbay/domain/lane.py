"""The lanes in which jobs wait for a worker, and which one a job waits in. Pure.

A worker takes from all of them by weight, so that none starves. Jobs of a type and tenant that flood their lane are demoted: what is
beyond their share waits in a lane of its own, behind which nobody else waits (`docs/isolation.md`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from sickbay.domain.priority import Priority

if TYPE_CHECKING:
    from sickbay.domain.job import Job


class Lane(StrEnum):
    """The lanes, the most urgent first."""

    HIGH = "high"
    MAIN = "main"
    DEMOTED = "demoted"
    LOW = "low"


WEIGHTS: Final = {Lane.HIGH: 8, Lane.MAIN: 4, Lane.DEMOTED: 2, Lane.LOW: 1}
"""Of so many starts a lane gets so many, while jobs wait in all of them."""

DEMOTABLE: Final = frozenset({Lane.HIGH, Lane.MAIN})
"""Lanes that a flood leaves. The others are those of jobs that can wait."""

_BY_PRIORITY: Final = {Priority.HIGH: Lane.HIGH, Priority.NORMAL: Lane.MAIN, Priority.LOW: Lane.LOW}


def lane_of(priority: Priority) -> Lane:
    """Where a job waits, and where its retries return to."""
    return _BY_PRIORITY[priority]


def lane_of_released(priority: Priority) -> Lane:
    """Where a job waits that comes out of quarantine: the backlog of an outage never stands before fresh work."""
    return Lane.MAIN if priority is Priority.HIGH else Lane.LOW


class Flow(NamedTuple):
    """The jobs of one type and tenant, by the lane that their priority names: what has a share of a worker, and floods or does not."""

    lane: Lane
    job_type: str
    tenant: str


def flow_of(job: Job, lane: Lane = Lane.MAIN) -> Flow:
    """The flow that a job belongs to, wherever it waits now; whatever waits in the high lane, a probe for example, is urgent there."""
    return Flow(Lane.HIGH if lane is Lane.HIGH else _BY_PRIORITY[job.priority], job.job_type, job.tenant)
