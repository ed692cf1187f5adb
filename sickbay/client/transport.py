"""How a service is reached: address, TLS, token, and the options of a channel; and the words for gRPC's own errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import grpc

from sickbay.contract.faults import Fault

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Room for a page of 1,000 jobs with all their errors."""
RECONNECT_MS: Final = {"initial": 100, "min": 100, "max": 5_000}
"""gRPC's own waits between connections grow to two minutes, in which every call fails without trying."""
KEEPALIVE_MS: Final = 60_000
"""After so long without anything from the service, as in a quiet watch, it is asked whether it is there. Services allow that every 10 s."""
KEEPALIVE_TIMEOUT_MS: Final = 20_000
"""How long the answer may take; then the connection is given up, and a watch continues on another one."""
_LOOPBACK: Final = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\]):\d+|unix(-abstract)?:.*")
_URL: Final = re.compile(r"(https?|grpcs?)://(?P<rest>[^/]*)", re.IGNORECASE)
_SCHEME: Final = re.compile(r"(dns|unix|unix-abstract|vsock|ipv4|ipv6|xds):", re.IGNORECASE)
_PORT: Final = re.compile(r":\d{1,5}$")

Options = Sequence[tuple[str, int]]


def is_loopback(address: str) -> bool:
    """Whether nobody else can listen between us and this address."""
    return _LOOPBACK.fullmatch(address) is not None


def channel_options(address: str, *, reconnect_ms: int | None = None) -> Options:
    """The options of a channel to this address; it connects again that often if `reconnect_ms` is given."""
    options = [
        ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),  # core's own is a minute
    ]
    options += [(f"grpc.{name}_reconnect_backoff_ms", reconnect_ms or ms) for name, ms in RECONNECT_MS.items()]
    if is_loopback(address):
        options.append(("grpc.enable_http_proxy", 0))  # a company's proxy cannot reach this machine's own ports
    return options


@dataclass(frozen=True, slots=True)
class TLS:
    """TLS to a service. Without `ca_file` its certificate must be of an authority that gRPC's own list has.

    `cert_file` and `key_file` are the client's certificate, if the service asks for one: both, or neither. `server_name` is the name that
    the certificate has, if it is not the address's. All files are PEM; they are read when the client is made.
    """

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = field(default=None, repr=False)
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            msg = "TLS needs both cert_file and key_file, or neither"
            raise ValueError(msg)

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel. OSError if a file cannot be read."""
        read = [None if path is None else Path(path).read_bytes() for path in (self.ca_file, self.key_file, self.cert_file)]
        return grpc.ssl_channel_credentials(*read)


@dataclass(frozen=True, slots=True)
class Transport:
    """What all channels of a client have in common. `token` is hidden from `repr`; `token_file` is read anew for each call."""

    tls: TLS | None = None
    token: str = field(default="", repr=False)
    token_file: str | Path | None = None
    plaintext_token: bool = False
    """Whether the token may be sent unencrypted to another machine."""

    def check(self, address: str) -> None:
        """ValueError if that is no address of gRPC's, or the token would be sent over the network unencrypted."""
        if found := _URL.match(address):
            host = found["rest"].rstrip("/")
            msg = f"{address!r} is a URL; gRPC addresses are HOST:PORT, such as {host if _PORT.search(host) else f'{host}:50051'}"
            raise ValueError(msg)
        if not _SCHEME.match(address) and not _PORT.search(address):
            msg = f"{address!r} has no port; gRPC addresses are HOST:PORT, such as {address or 'localhost'}:50051"
            raise ValueError(msg)
        if self._has_token and self.tls is None and not self.plaintext_token and not is_loopback(address):
            msg = (
                f"the token would be sent to {address} unencrypted; use tls=True or TLS(...), or allow it with allow_plaintext_token=True "
                "if something else encrypts the connection"
            )
            raise ValueError(msg)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with each call. OSError if the token's file cannot be read."""
        token = Path(self.token_file).read_text("utf-8").strip() if self.token_file is not None else self.token
        return (("authorization", f"Bearer {token}"),) if token else ()

    def open(self, address: str, library: Any = grpc, *, reconnect_ms: int | None = None) -> Any:
        """A channel of `grpc` or `grpc.aio` to the address."""
        self.check(address)
        options = [*channel_options(address, reconnect_ms=reconnect_ms)]
        if self.tls is None:
            return library.insecure_channel(address, options=options)
        named = [("grpc.ssl_target_name_override", self.tls.server_name)] if self.tls.server_name else []
        return library.secure_channel(address, self.tls.credentials(), options=[*options, *named])

    @property
    def _has_token(self) -> bool:
        return bool(self.token) or self.token_file is not None


_ABOUT_TLS: Final = (
    ("certificate has expired", "its certificate has expired; renew the file that TLS_CERT_FILE names at the service"),
    ("certificate is not yet valid", "its certificate is not valid yet; check the clocks of both machines"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is of an authority that is not trusted here; name the authority's file, SICKBAY_TLS_CA_FILE or TLS(ca_file=...)",
    ),
    (
        "Hostname Verification Check failed",
        "its certificate is for another name; call it by a name in its certificate, or name that with SICKBAY_TLS_SERVER_NAME",
    ),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS; leave SICKBAY_TLS and SICKBAY_TLS_... unset (tls=False), or set TLS_CERT_FILE there"),
)
_CLOSED: Final = re.compile(r"failed to connect to all addresses.*(Socket closed|Connection reset|Broken pipe)", re.DOTALL)
_ENDED: Final = (
    "it accepted the connection and closed it. If it speaks TLS, set SICKBAY_TLS_CA_FILE or TLS(ca_file=...); if it asks for"
    " certificates of clients, set SICKBAY_TLS_CERT_FILE and SICKBAY_TLS_KEY_FILE, too, to one that is valid and of the authority it trusts"
)


def _about_tls(message: str) -> str:
    """What to do about core's error of a handshake; empty if it is about something else."""
    for words, advice in _ABOUT_TLS:
        if words in message:
            return advice
    return _ENDED if _CLOSED.search(message) else ""


def in_words(fault: Fault, title: str, address: str, timeout: float | None) -> Fault:
    """A fault of gRPC's own, which has no reason, in words that say what was called; those of the service stay as they are."""
    if fault.reason:
        return fault
    match fault.code:
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            message = f"no connection to the {title} at {address}: {_about_tls(fault.message) or fault.message}"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            within = "in time" if timeout is None else f"within {timeout:g} s"
            message = f"the {title} at {address} did not answer {within}"
        case grpc.StatusCode.UNIMPLEMENTED:
            message = f"the server at {address} is not a {title} of this version: {fault.message}"
        case _:
            return fault
    return replace(fault, message=message)
