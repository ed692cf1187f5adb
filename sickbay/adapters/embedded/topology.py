"""Routes messages to queues, as the exchanges `jobs` (direct) and `jobs.events` (topic) do, and makes their rows."""

from __future__ import annotations

import json
import secrets
from typing import Final

from sickbay.adapters.embedded.queue_file import Row
from sickbay.domain.lane import Lane
from sickbay.ports import EVENT_PREFIX, LANES, TO_QUARANTINE, TO_RETRY, Clock, Message, Queue

MAX_BODY_BYTES: Final = 128 * 1024 * 1024
MAX_DELAY_MS: Final = 366 * 24 * 60 * 60 * 1000

LANE_HEADER: Final = "retry-lane"
"""The header of a delayed row that goes to another lane than the main one; a program that does not know it moves the row there."""

_DIRECT: Final = {lane.value: (queue,) for lane, queue in LANES.items()} | {
    TO_RETRY: (Queue.RETRY,),
    TO_QUARANTINE: (Queue.QUARANTINE,),
}
_EVENT: Final = (Queue.LEDGER,)
_QUARANTINED: Final = (Queue.LEDGER, Queue.QUARANTINE)
_QUARANTINED_KEY: Final = f"{EVENT_PREFIX}quarantined"


def queues_of(key: str) -> tuple[Queue, ...]:
    """Every queue that a message with this key reaches; ValueError if there is none."""
    direct = _DIRECT.get(key)
    if direct is not None:
        return direct
    if key == _QUARANTINED_KEY or key.startswith(f"{_QUARANTINED_KEY}."):
        return _QUARANTINED
    if key.startswith(EVENT_PREFIX):
        return _EVENT
    raise ValueError(f"no queue is bound to the routing key {key!r}")


def returned(row: Row) -> tuple[Queue, str]:
    """The queue that a delayed row goes to, and its headers there."""
    if LANE_HEADER not in row.headers:
        return Queue.MAIN, row.headers
    try:
        headers = json.loads(row.headers, strict=False)
        lane = Lane(headers.pop(LANE_HEADER))
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):  # another program's
        return Queue.MAIN, row.headers
    return LANES[lane], json.dumps(headers) if headers else ""


class Copier:
    """Makes the rows of messages, with rising ids."""

    def __init__(self, clock: Clock) -> None:
        """Set `last_id` to the greatest stored one before the first use."""
        self.last_id = 0
        self._clock = clock
        self._session = secrets.token_hex(8)

    def new_id(self) -> int:
        """The next id. Its message must be stored in the very next transaction, so that no position passes an id that is stored later."""
        self.last_id += 1
        return self.last_id

    def copies(self, message: Message) -> list[tuple[Queue, Row]]:
        """One row per queue; ValueError for whatever SQLite would reject, so that other messages of the batch are not affected."""
        queues = queues_of(message.key)
        if len(message.body) > MAX_BODY_BYTES or not 0 <= message.delay_ms <= MAX_DELAY_MS:
            raise ValueError("a body has at most 128 MiB and a delay is 0 to 366 days")
        due = self._clock() + message.delay_ms if queues[0] is Queue.RETRY else 0
        marks = {LANE_HEADER: message.lane.value} if queues[0] is Queue.RETRY and message.lane is not Lane.MAIN else {}
        headers = json.dumps({**message.headers, **marks}) if message.headers or marks else ""
        message_id = message.message_id or f"{self._session}-{self.last_id + 1}"
        message_id.encode()
        return [(queue, Row(self.new_id(), due, message_id, headers, bytes(message.body))) for queue in queues]
