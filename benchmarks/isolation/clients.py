"""Who can run, and clients of whoever runs."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from typing import Final

from benchmarks.isolation import dramatiq_system, sickbay_system
from benchmarks.isolation.system import Client

SICKBAY: Final = "sickbay"
ONE_QUEUE: Final = "dramatiq, one queue"
BY_HAND: Final = "dramatiq, a queue per type"
KNOWN: Final = (SICKBAY, ONE_QUEUE, BY_HAND)


def installed(name: str) -> bool:
    """Whether it can run here."""
    return name == SICKBAY or find_spec("dramatiq") is not None


def connected(name: str, address: str) -> AbstractAsyncContextManager[Client]:
    """A client of the running system at that address."""
    return sickbay_system.connected(address) if name == SICKBAY else dramatiq_system.connected(address, by_hand=name == BY_HAND)
