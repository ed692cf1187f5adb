"""A job that a worker has received, and the slot it holds."""

from __future__ import annotations

from typing import Final, Protocol

from sickbay.domain.job import Job
from sickbay.domain.lane import Flow, Lane, flow_of
from sickbay.ports import Delivery

_NOBODY: Final = Flow(Lane.MAIN, "", "")
"""The flow of messages that are no jobs."""


class Seats(Protocol):
    """Whose slots they are."""

    def give(self, flow: Flow) -> None:
        """A job of the flow lends its slot."""

    def take(self, flow: Flow) -> None:
        """A job of the flow takes a slot."""

    def end(self, one: Received) -> None:
        """A job has ended."""


class Received:
    """A delivery and what was decoded of it. It holds a slot from its start to its end, and may lend it to others meanwhile."""

    __slots__ = ("_seats", "at", "delivery", "flow", "job", "lane")

    def __init__(self, seats: Seats, delivery: Delivery, lane: Lane, job: Job | None, at: float) -> None:
        """`job` is None if it could not be decoded; `at` is when it came, once it has started when it started (seconds of the loop)."""
        self._seats = seats
        self.delivery = delivery
        self.lane = lane
        self.job = job
        self.flow = flow_of(job, lane) if job is not None else _NOBODY
        self.at = at

    def give(self) -> None:
        """Lend the slot."""
        self._seats.give(self.flow)

    def take(self) -> None:
        """Take it again, even if none is free: there may be one too many for a moment."""
        self._seats.take(self.flow)

    def end(self, _: object = None) -> None:
        """It has ended."""
        self._seats.end(self)
