"""What the circuits did, read from the states that were seen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.outage.trace import StateSeen

OPEN: Final = ("OPEN", "HALF_OPEN", "FORCED_OPEN")


def first_open(states: Sequence[StateSeen], since: float) -> float | None:
    """When the first circuit opened."""
    return next((seen.at for seen in states if seen.at >= since and seen.state in OPEN), None)


def closed_after(states: Sequence[StateSeen], since: float) -> float | None:
    """The first moment from `since` on at which no circuit was open; None if there was none, or if there are no circuits at all."""
    now: dict[str, str] = {}
    for index, seen in enumerate(states):
        now[seen.circuit] = seen.state
        until = states[index + 1].at if index + 1 < len(states) else float("inf")
        if until > since and not any(state in OPEN for state in now.values()):
            return max(since, seen.at)
    return None


def openings(states: Sequence[StateSeen], begins: float, ends: float) -> int:
    """How often a closed circuit opened in that stretch."""
    count, before = 0, dict[str, str]()
    for seen in states:
        was_closed = before.get(seen.circuit, "CLOSED") not in OPEN
        count += was_closed and seen.state == "OPEN" and begins <= seen.at < ends
        before[seen.circuit] = seen.state
    return count


def probes_between(states: Sequence[StateSeen], begins: float, ends: float) -> int:
    """How many probes ran: each is a HALF_OPEN with its own time for the next, or another cooldown, if it was too quick to be seen."""
    count, before = 0, dict[str, StateSeen]()
    for seen in states:
        last = before.get(seen.circuit)
        before[seen.circuit] = seen
        if last is None or not begins < seen.at < ends:
            continue
        is_same = (seen.state, seen.probe) == (last.state, last.probe)
        unseen = seen.state == last.state == "OPEN"
        count += not is_same and (seen.state == "HALF_OPEN" or unseen)
    return count
