"""Which addresses a handler behind HTTP may have. Pure.

Its URL comes from operators, never from a payload, so private addresses are the ordinary case. Link-local ones are not: there the clouds
serve credentials of the machine to whoever asks, and an open resolver, a typing error or a DNS record of somebody else can lead there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"))
)
"""Where clouds serve metadata and credentials; some are in ranges that are private or even public."""
_TRANSLATED: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
"""NAT64, and the old IPv4-compatible addresses: the last four bytes are an IPv4 address."""


@dataclass(frozen=True, slots=True)
class AddressRule:
    """What is allowed besides public addresses."""

    private: bool = True
    """Private networks, and this machine itself."""
    link_local: bool = False
    """Addresses of one link, and those at which clouds serve metadata."""

    def objection(self, address: Address) -> str:
        """Why a connection to this address is refused, in words; empty if it is allowed."""
        return next((why for one in _meant(address) if (why := self._objection(one))), "")

    def _objection(self, address: Address) -> str:
        if address.is_unspecified or address.is_multicast or _is_reserved(address):
            return "no host can have it"
        if address.is_link_local or address in _METADATA:
            return "" if self.link_local else "it is link-local, or serves metadata of a cloud (allow_link_local)"
        if not address.is_global:
            return "" if self.private else "it is private (allow_private)"
        return ""


def _is_reserved(address: Address) -> bool:
    """Whether it is IPv4 from 240.0.0.0 on, the broadcast address included, or in 0.0.0.0/8. IPv6 calls much reserved that is in use."""
    return address.version == 4 and (address.is_reserved or address.packed[0] == 0)  # noqa: PLR2004 - IPv4


def _meant(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 address inside it to which a router or the kernel may translate it."""
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped is None:
        yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    is_plain = address.is_loopback or address.is_unspecified
    if any(address in network for network in _TRANSLATED) and not is_plain:
        yield ipaddress.IPv4Address(address.packed[-4:])
