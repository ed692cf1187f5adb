"""The exchanges, queues and bindings, and which key with which delay goes where (`design.md`, section 7). Pure.

Delays are an `expiration` on each message, and RabbitMQ looks only at the head of a queue: a message never leaves before the one
in front of it. So there is one retry queue for each class of delays, and a message is late by less than the longest delay of its
class minus its own: not at all when all delays of a class are equal (as RETRY_DELAY_MS makes them), and at worst 10 s in
`jobs.retry`, 26 s in `jobs.retry.30s`, 108 s in `jobs.retry.2m`, and so on. A delay of 0 goes straight to its lane.

Those queues lead back to `jobs.main`, and the arguments of a queue can never change. What returns to another lane waits in a second set
(`jobs.delay`, `jobs.delay.30s`, ...) whose messages keep their routing key: it names the lane, so one set serves all lanes, also
later ones. Hence the exchange `jobs.delays` looks at a header instead, which names the class of the delay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from sickbay.domain.lane import Lane
from sickbay.ports import EVENT_PREFIX, LANES, TO_MAIN, TO_QUARANTINE, TO_RETRY, Queue

JOBS: Final = "jobs"
EVENTS: Final = "jobs.events"
DELAYS: Final = "jobs.delays"
DELAY_HEADER: Final = "delay-class"
"""The header by which `jobs.delays` chooses. (Names that begin with `x-` are not looked at.)"""
MAX_DELAY_MS: Final = 2**32 - 1
"""About 49 days; more does not fit RabbitMQ's `expiration`."""

_MINUTE_MS: Final = 60_000
_LADDER: Final = (
    (10_000, ""),
    (36_000, ".30s"),
    (144_000, ".2m"),
    (12 * _MINUTE_MS, ".10m"),
    (72 * _MINUTE_MS, ".1h"),
    (432 * _MINUTE_MS, ".6h"),
    (MAX_DELAY_MS, ".24h"),
)
"""The longest delay of each class, ms, and what its queue's name and its key end with.

Jitter extends a delay by a fifth: those of about two minutes stay together, instead of waiting behind one of ten. The delays of the first
class are mostly RETRY_DELAY_MS, which has none.
"""

_QUORUM: Final[dict[str, str | int]] = {
    "x-queue-type": "quorum",
    # -1 drops a message after its first return on 3.10, and the default of 4.x silently drops after 20. Poison logic is ours.
    "x-delivery-limit": 1_000_000,
}


def _dead_letters(exchange: str, key: str = "") -> dict[str, str | int]:
    """Without a key, messages keep theirs."""
    return {
        "x-dead-letter-exchange": exchange,
        **({"x-dead-letter-routing-key": key} if key else {}),
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    """A durable exchange."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A durable quorum queue with its arguments."""

    name: str
    arguments: Mapping[str, str | int] = field(default_factory=lambda: MappingProxyType(_QUORUM))


class Binding(NamedTuple):
    """What of an exchange reaches a queue: by the key, or by a header."""

    exchange: str
    key: str
    queue: str
    arguments: Mapping[str, str] = MappingProxyType({})


class Route(NamedTuple):
    """Where a message is published; `delay_class` is the value of its DELAY_HEADER, None without one."""

    exchange: str
    key: str
    delay_class: str | None = None


def _class(suffix: str) -> str:
    return suffix.removeprefix(".") or "10s"


RETRY_QUEUES: Final = tuple(f"{Queue.RETRY.value}{suffix}" for _, suffix in _LADDER)
"""Those that lead back to `jobs.main`."""
DELAY_QUEUES: Final = tuple(f"jobs.delay{suffix}" for _, suffix in _LADDER)
"""Those that lead back to the lane that the routing key names."""
EXCHANGES: Final = (ExchangeSpec(JOBS, "direct"), ExchangeSpec(EVENTS, "topic"), ExchangeSpec(DELAYS, "headers"))
QUEUES: Final = (
    *(
        QueueSpec(queue.value, MappingProxyType(_QUORUM | _dead_letters(EVENTS, f"{EVENT_PREFIX}quarantined.broker")))
        for queue in LANES.values()
    ),
    *(QueueSpec(name, MappingProxyType(_QUORUM | _dead_letters(JOBS, TO_MAIN))) for name in RETRY_QUEUES),
    *(QueueSpec(name, MappingProxyType(_QUORUM | _dead_letters(JOBS))) for name in DELAY_QUEUES),
    QueueSpec(Queue.QUARANTINE.value),
    QueueSpec(Queue.LEDGER.value),
)
BINDINGS: Final = (
    *(Binding(JOBS, lane.value, queue.value) for lane, queue in LANES.items()),
    *(Binding(JOBS, f"{TO_RETRY}{suffix}", f"{Queue.RETRY.value}{suffix}") for _, suffix in _LADDER),
    *(
        Binding(DELAYS, "", f"jobs.delay{suffix}", MappingProxyType({"x-match": "all", DELAY_HEADER: _class(suffix)}))
        for _, suffix in _LADDER
    ),
    Binding(JOBS, TO_QUARANTINE, Queue.QUARANTINE.value),
    Binding(EVENTS, f"{EVENT_PREFIX}#", Queue.LEDGER.value),
    Binding(EVENTS, f"{EVENT_PREFIX}quarantined.#", Queue.QUARANTINE.value),
)

LANE_ROUTES: Final = {queue: Route(JOBS, lane.value) for lane, queue in LANES.items()}
_BY_KEY: Final = {one.key: one for one in LANE_ROUTES.values()}
_QUARANTINE_ROUTE: Final = Route(JOBS, TO_QUARANTINE)


def route(key: str, delay_ms: int, lane: Lane = Lane.MAIN) -> Route:
    """Where a message with this key goes, with a delay if it is TO_RETRY; ValueError if that is nowhere."""
    if (direct := _BY_KEY.get(key)) is not None:
        return direct
    if key == TO_RETRY:
        return _retry_route(delay_ms, lane)
    if key == TO_QUARANTINE:
        return _QUARANTINE_ROUTE
    # The queue of the ledger is bound to `job.#`, which takes every further word; 255 bytes are AMQP's limit.
    if key.startswith(EVENT_PREFIX) and len(key.encode()) <= 255:  # noqa: PLR2004 - said above
        return Route(EVENTS, key)
    raise ValueError(f"no queue is bound to the routing key {key!r}")


def queue_names(queue: Queue) -> tuple[str, ...]:
    """The queues that together are this one."""
    return (*RETRY_QUEUES, *DELAY_QUEUES) if queue is Queue.RETRY else (queue.value,)


def _retry_route(delay_ms: int, lane: Lane) -> Route:
    if delay_ms == 0:
        return _BY_KEY[lane]
    if not 0 < delay_ms <= MAX_DELAY_MS:
        raise ValueError(f"a delay must be 0 to {MAX_DELAY_MS} ms, not {delay_ms}")
    suffix = next(suffix for longest_ms, suffix in _LADDER if delay_ms <= longest_ms)
    if lane is Lane.MAIN:
        return Route(JOBS, f"{TO_RETRY}{suffix}")
    return Route(DELAYS, lane.value, _class(suffix))
