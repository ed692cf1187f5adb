"""The messages of breakers that were listed before: an unchanged snapshot is the same object, and its message need not be built again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.contract import responses
from sickbay.domain.breaker import BreakerKey, BreakerRule, BreakerScope, Snapshot

MOST: Final = 20_000
"""How many are kept; beyond that all are built anew, once."""


class BreakerMessages:
    """Keeps one message per breaker. Callers must copy a message before they change it."""

    def __init__(self, scope: BreakerRule = BreakerScope.TYPE, waiting_for: Callable[[Snapshot], str] = lambda _: "") -> None:
        """Nothing is kept yet. `scope` says which job types share a breaker; as that may change, messages of shared ones are not kept.

        `waiting_for` returns what a breaker waits for; messages of those that wait are not kept either.
        """
        self._scope = scope
        self._waiting_for = waiting_for
        self._kept: dict[BreakerKey, tuple[Snapshot, Breaker]] = {}

    def of(self, snapshots: Iterable[Snapshot]) -> list[Breaker]:
        """The messages, in order."""
        if len(self._kept) > MOST:
            self._kept = {}
        return [self._message(one) for one in snapshots]

    def _message(self, breaker: Snapshot) -> Breaker:
        kept = self._kept.get(breaker.key)
        if kept is not None and (kept[0] is breaker or kept[0] == breaker):
            return kept[1]
        waiting_for = self._waiting_for(breaker)
        if breaker.key.dependency or waiting_for:
            return responses.breaker(breaker, job_types=self._scope.job_types(breaker.key), waiting_for=waiting_for)
        message = responses.breaker(breaker)
        self._kept[breaker.key] = (breaker, message)
        return message
