"""Opens connections, and only to addresses that are allowed: the address that was checked is the one that is connected to.

Checking the name and letting the driver resolve it once more would let a DNS server answer differently the second time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

from sickbay.adapters.http_handler.addresses import AddressRule


class AddressNotAllowed(OSError):
    """None of the host's addresses is allowed."""


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """What httpcore opens connections with."""

    def __init__(self, rule: AddressRule, network: httpcore.AsyncNetworkBackend | None = None, *, is_tls: bool = False) -> None:
        """`network` opens connections to addresses; `is_tls`: a handshake follows on each."""
        self._is_tls = is_tls
        self._rule = rule
        self._network = network or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first allowed address that answers. AddressNotAllowed, socket.gaierror, or httpcore's ConnectError or -Timeout."""
        loop = asyncio.get_running_loop()
        end = loop.time() + (timeout or 0)
        try:
            async with asyncio.timeout(timeout):
                addresses = self._allowed(host, await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
                for left in range(len(addresses), 0, -1):
                    share = (end - loop.time()) / left if timeout else None
                    try:
                        opened = await self._network.connect_tcp(addresses[-left], port, share, local_address, socket_options)
                        return _Handshaking(opened) if self._is_tls else opened
                    except (httpcore.ConnectError, httpcore.ConnectTimeout):
                        if left == 1:
                            raise
        except TimeoutError:
            raise httpcore.ConnectTimeout from None
        raise httpcore.ConnectError(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await self._network.sleep(seconds)

    def _allowed(self, host: str, found: Sequence[Any]) -> Sequence[str]:
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        objections = {one: self._rule.objection(ipaddress.ip_address(one)) for one in addresses}
        allowed = [one for one, objection in objections.items() if not objection]
        if objections and not allowed:
            address, objection = next(iter(objections.items()))
            where = address if address == host else f"{host} has the address {address}, which"
            raise AddressNotAllowed(f"{where} is not allowed: {objection}")
        return allowed


class _Handshaking(httpcore.AsyncNetworkStream):
    """A connection until TLS is agreed on; it is closed if the handshake is cancelled, which httpcore does not do."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface is httpcore's
    ) -> httpcore.AsyncNetworkStream:
        """The stream that is encrypted."""
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._stream.aclose()
            raise

    async def aclose(self) -> None:
        """See httpcore."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """See httpcore."""
        return self._stream.get_extra_info(info)
