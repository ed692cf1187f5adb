"""Peers: the client addresses by which limits are counted."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import unquote

IPV6_PREFIX: Final = 64
"""Bits that identify a customer, who can choose the other half of an address."""

Endpoint = tuple[str, int]
"""Host and port of one connection."""


def endpoint_of(peer: str) -> Endpoint:
    """Parse grpc's `context.peer()`, for example `ipv4:127.0.0.1:50000` or `ipv6:%5B::1%5D:50000`."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return normalize(host.strip("[]")), int(port) if port.isdigit() else 0


def normalize(host: str) -> str:
    """The canonical form of an address; an IPv4-mapped IPv6 address becomes IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(inner or address)


def peer_of(host: str) -> str:
    """The peer of an address: itself, or the network of an IPv6 address."""
    host = normalize(host)
    return str(ipaddress.ip_network(f"{host}/{IPV6_PREFIX}", strict=False)) if ":" in host else host
