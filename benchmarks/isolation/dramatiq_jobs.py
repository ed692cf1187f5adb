"""The same jobs for Dramatiq: an actor for each type, all on one queue, or each on a queue of its own as one configures it by hand.

By hand, priorities are queues, too: an actor `email-high` on a queue `email-high`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from benchmarks.isolation.rows import KINDS, Batch
from benchmarks.isolation.trace import line, opened

PRIORITIES: Final = ("", "-high", "-low")


def name(batch: Batch) -> str:
    """Of the actor."""
    return batch.kind + (f"-{batch.priority.lower()}" if batch.priority else "")


def broker(url: str, *, confirm: bool = True) -> Any:
    """Dramatiq on RabbitMQ; with `confirm` a message is sent when the server has confirmed it."""
    made = import_module("dramatiq.brokers.rabbitmq").RabbitmqBroker(url=url, confirm_delivery=confirm)
    import_module("dramatiq").set_broker(made)
    return made


def actors(made: Any, run: Callable[[str, int, int], None], *, by_hand: bool) -> Mapping[str, Any]:
    """By name; the arguments are the type, the job's number and its milliseconds."""
    library: Any = import_module("dramatiq")
    names = [kind + priority for kind in KINDS for priority in PRIORITIES]
    return {one: library.actor(run, actor_name=one, queue_name=one if by_hand else "jobs", broker=made) for one in names}


class Work:
    """What the actors do."""

    def __init__(self) -> None:
        """ISOLATION_STARTS and ISOLATION_TIMEOUT as for our handlers."""
        self._starts = opened()
        self._timeout_s = float(os.environ["ISOLATION_TIMEOUT"])

    def run(self, kind: str, number: int, ms: int) -> None:
        """One job. A thread cannot be interrupted, so a call that hangs ends by the client's timeout, as users write it."""
        os.write(self._starts, line(time.monotonic(), kind, number))
        if ms < 0:
            time.sleep(self._timeout_s)
            raise TimeoutError("no answer")
        if ms:
            time.sleep(ms / 1_000)
