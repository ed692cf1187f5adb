"""The certificate that the ports of a service show their clients, and the authority of the clients' own; it may change while they serve."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Material:
    """What is in force: PEM, and the same as a context for connections to come. With `client_ca` each client must have a certificate."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)
    client_ca: bytes | None = field(repr=False)
    context: ssl.SSLContext = field(repr=False)


class Certificates(Protocol):
    """The material in force. Asked for each new connection, from any thread."""

    @property
    def current(self) -> Material:
        """The latest that is valid; never blocks."""
