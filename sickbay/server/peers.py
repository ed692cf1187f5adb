"""Who calls: the address that bounds are counted by."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import unquote

IPV6_PREFIX: Final = 64
"""Bits that name a customer; the other half of an address is theirs to choose."""

Endpoint = tuple[str, int]
"""Host and port of one connection."""


def endpoint_of(peer: str) -> Endpoint:
    """What grpc's `context.peer()` says, for example `ipv4:127.0.0.1:50000` or `ipv6:%5B::1%5D:50000`."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return plain(host.strip("[]")), int(port) if port.isdigit() else 0


def plain(host: str) -> str:
    """An address in one spelling; an IPv4 one that comes as IPv6 is IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(inner or address)


def peer_of(host: str) -> str:
    """Whose address this is."""
    host = plain(host)
    return str(ipaddress.ip_network(f"{host}/{IPV6_PREFIX}", strict=False)) if ":" in host else host
