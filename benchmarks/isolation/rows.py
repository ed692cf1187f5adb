"""What is measured, as data: a trickle whose waits are looked at, and the floods beside it.

Sizes and lengths are those of scale 1; `scaled` makes floods and the time of watching smaller. A job takes its milliseconds from its
payload, so the types differ only by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

Priority = Literal["", "HIGH", "LOW"]
HANGS: Final = -1
"""As milliseconds: the handler hangs until its timeout."""
KINDS: Final = ("sms", "email", "invoice", "report", "image", "export")
"""All job types; a job of 0 ms is what `sms` usually is."""
NOISY: Final = KINDS[1:]
LOW_SHARE: Final = 0.05
"""Of the throughput, wanted for LOW jobs under a full load."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that are alike; `tenant` and `priority` are the defaults if empty."""

    kind: str
    ms: int = 0
    tenant: str = ""
    priority: Priority = ""


@dataclass(frozen=True, slots=True)
class Flood:
    """So many jobs, submitted as fast as they are taken."""

    batch: Batch
    count: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table for each system.

    `trickle` is submitted evenly, `rate` a second, before and during the floods. `share` says that the figure is its share of the starts
    instead of its waits; then it is one of the floods. `watch_s` is the longest look at the floods, `least_s` that of a small scale.
    `idle_times` and `plus_ms` bound the wanted p99, `worst_ms` the worst wait.
    """

    name: str
    about: str
    trickle: Batch
    floods: tuple[Flood, ...] = ()
    rate: float = 10.0
    watch_s: float = 20.0
    least_s: float = 4.0
    share: bool = False
    idle_times: float | None = None
    plus_ms: float = 0.0
    worst_ms: float | None = None

    @property
    def priorities(self) -> bool:
        """Whether it means anything without priorities."""
        return any(batch.priority for batch in (self.trickle, *(flood.batch for flood in self.floods)))

    def scaled(self, scale: float) -> Row:
        """The same, smaller, as far as something can be seen."""
        floods = tuple(replace(flood, count=max(50, round(flood.count * scale))) for flood in self.floods)
        return replace(self, floods=floods, watch_s=max(self.least_s, self.watch_s * scale))


def rows() -> Mapping[str, Row]:
    """All of them, by name, in the order of the table."""
    sms, email = Batch("sms"), Batch("email", 50)
    bounds = {"idle_times": 2.0, "plus_ms": 250.0, "worst_ms": 2_000.0}
    low = Batch("export", 50, priority="LOW")
    made = [
        Row("idle", "(a) nothing else", sms),
        Row("flood", "(b) behind 20,000 email of 50 ms", sms, (Flood(email, 20_000),), **bounds),  # type: ignore[arg-type]
        Row("hang", "(c) every email hangs for its timeout", sms, (Flood(Batch("email", HANGS), 5_000),), least_s=12.0, **bounds),  # type: ignore[arg-type]
        Row(
            "tenant",
            "(d) email of a tenant, behind 20,000 of another",
            Batch("email", tenant="quiet"),
            (Flood(Batch("email", 50, tenant="loud"), 20_000),),
            **bounds,  # type: ignore[arg-type]
        ),
        Row(
            "types",
            "(e) behind 5 types, 4,000 of 50 ms each",
            sms,
            tuple(Flood(Batch(kind, 50), 4_000) for kind in NOISY),
            **bounds,  # type: ignore[arg-type]
        ),
        Row("high", "(f) HIGH email, behind 20,000 NORMAL", Batch("email", priority="HIGH"), (Flood(email, 20_000),), idle_times=2.0),
        Row(
            "low",
            "(g) LOW under four types of NORMAL: its share",
            low,
            (*(Flood(Batch(kind, 50), 5_000) for kind in NOISY if kind != low.kind), Flood(low, 5_000)),
            share=True,
        ),
    ]
    return {row.name: row for row in made}
