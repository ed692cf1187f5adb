"""What the benchmark asks of a system that runs jobs, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.isolation.rows import Batch


@dataclass(frozen=True, slots=True)
class Setting:
    """What a system is started with."""

    folder: Path
    timeout_s: float
    settings: Mapping[str, str]

    @property
    def starts(self) -> Path:
        """The file to which every handler writes a line for each run."""
        return self.folder / "starts"

    @property
    def env(self) -> dict[str, str]:
        """What the handlers need to know."""
        return {"ISOLATION_STARTS": str(self.starts), "ISOLATION_TIMEOUT": f"{self.timeout_s:g}"}


class Client(Protocol):
    """Hands jobs in."""

    async def submit(self, batch: Batch, number: int) -> None:
        """Hand in one job of the trickle; returns when it is durable."""

    async def flood(self, batch: Batch, numbers: Sequence[int]) -> None:
        """Hand in many; returns when all are durable."""


class System(Client, Protocol):
    """A running system. `address` is where another client finds it."""

    has_priorities: bool
    address: str

    def cpu_s(self) -> float:
        """CPU seconds of its processes so far; 0 if it does not tell."""
