"""How the parts behind a service are, as only their adapters know it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field


def _no() -> bool:
    return False


def _none() -> int:
    return 0


@dataclass(frozen=True, kw_only=True)
class BackendStatus:
    """Each is answered from memory, at any time.

    `up` says of `broker`, `breakers`, `ledger` and `keys` whether they answer; without `breakers` circuits run degraded. `troubles` says of
    the same in one sentence what keeps them from their work, also if they answer; "" if nothing does. `is_blocked`: the
    broker takes no messages for want of memory or disk. `shut_here`: job types whose circuit refuses jobs in this process alone, because
    Redis cannot be asked. `stale`: outcomes of runs that came too late to move a circuit, so far.
    """

    up: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    troubles: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    is_blocked: Callable[[], bool] = _no
    stale: Callable[[], int] = _none
    shut_here: Callable[[], Collection[str]] = tuple
