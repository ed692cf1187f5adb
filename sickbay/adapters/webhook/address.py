"""Where requests are sent: a URL in its parts. Its path may be a secret (Slack's is), so errors and logs never show it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sickbay.domain.errors import SettingsError

_VISIBLE = re.compile("[!-~]+")


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    """A host, a port, whether to use TLS, and the path with its query."""

    host: str
    port: int
    is_tls: bool
    path: str = field(repr=False)

    @property
    def header(self) -> str:
        """The header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


def parse_address(url: str, name: str = "WEBHOOK_URL", instead: str = "WEBHOOK_SECRET signs the requests") -> WebhookAddress:
    """The parts of a URL; SettingsError, which does not show it, if it cannot be used.

    `name` is that of the setting, and `instead` says what to do in place of a password in the URL.
    """
    if not _VISIBLE.fullmatch(url):
        raise SettingsError(f"{name} has a blank, or a character that is not ASCII; encode it as %20 and so on")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsError(f"{name} is not a URL; it must be https://host/path or http://host:port/path") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(f"{name} must be https://host/path or http://host:port/path")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(f"{name} must not contain a user or a password; {instead}")
    is_tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebhookAddress(parts.hostname, port or (443 if is_tls else 80), is_tls, path)
