"""The brokers that the contract suite runs against, and what each of them cannot do."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.ports import Broker


@dataclass(frozen=True)
class Features:
    """What the suite may ask of a back end; a test of something else skips."""

    is_durable: bool = True
    """Messages are there after the last session has closed."""
    mixes_delays: bool = True
    """A short delay overtakes a longer one in the same queue."""
    depth_lag: float = 0
    """Seconds between two looks at a depth that is not yet as expected; 0 where depths are exact at once."""


@dataclass(frozen=True)
class Backend:
    """One broker's storage; each `open` is a session on it."""

    open: Callable[[], AbstractAsyncContextManager[Broker]]
    features: Features = field(default_factory=Features)


def now() -> int:
    return time.time_ns() // 1_000_000


def sqlite_file(folder) -> Backend:
    return Backend(lambda: SqliteBroker(folder / "queue.db", now))


def sqlite_normal(folder) -> Backend:
    return Backend(lambda: SqliteBroker(folder / "queue.db", now, "NORMAL"))


def sqlite_memory(_folder) -> Backend:
    return Backend(lambda: SqliteBroker(":memory:", now), Features(is_durable=False))


BACKENDS = {"sqlite-file": sqlite_file, "sqlite-file-normal": sqlite_normal, "sqlite-memory": sqlite_memory}
