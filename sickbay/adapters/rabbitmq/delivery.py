"""One message that RabbitMQ has lent to this process."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from pamqp.commands import Basic

from sickbay.adapters.rabbitmq.properties import received

if TYPE_CHECKING:
    from sickbay.adapters.rabbitmq.subscription import Subscription


class RabbitDelivery:
    """One message in our hands; see `sickbay.ports.Delivery`."""

    __slots__ = ("arrived", "body", "came_back", "is_held", "is_out", "message_id", "properties", "redelivered", "subscription", "tag")

    def __init__(
        self, subscription: Subscription, tag: int, body: bytes, properties: Basic.Properties, *, redelivered: bool, came_back: bool = False
    ) -> None:
        """Only subscriptions make these. `came_back`: it has been in our hands in this session before."""
        self.subscription = subscription
        self.tag = tag
        self.body = body
        self.properties = properties
        self.message_id = properties.message_id or ""
        self.redelivered = redelivered
        self.came_back = came_back
        self.is_held = False
        self.is_out = False
        self.arrived = monotonic()

    def __lt__(self, other: RabbitDelivery) -> bool:
        return self.tag < other.tag

    @property
    def headers(self) -> Mapping[str, str]:
        """What was published with it."""
        return received(self.properties.headers)

    @property
    def encoding(self) -> str:
        """What its publisher says of the body."""
        return self.properties.content_encoding or ""

    @property
    def is_foreign(self) -> bool:
        """Whether it was published by another user than those of our services; RabbitMQ has compared the name with the connection's."""
        return not self.subscription.users.are_ours(self.properties)

    @property
    def held_s(self) -> float:
        """For how long RabbitMQ has waited for a word about it."""
        return monotonic() - self.arrived

    @property
    def is_lost(self) -> bool:
        """Whether its session is over, or RabbitMQ has been silent for so long that it will be."""
        return self.subscription.is_lost

    def ack(self) -> None:
        """Destroy the message; it comes back if we die before RabbitMQ heard it."""
        self.subscription.ack(self)

    def nack(self) -> None:
        """Give the message back to the head of its queue, marked as redelivered."""
        self.subscription.nack(self)
