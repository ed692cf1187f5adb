"""How the parts behind a service are, as only their adapters know it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def _no() -> bool:
    return False


def _none() -> int:
    return 0


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """Each is answered from memory, at any time.

    `up` says of `broker`, `breakers` and `ledger` whether they answer; without `breakers` circuits run degraded. `is_blocked`: the
    broker takes no messages for want of memory or disk. `stale`: outcomes of runs that came too late to move a circuit, so far.
    """

    up: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    is_blocked: Callable[[], bool] = _no
    stale: Callable[[], int] = _none
