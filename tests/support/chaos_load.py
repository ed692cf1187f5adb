"""How bad it gets: from the environment, so that the short run of every day and the long one of `make chaos` are one suite."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Weather:
    """The same `seed` draws the same faults in the same order; when they strike depends on the machine."""

    seed: int
    jobs: int
    """At least so many are accepted."""
    rounds: int
    """How often every fault strikes."""
    outage_s: float
    """How long PostgreSQL stays away in its own test."""

    @classmethod
    def read(cls) -> Self:
        """CHAOS_SEED, CHAOS_JOBS, CHAOS_ROUNDS, CHAOS_OUTAGE_S."""
        return cls(
            seed=int(os.environ.get("CHAOS_SEED", "1")),
            jobs=int(os.environ.get("CHAOS_JOBS", "2000")),
            rounds=int(os.environ.get("CHAOS_ROUNDS", "1")),
            outage_s=float(os.environ.get("CHAOS_OUTAGE_S", "5")),
        )
