"""The limit of watches (streams of changes), in all and per client, over REST and gRPC together.

A client is a known principal, wherever it calls from, else an address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sickbay.domain.errors import ErrorReason, ResourceExhausted


class Watches:
    """Counts the watches of one service."""

    def __init__(self, most: int, most_per_peer: int, on_refused: Callable[[], None] = lambda: None) -> None:
        """`on_refused` is called for each rejected watch."""
        self._most, self._most_per_peer, self._on_refused = most, most_per_peer, on_refused
        self._clients: Counter[tuple[str, str]] = Counter()
        self._open = 0

    def __len__(self) -> int:
        return self._open

    @contextmanager
    def hold(self, peer: str, principal: str = "") -> Iterator[None]:
        """Count one of `principal`, or of `peer` if that is empty, during the block; ResourceExhausted if there are too many."""
        client = (principal, "") if principal else ("", peer)
        self._check(client)
        self._open += 1
        self._clients[client] += 1
        try:
            yield
        finally:
            self._open -= 1
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def _check(self, client: tuple[str, str]) -> None:
        if self._clients[client] >= self._most_per_peer:
            whose = f"of {client[0]}" if client[0] else "from your address"
            whose = f"too many watches: {self._most_per_peer} are open {whose} (MAX_WATCHES_PER_PEER)"
        elif self._open >= self._most:
            whose = f"too many watches: {self._most} are open here (MAX_WATCHES)"
        else:
            return
        self._on_refused()
        raise ResourceExhausted(f"{whose}; close some, or poll instead", ErrorReason.TOO_MANY_WATCHES, retry_after=10)
