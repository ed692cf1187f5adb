"""What the benchmark asks of a system that runs jobs, whichever it is: take jobs, show what it shows, and say what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.outage.scenarios import Scenario, Times
from benchmarks.outage.trace import StateSeen


class Look(NamedTuple):
    """Jobs set aside (None: it does not tell), given up, and not finished (None: the same)."""

    parked: int | None
    dead: int
    unfinished: int | None


@dataclass(frozen=True, slots=True)
class Setting:
    """What a system is started with."""

    scenario: Scenario
    times: Times
    port: int
    folder: Path

    @property
    def starts(self) -> Path:
        """The file to which every handler writes a line for each run."""
        return self.folder / "starts"

    @property
    def env(self) -> dict[str, str]:
        """What the handlers need to know."""
        return {"OUTAGE_PORT": str(self.port), "OUTAGE_TIMEOUT": str(self.times.timeout_s), "OUTAGE_STARTS": str(self.starts)}


class System(Protocol):
    """A running system."""

    states: list[StateSeen]
    """What its circuits were seen to be, in order; grows by itself."""

    async def submit(self, kind: str, numbers: Sequence[int], *, tenants: bool = False) -> list[str]:
        """Hand in jobs with these numbers, each of a tenant of its own if `tenants`; their ids, empty for one that was refused."""

    async def reset(self, kind: str) -> None:
        """Close the circuit of a type by hand, where that is possible."""

    async def look(self) -> Look:
        """How it is."""

    async def known(self) -> Mapping[str, str] | None:
        """The state of each job by its id; None if there is no ledger that could be asked."""
