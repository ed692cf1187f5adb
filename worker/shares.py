"""How many of a worker's slots one flow of jobs may hold, and which flows flood. Pure: `now` is seconds of a monotonic clock.

- A flow whose `share` is set holds at most that part of the slots, whatever else happens.
- Otherwise it may use all of them while no other flow was seen for RECENT_S: a worker with one kind of jobs loses nothing.
- With others about, it holds three quarters. What is left is lent to it while its runs are short, because such a slot comes back soon.
- The last slots, a twentieth and at least one, are kept for flows that hold fewer slots than are free (the dynamic thresholds of packet
  switches, Choudhury and Hahne 1998). So jobs that hang never hold all slots, however short they were before: neither one flow, nor a
  few together. Workers with fewer than LENDING slots cannot afford that: there flows may hold all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sickbay.domain.lane import Flow

DEFAULT_SHARE: Final = 0.75
LENDING: Final = 4
KEPT: Final = 20
"""Of so many slots one is kept."""
RECENT_S: Final = 300.0
SHORT_S: Final = 0.25
FLOOD_S: Final = 5.0
"""A flow floods for so long after its last job was moved, or waited in the lane of the demoted."""
MAX_FLOWS: Final = 10_000
_SMOOTH: Final = 0.1


@dataclass(slots=True)
class _State:
    running: int = 0
    mean_s: float = 0.0
    floods_until: float = 0.0


class Shares:
    """One per worker. Counts the slots that each flow holds."""

    def __init__(self, slots: int, share_of: Callable[[str], float | None]) -> None:
        """`share_of` is what the settings say of a job type: a part of the slots, None if nothing."""
        self._slots = slots
        self._kept = max(1, slots // KEPT)
        self._share_of = share_of
        self._flows: dict[Flow, _State] = {}
        self._latest: Flow | None = None
        self._latest_at = self._other_at = float("-inf")
        self._floods: set[Flow] = set()
        self.held = 0
        """How many slots are held in all."""

    def saw(self, flow: Flow, now: float) -> None:
        """A job of the flow has come."""
        if flow != self._latest:
            self._latest, self._other_at = flow, self._latest_at
        self._latest_at = now

    def begin(self, flow: Flow) -> None:
        """One takes a slot."""
        self._state(flow).running += 1
        self.held += 1

    def end(self, flow: Flow, seconds: float | None = None) -> None:
        """One gives its slot back, after so many seconds if it has ended."""
        state = self._state(flow)
        state.running -= 1
        self.held -= 1
        if seconds is not None:
            state.mean_s += _SMOOTH * (seconds - state.mean_s)

    def holds_part(self, flow: Flow, parts: int, now: float) -> bool:
        """Whether it holds at least one of so many parts of the slots that it may hold."""
        state = self._flows.get(flow)
        return state is not None and state.running * parts >= self._limit(flow, state, now)

    def may_start(self, flow: Flow, now: float) -> bool:
        """Whether one more of the flow may take a slot; the caller knows that one is free."""
        state = self._flows.get(flow)
        running = 0 if state is None else state.running
        if running >= self._limit(flow, state, now):
            return False
        free = self._slots - self.held
        return free > self._kept or running < free or not self._reserves(flow, now)

    def flood(self, flow: Flow, now: float) -> None:
        """The flow floods its lane: from now on, for FLOOD_S."""
        self._state(flow).floods_until = now + FLOOD_S
        self._floods.add(flow)

    def is_flood(self, flow: Flow, now: float) -> bool:
        """Whether it floods."""
        state = self._flows.get(flow)
        return state is not None and state.floods_until > now

    def calm(self, flow: Flow) -> None:
        """It floods no more, as far as known."""
        self._state(flow).floods_until = 0.0
        self._floods.discard(flow)

    @property
    def has_floods(self) -> bool:
        """Whether any flow has flooded lately."""
        return bool(self._floods)

    def floods(self, now: float) -> frozenset[Flow]:
        """All flows that flood."""
        self._floods = {flow for flow in self._floods if self.is_flood(flow, now)}
        return frozenset(self._floods)

    def _limit(self, flow: Flow, state: _State | None, now: float) -> int:
        share = self._share_of(flow.job_type)
        if share is not None:
            return max(1, int(share * self._slots))
        if not self._reserves(flow, now):
            return self._slots
        is_short = state is None or state.mean_s <= SHORT_S
        return self._slots if is_short else int(DEFAULT_SHARE * self._slots)

    def _reserves(self, flow: Flow, now: float) -> bool:
        """Whether others are about for whom slots are kept."""
        other_at = self._other_at if flow == self._latest else self._latest_at
        return self._slots >= LENDING and now - other_at < RECENT_S

    def _state(self, flow: Flow) -> _State:
        state = self._flows.get(flow)
        if state is None:
            if len(self._flows) >= MAX_FLOWS:
                self._flows = {one: kept for one, kept in self._flows.items() if kept.running or one in self._floods}
            state = self._flows[flow] = _State()
        return state
