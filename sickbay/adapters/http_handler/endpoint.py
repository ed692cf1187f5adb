"""Where a handler is, and how connections to it are made."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from sickbay.adapters.http_handler.addresses import AddressRule
from sickbay.adapters.webhook.address import WebhookAddress


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`tls` verifies its certificate, None for http; `connect_s` are the seconds for name and connection, and as many again for TLS."""

    address: WebhookAddress
    rule: AddressRule = field(default_factory=AddressRule)
    connect_s: float = 5.0
    tls: ssl.SSLContext | None = field(default=None, repr=False)
