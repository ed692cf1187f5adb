"""Listening sockets: if a port is unavailable, the start fails with one sentence that says what to change."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import closing

from sickbay.domain.errors import SettingsError

BACKLOG = 2048


def listen(host: str, port: int, hint: str) -> socket.socket:
    """A listening, non-blocking socket; SettingsError if the port or address is unavailable.

    Port 0 uses any free one. `hint` says how to choose another, for example "choose another with PORT or --jobapi-port".
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        server = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _refusal(host, port, hint, error) from None
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(BACKLOG)  # at once: Linux lets two sockets bind one port until the first of them listens
    except OSError as error:
        server.close()
        raise _refusal(host, port, hint, error) from None
    server.setblocking(False)
    return server


def check(host: str, port: int, hint: str) -> None:
    """Raise the error that `listen` would, for servers that open their own sockets; the port is free again afterwards."""
    with closing(listen(host, port, hint)):
        pass


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a port on this address; names are resolved."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return all(_is_of_this_machine(ipaddress.ip_address(one.partition("%")[0])) for one in found)


def _is_of_this_machine(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_loopback


def bracketed(host: str) -> str:
    """The host as written before `:port`."""
    return f"[{host}]" if ":" in host else host


def _refusal(host: str, port: int, hint: str, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(f"port {port} is already in use on {host}; {hint}")
    if error.errno == errno.EACCES:
        return SettingsError(f"permission denied for port {port}: this user cannot listen on it; {hint}")
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return SettingsError(f"{host} is not an address of this machine; listen on 127.0.0.1, or on 0.0.0.0 for all addresses")
    return SettingsError(f"cannot listen on {bracketed(host)}:{port} ({os.strerror(error.errno or errno.EINVAL)}); {hint}")
