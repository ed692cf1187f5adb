"""Counts refused calls, and logs them: the first of each source at once, then one line a minute with their number. Never a credential."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from sickbay.contract.access import RULES
from sickbay.domain.access import Principal
from sickbay.domain.errors import SickbayError
from sickbay.ports.access import Credentials
from sickbay.server.access.caller import REST_CALLER
from sickbay.server.errors import fault_of
from sickbay.server.interceptors.metrics import CallMeter

LOG_AGAIN_S: Final = 60.0
MOST_SOURCES: Final = 20
"""Addresses and reasons with lines of their own in a minute; those of others are counted together."""
_GRPC: Final = "grpc"
_REST: Final = "rest"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Source:
    logged_at: float
    unlogged: int = 0


class Refusals:
    """The `OnRefused` of one service: `sickbay_access_refused_total` and the log."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        """Add the metric to `registry`; `clock` gives seconds."""
        self._refused = Counter(
            "sickbay_access_refused", "Calls refused by access control, by port and reason.", ("door", "reason"), registry=registry
        )
        self._clock = clock
        self._sources: dict[tuple[str, str], _Source] = {}

    def __call__(self, method: str, credentials: Credentials, principal: Principal | None, error: SickbayError) -> None:
        """Count one, and log it unless its source had a line lately."""
        reason = error.reason.value
        self._refused.labels(door_of(method), reason).inc()
        now = self._clock()
        name = (credentials.peer, reason)
        source = self._sources.get(name)
        if source is None:
            self._forget(now)
            name = name if len(self._sources) < MOST_SOURCES else ("", "")
            source = self._sources.setdefault(name, _Source(now - LOG_AGAIN_S))
        source.unlogged += 1
        if now - source.logged_at < LOG_AGAIN_S:
            return
        where = f"from {credentials.peer or 'an unknown address'}" if name[0] else "from many addresses"
        who = "" if principal is None else f" of {principal.name!r}"
        log.warning("refused %s%s %s: %s (%d since the last such line)", _named(method), who, where, reason, source.unlogged)
        source.logged_at, source.unlogged = now, 0

    def _forget(self, now: float) -> None:
        """Forget sources that have been quiet for a minute."""
        for name in [name for name, source in self._sources.items() if now - source.logged_at >= LOG_AGAIN_S]:
            gone = self._sources.pop(name)
            if gone.unlogged:
                log.warning("refused %d more calls from %s: %s", gone.unlogged, name[0] or "many addresses", name[1] or "several reasons")


class RefusedCalls:
    """The `OnRefused` that counts refused RPCs of some services with their code, beside the calls that were served."""

    def __init__(self, meter: CallMeter, services: Collection[str]) -> None:
        """`services` are their full names."""
        self._meter, self._services = meter, services

    def __call__(self, method: str, credentials: Credentials, principal: Principal | None, error: SickbayError) -> None:  # noqa: ARG002
        """Count one; methods that do not exist would be labels without a bound."""
        service, _, name = method.removeprefix("/").partition("/")
        if method in RULES and service in self._services:
            self._meter.count_refused(service, name, fault_of(error).code)


def door_of(method: str) -> str:
    """Over which port a call came: an RPC that is called in process came over REST."""
    return _REST if REST_CALLER.get() is not None or not method.startswith("/") else _GRPC


def _named(method: str) -> str:
    """An RPC by its name; of other requests only the method, since a path may hold anything."""
    if method in RULES:
        return method.rpartition("/")[2]
    return "a call" if method.startswith("/") else method.partition(" ")[0][:16]
