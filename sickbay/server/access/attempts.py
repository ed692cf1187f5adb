"""How often the credentials of one address may fail.

Beyond that a failing call gets ResourceExhausted instead of the reason, and is only counted. Credentials are looked at all the same, which
costs less than reading the call did: a caller whose credential counts is served, whoever else is behind its address.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sickbay.domain.errors import ErrorReason, ResourceExhausted, SickbayError
from sickbay.server.peers import peer_of

PER_S: Final = 100.0
"""Failures in a second that are answered with their reason."""
BURST: Final = 1_000
MOST_ADDRESSES: Final = 10_000
"""Of more, those whose failures are the longest ago are forgotten."""


class FailedAttempts:
    """A token bucket for each address, of those that failed lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def fail(self, address: str, error: SickbayError) -> SickbayError:
        """Count a failure: the error for the caller, which is `error` unless the address has too many."""
        peer, now = peer_of(address), self._clock()
        full_at = max(self._full_at.pop(peer, now), now)
        exceeded = full_at - now > (BURST - 1) / PER_S
        self._full_at[peer] = full_at if exceeded else full_at + 1 / PER_S
        if len(self._full_at) > MOST_ADDRESSES:
            self._full_at.popitem(last=False)
        if not exceeded:
            return error
        text = "too many calls of your address without a credential that counts; correct the credential before you call again"
        return ResourceExhausted(text, ErrorReason.TOO_MANY_CALLS, retry_after=1.0)
