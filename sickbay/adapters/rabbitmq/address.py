"""Where RabbitMQ is: RABBITMQ_URL, checked once, and shown without its password."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from sickbay.domain.errors import SettingsError

HEARTBEAT_S: Final = 10
PORTS: Final = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True)
class Address:
    """A server and a virtual host on it."""

    url: URL = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `amqp[s]://user:password@host:port/vhost?cafile=...`; SettingsError if it cannot be meant."""
        try:
            url = URL(text)
            is_meant = url.scheme in PORTS and bool(url.host)
            url = url.with_port(url.port or PORTS[url.scheme]) if is_meant else url
        except ValueError:
            is_meant = False
        if not is_meant:
            raise SettingsError("RABBITMQ_URL must be like amqp://user:password@host:5672/vhost (amqps:// for TLS)")
        if url.user is None:
            url = url.with_user("guest").with_password("guest")
        return cls(url)

    @property
    def where(self) -> str:
        """For people: `host:port`."""
        return f"{self.url.host}:{self.url.port}"

    @property
    def vhost(self) -> str:
        """The virtual host's name; `/` is RabbitMQ's own default."""
        return self.url.path[1:].replace("%2F", "/") or "/"

    @property
    def user(self) -> str:
        """Who we are there."""
        return self.url.user or ""

    @property
    def identity(self) -> str:
        """The name by which the server knows us; empty if it takes that from a certificate instead of the URL."""
        return self.user if self.url.query.get("auth", "plain").lower() == "plain" else ""

    def connecting(self, heartbeat_s: int) -> URL:
        """The URL as the driver wants it; a heartbeat in the URL itself (seconds) wins over `heartbeat_s`."""
        return self.url if "heartbeat" in self.url.query else self.url.update_query(heartbeat=heartbeat_s)

    def heartbeat(self, heartbeat_s: int) -> int:
        """The heartbeat that `connecting` asks for, in seconds."""
        stated = self.url.query.get("heartbeat", "")
        return int(stated) if stated.isdigit() else heartbeat_s
