"""What was seen of one run. All times are seconds of the machine's monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

LEFT: Final = "left"
"""The word for a call whose caller gave up."""
REFUSALS: Final = ("refused", "full", "limited")
"""The words, or their beginnings, with which the dependency serves nobody."""


class Call(NamedTuple):
    """A call that reached the dependency; `ended` is None and `word` empty if it never did."""

    came: float
    ended: float | None
    kind: str
    number: int
    word: str

    @property
    def is_refused(self) -> bool:
        """Whether it was sent away unserved."""
        return self.word.startswith(REFUSALS)


class Submit(NamedTuple):
    """A job that was accepted; `at` is before the call."""

    at: float
    kind: str
    number: int
    job_id: str


class Start(NamedTuple):
    """A handler began to run a job."""

    at: float
    kind: str
    number: int


class StateSeen(NamedTuple):
    """A circuit was seen to be in a state; `probe` tells apart the cooldowns of an open one."""

    at: float
    circuit: str
    state: str
    probe: str = ""


class Tick(NamedTuple):
    """What a look from outside showed: jobs set aside or delayed (None: it does not tell), and jobs not served yet."""

    at: float
    parked: int | None
    unserved: int


class Ends(NamedTuple):
    """What became of all accepted jobs; `refused` were not accepted."""

    succeeded: int = 0
    quarantined: int = 0
    parked: int = 0
    waiting: int = 0
    lost: int = 0
    refused: int = 0


@dataclass
class Trace:
    """One run of one contender: `ill` and `back` are when the dependency fell ill and was well again."""

    contender: str
    began: float = 0.0
    ill: float = 0.0
    back: float = 0.0
    healed: float | None = None
    ended: float = 0.0
    submits: list[Submit] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    states: list[StateSeen] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    ends: Ends = field(default_factory=Ends)
