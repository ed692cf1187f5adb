"""Programs in any language that run a worker's jobs: what they register, and their limits. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

HEARTBEAT_S: Final = 5.0
"""How often a program must send something, at least."""
MAX_MISSED: Final = 3
"""A program of which nothing was heard for so many intervals is taken for broken."""
MAX_LOST_RUNS: Final = 3
"""A job whose programs were lost so often in a row is quarantined as WORKER_LOST."""
MAX_TYPES: Final = 100
"""Job types of one program."""
MAX_SLOTS: Final = 10_000
MAX_NAME_CHARS: Final = 100


class WorkStream(StrEnum):
    """From where programs may connect: whoever connects gets jobs with their payloads, and says what became of them."""

    OFF = "off"
    LOCAL = "local"
    """From the same machine, container or pod, by its loopback address."""
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Offer:
    """A job type that a program runs: `timeout` in seconds, None for HANDLER_TIMEOUT; `concurrency` is how many of its jobs at a time."""

    job_type: str
    timeout: float | None
    concurrency: int


@dataclass(frozen=True, slots=True)
class Registration:
    """What a program registers. It runs at most `slots` jobs at a time, of all types together."""

    name: str
    slots: int
    offers: tuple[Offer, ...]
    version: str = ""
    language: str = ""
    limits: dict[str, int] = field(init=False, compare=False, repr=False)
    """How many jobs at a time by type."""

    def __post_init__(self) -> None:
        """Derive the limits."""
        object.__setattr__(self, "limits", {offer.job_type: offer.concurrency for offer in self.offers})

    def __str__(self) -> str:
        """As in the log: `resizer 1.2 (node)`."""
        return f"{self.name} {self.version}".strip() + (f" ({self.language})" if self.language else "")
