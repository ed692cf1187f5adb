"""The status of a service's backends, as their adapters know it. Pure."""

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

    `up`: whether `broker`, `breakers`, `ledger` and `keys` answer; without `breakers` the breakers are degraded. `troubles`: by the same
    names, a sentence that says why a backend does not work, even if it answers; "" if it works. `is_blocked`: the broker accepts no
    messages because of its memory or disk alarm. `shut_here`: job types whose breaker refuses jobs in this process alone, because Redis
    is unavailable. `stale`: how many outcomes came too late to change a breaker, so far.
    """

    up: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    troubles: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    is_blocked: Callable[[], bool] = _no
    stale: Callable[[], int] = _none
    shut_here: Callable[[], Collection[str]] = tuple
