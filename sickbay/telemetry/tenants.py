"""Which tenants have metrics of their own: a bounded number of those that are in use; all others share the label `other`.

Clients can invent tenants without end, and each series costs Prometheus memory for hours. So the first tenants get a label at once, and
when all labels are taken, one changes hands only if both are true:

- its holder is idle: for an hour, or for a minute if it was used for less than a minute;
- the new one is in use, not invented for a single job: it comes again a minute or more after it came first.

No count ever moves from one label to another, so no counter goes backwards. A tenant that has lost its label and gets one again
starts at 0, as after a restart of the process, which Prometheus understands; its jobs meanwhile were counted as `other`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final, Generic, TypeVar

from sickbay.telemetry.metrics import OTHER

IDLE_S: Final = 3_600.0
"""A tenant that was in use keeps its label for so long after its last job."""
PROVEN_S: Final = 60.0
"""A tenant that comes again so long after it came first is in use; until then it keeps its label for no longer than this."""
MAX_CANDIDATES: Final = 10_000
"""So many tenants without a label are remembered, those that came last."""
MAX_NAME: Final = 64
"""What is longer is no tenant, and is not remembered."""

T = TypeVar("T")


@dataclass(slots=True)
class _Holder(Generic[T]):
    value: T
    first: float
    last: float

    def may_go_at(self) -> float:
        """From when on another one may have its label, if it does not come again."""
        return self.last + (IDLE_S if self.last - self.first >= PROVEN_S else PROVEN_S)


class TenantTable(Generic[T]):
    """A value for each tenant with a label of its own, made by `create` when it gets it, and one for all others."""

    def __init__(self, limit: int, create: Callable[[], T], now: Callable[[], float] = monotonic) -> None:
        """At most `limit` labels besides `other`; `now` is in seconds."""
        self._limit = limit
        self._create = create
        self._now = now
        self._holders: dict[str, _Holder[T]] = {}
        self._candidates: OrderedDict[str, float] = OrderedDict()
        self._others: T | None = None
        self._full_until = -inf
        """Before that no label is free: a look at all holders is in vain."""

    def of(self, tenant: str) -> T:
        """The value of its label, for a job of it now."""
        now = self._now()
        holder = self._holders.get(tenant) or self._admit(tenant, now)
        if holder is None:
            if self._others is None:
                self._others = self._create()
            return self._others
        holder.last = now
        return holder.value

    def values(self) -> Iterator[tuple[str, T]]:
        """Every label with its value."""
        yield from [(name, holder.value) for name, holder in self._holders.items()]
        if self._others is not None:
            yield OTHER, self._others

    def _admit(self, tenant: str, now: float) -> _Holder[T] | None:
        """Give it a label, if there is one for it."""
        if tenant == OTHER or len(tenant) > MAX_NAME:
            return None
        if len(self._holders) >= self._limit and not (self._is_in_use(tenant, now) and self._evict(now)):
            return None
        self._candidates.pop(tenant, None)
        holder = self._holders[tenant] = _Holder(self._create(), now, now)
        return holder

    def _is_in_use(self, tenant: str, now: float) -> bool:
        first = self._candidates.setdefault(tenant, now)
        if len(self._candidates) > MAX_CANDIDATES:
            self._candidates.popitem(last=False)
        return now - first >= PROVEN_S

    def _evict(self, now: float) -> bool:
        """Take the label of whoever may go first; False if none may."""
        if now < self._full_until or not self._holders:
            return False
        name, holder = min(self._holders.items(), key=lambda item: item[1].may_go_at())
        if holder.may_go_at() > now:
            self._full_until = holder.may_go_at()
            return False
        del self._holders[name]
        return True


def largest(counts: Mapping[str, int], limit: int) -> Mapping[str, int]:
    """The `limit` tenants with the most; all others are added up as `other`. For numbers that are read anew each time."""
    named = sorted(((count, name) for name, count in counts.items() if name != OTHER), key=lambda one: (-one[0], one[1]))
    rest = sum(count for count, _ in named[limit:]) + counts.get(OTHER, 0)
    return {name: count for count, name in named[:limit]} | ({OTHER: rest} if rest else {})
