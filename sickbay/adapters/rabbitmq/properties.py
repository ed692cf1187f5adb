"""What AMQP carries beside a body: our properties when we publish, and what of them is the publisher's when we receive."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from pamqp.commands import Basic

from sickbay.adapters.rabbitmq.topology import DELAY_HEADER
from sickbay.ports import Message

PERSISTENT: Final = 2
_MAX_SHORT_BYTES: Final = 255
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_BROKERS_OWN: Final = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
"""Beginnings of the headers that RabbitMQ adds. A republish must not carry x-death: 3.10 takes it for a cycle and drops the job."""
_ROUTING: Final = {"CC", "BCC"}


@dataclass(frozen=True, slots=True)
class Users:
    """The RabbitMQ user of our connections (empty if only the server knows it), and the users of all our services.

    Unless `checks`, every message counts as ours.

    RabbitMQ takes a message only if its `user-id`, where it has one, is the name of the connection's user: so nobody else can use ours.
    """

    own: str = ""
    ours: frozenset[str] = frozenset()
    checks: bool = True

    @property
    def mark(self) -> str:
        """The `user-id` of what we publish; empty unless somebody tells messages by it: a server may know us by a name of its own."""
        return self.own if self.checks or self.ours else ""

    def are_ours(self, properties: Basic.Properties) -> bool:
        """Whether one of our services has published the message with these properties."""
        user = properties.user_id
        return not self.checks or (bool(user) and (user == self.own or user in self.ours))


def outgoing(message: Message, message_id: str, now: int, delay_class: str | None = None, user: str = "") -> Basic.Properties:
    """The properties of a message of ours; ValueError if AMQP cannot carry its id or headers. `now` in ms, `user` is who publishes it."""
    headers = _checked(message.headers) if message.headers else {}
    if delay_class is not None:
        headers[DELAY_HEADER] = delay_class
    return Basic.Properties(
        content_type="application/json",
        delivery_mode=PERSISTENT,
        expiration=str(message.delay_ms) if message.delay_ms else None,
        message_id=_short(message_id),
        timestamp=datetime.fromtimestamp(now // 1000, UTC),
        headers=headers or None,
        user_id=None if message.is_foreign else user or None,
    )


def copied(properties: Basic.Properties, message_id: str, users: Users) -> Basic.Properties:
    """The properties for another copy of a message we received, without what the broker or its routing added.

    The copy of a message of ours is ours, that of a foreign one stays foreign.

    Of the headers those of plain types: the driver cannot write all that it can read.
    """
    again = copy.copy(properties)
    again.delivery_mode = PERSISTENT
    again.expiration = None
    again.user_id = (users.mark or None) if users.are_ours(properties) else None
    again.timestamp = None
    again.message_id = message_id
    again.headers = {
        name: value
        for name, value in (properties.headers or {}).items()
        if not _is_foreign(name) and name not in _ROUTING and isinstance(value, str | int)
    } or None
    return again


def received(headers: Mapping[str, Any] | None) -> Mapping[str, str]:
    """The headers as they were published, as text."""
    if not headers:
        return _NO_HEADERS
    return {name: value if isinstance(value, str) else str(value) for name, value in headers.items() if not _is_foreign(name)}


def _is_foreign(name: str) -> bool:
    return name == DELAY_HEADER or name.startswith(_BROKERS_OWN)


def _checked(headers: Mapping[str, str]) -> dict[str, Any]:
    kept = {_short(name): value for name, value in headers.items() if not _is_foreign(name)}
    for value in kept.values():
        value.encode()
    return kept


def _short(text: str) -> str:
    """The text, if AMQP can carry it as a short string; UnicodeEncodeError is a ValueError too."""
    if len(text.encode()) > _MAX_SHORT_BYTES:
        raise ValueError(f"an id or a header's name has at most {_MAX_SHORT_BYTES} bytes")
    return text
