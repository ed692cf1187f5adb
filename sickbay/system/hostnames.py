"""The host names that a service accepts over HTTP, as a protection against DNS rebinding.

A page of evil.example can make its own name resolve to 127.0.0.1, and then has the same origin as any service here; but it cannot send
another `Host` than its own name. So a service that listens on loopback accepts loopback names only. A numeric address cannot be rebound:
it is always accepted if the service does not listen on loopback.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ANY: Final = "*"
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s\[\]:/?#@,\\]+)(?::[0-9]{0,5})?")
_ALLOWED: Final = re.compile(r"\*|(\*?\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True)
class Hosts:
    """The accepted names; `names` is None if every name is accepted, `numbers` is whether any numeric address is."""

    names: frozenset[str] | None = None
    domains: tuple[str, ...] = ()
    numbers: bool = True

    def answer(self, name: str) -> bool:
        """Whether a request to this host, as returned by `host_name`, is accepted."""
        if self.names is None or name in self.names or _is_loopback(name):
            return True
        return any(name.endswith(domain) for domain in self.domains) or (self.numbers and _address(name) is not None)


EVERY_HOST: Final = Hosts()


def hosts_for(bind: str, allowed: Sequence[str] = (), *, on_loopback: bool) -> Hosts:
    """The rule for a service that listens on `bind`; `allowed` is the result of `allowed_hosts`."""
    if ANY in allowed or not (allowed or on_loopback):
        return EVERY_HOST
    domains = tuple(name.lstrip("*") for name in allowed if name.startswith(("*", ".")))
    names = {bind.lower(), *(name.strip("[]") for name in allowed), *(domain.lstrip(".") for domain in domains)}
    return Hosts(frozenset(names), domains, numbers=not on_loopback)


def allowed_hosts(text: str) -> tuple[str, ...]:
    """The names in a setting such as `jobs.example.com, .internal`; ValueError says what is wrong with one."""
    names = tuple(name for part in text.split(",") if (name := part.strip().lower()))
    for name in names:
        if _ALLOWED.fullmatch(name) is None and _address(name.strip("[]")) is None:
            raise ValueError(f"{name!r} is not a host name; name hosts without scheme and port, .example.com for a whole domain, * for all")
    return names


def host_name(header: str) -> str | None:
    """The name in a `Host` header (RFC 9110, section 7.2) without port, brackets and final dot; None if it is malformed."""
    found = _HOST.fullmatch(header)
    return found[1].strip("[]").lower().removesuffix(".") if found else None


def _is_loopback(name: str) -> bool:
    """Whether the name always means this machine."""
    address = _address(name)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return name == "localhost" if address is None else address.is_loopback


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
