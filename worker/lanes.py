"""Which waiting job a worker starts next: the lanes by their weights, and within a lane the flows in turn. Pure.

Smooth weighted round robin: while jobs wait in all lanes, each gets exactly its weight of every 15 starts, evenly spread. A lane in which
nothing can start collects no credit, so its weight goes to the others, and it does not make up for it afterwards.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from sickbay.domain.lane import WEIGHTS, Flow, Lane


class Waiting(Protocol):
    """What waits in a hand."""

    @property
    def flow(self) -> Flow:
        """Whose job it is."""


W = TypeVar("W", bound=Waiting)
MayStart = Callable[[Flow], bool]
"""Whether the next job of the flow may take a slot now."""


class Hand(Generic[W]):
    """The jobs of one lane that the worker has received and not started."""

    def __init__(self) -> None:
        """None yet."""
        self._flows: OrderedDict[Flow, deque[W]] = OrderedDict()
        self.size = 0

    def add(self, one: W) -> None:
        """One that has just come waits behind those of its flow."""
        self._flows.setdefault(one.flow, deque()).append(one)
        self.size += 1

    def add_first(self, one: W) -> None:
        """One that was taken waits before those of its flow."""
        self._flows.setdefault(one.flow, deque()).appendleft(one)
        self.size += 1

    def startable(self, may_start: MayStart) -> Flow | None:
        """The first flow in turn of which one may start; None if there is none."""
        for flow in self._flows:
            if may_start(flow):
                return flow
        return None

    def take(self, flow: Flow) -> W:
        """The oldest of this flow, which then waits for its next turn behind the others."""
        waiting = self._flows[flow]
        one = waiting.popleft()
        self.size -= 1
        if waiting:
            self._flows.move_to_end(flow)
        else:
            del self._flows[flow]
        return one

    def take_all(self, flow: Flow) -> deque[W]:
        """All of this flow, the oldest first."""
        taken: deque[W] = self._flows.pop(flow, deque())
        self.size -= len(taken)
        return taken

    def clear(self) -> list[W]:
        """All, each flow's oldest first."""
        taken = [one for waiting in self._flows.values() for one in waiting]
        self._flows.clear()
        self.size = 0
        return taken

    @property
    def counts(self) -> Mapping[Flow, int]:
        """How many wait of each flow."""
        return {flow: len(waiting) for flow, waiting in self._flows.items()}

    def __contains__(self, flow: Flow) -> bool:
        return flow in self._flows

    def __iter__(self) -> Iterator[W]:
        return (one for waiting in self._flows.values() for one in waiting)


class Rotation:
    """Whose turn it is among lanes."""

    def __init__(self) -> None:
        """Nobody has had a turn."""
        self._credit = dict.fromkeys(WEIGHTS, 0)

    def next(self, ready: Mapping[Lane, Flow]) -> Lane:
        """The lane whose turn it is, of those in which something can start; there is at least one."""
        if len(ready) == 1:
            return next(iter(ready))
        for lane in ready:
            self._credit[lane] += WEIGHTS[lane]
        chosen = max(ready, key=self._credit.__getitem__)
        self._credit[chosen] -= sum(WEIGHTS[lane] for lane in ready)
        return chosen

    def idle(self, lane: Lane) -> None:
        """Nothing waits in this lane: it keeps neither credit nor debt."""
        self._credit[lane] = 0
