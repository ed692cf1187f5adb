"""The options of `Client` and `AsyncClient`, and the environment variables that have the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sickbay.client.calls import Server
from sickbay.client.errors import FailedPrecondition
from sickbay.client.transport import TLS, Transport, is_loopback
from sickbay.domain.errors import ErrorReason
from sickbay.domain.service_ports import CONTROL_PLANE, JOB_API

JOB_API_ADDRESS: Final = f"localhost:{JOB_API.grpc}"
CONTROL_PLANE_ADDRESS: Final = f"localhost:{CONTROL_PLANE.grpc}"
TIMEOUT_S: Final = 10.0
LOCAL_FOLDER: Final = Path(".sickbay")
"""The data folder of `sickbay up`, unless --data says otherwise."""
_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("", "0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Where the services are and how they are reached. `timeout` is in seconds, None: none."""

    job_api: str
    control_plane: str
    timeout: float | None
    transport: Transport = field(default_factory=Transport)

    def seconds(self, timeout: float | None) -> float | None:
        """The timeout of a call: None is the client's, and `math.inf` is none."""
        found = self.timeout if timeout is None else timeout
        return None if found == float("inf") else found

    @classmethod
    def of(
        cls,
        job_api: str,
        control_plane: str | None,
        token: str | None,
        token_file: str | Path | None,
        *,
        tls: TLS | bool,
        timeout: float | None,
        allow_plaintext_token: bool,
    ) -> ClientOptions:
        """From the arguments of a client; ValueError if they contradict each other, or the token would be sent unencrypted."""
        if token and token_file is not None:
            msg = "give either token or token_file"
            raise ValueError(msg)
        if timeout is not None and not timeout > 0:
            msg = f"timeout must be positive seconds or None, not {timeout!r}"
            raise ValueError(msg)
        found = tls if isinstance(tls, TLS) else TLS() if tls else None
        transport = Transport(found, token or "", token_file, allow_plaintext_token)
        beside = CONTROL_PLANE_ADDRESS if is_loopback(job_api) else ""
        options = cls(job_api, beside if control_plane is None else control_plane, timeout, transport)
        for address in (options.job_api, options.control_plane):
            if address:
                transport.check(address)
        return options

    def address(self, server: Server) -> str:
        """That of the service; FailedPrecondition if it was not named."""
        if server is Server.JOB_API:
            return self.job_api
        if not self.control_plane:
            raise FailedPrecondition(
                "this call needs the control plane: name its gRPC address, Client(..., control_plane='HOST:PORT') or SICKBAY_CONTROL_PLANE",
                reason=ErrorReason.NOT_CONFIGURED.value,
                code="FAILED_PRECONDITION",
            )
        return self.control_plane


def from_environment(environment: Mapping[str, str] | None = None) -> ClientOptions:
    """The options in these variables (`os.environ`); docs/clients.md has them. ValueError names the one that is wrong."""
    found = {name: value.strip() for name, value in (os.environ if environment is None else environment).items()}

    def get(name: str) -> str | None:
        return found.get(f"SICKBAY_{name}") or None

    job_api, control_plane, token, token_file = get("JOBAPI") or JOB_API_ADDRESS, get("CONTROL_PLANE"), get("TOKEN"), get("TOKEN_FILE")
    own = None if token or token_file or not is_loopback(control_plane or CONTROL_PLANE_ADDRESS) else local_token_file(job_api)
    return ClientOptions.of(
        job_api,
        control_plane,
        token,
        token_file or own,
        tls=_tls(found) or False,
        timeout=_seconds(get("TIMEOUT")),
        allow_plaintext_token=_flag("SICKBAY_ALLOW_PLAINTEXT_TOKEN", found),
    )


def transport_from(environment: Mapping[str, str]) -> Transport:
    """TLS and token alone, for programs that have addresses of their own."""
    token_file = environment.get("SICKBAY_TOKEN_FILE") or None
    token = environment.get("SICKBAY_TOKEN", "").strip()
    if token and token_file:
        msg = "set either SICKBAY_TOKEN or SICKBAY_TOKEN_FILE"
        raise ValueError(msg)
    return Transport(_tls(environment), token, token_file, _flag("SICKBAY_ALLOW_PLAINTEXT_TOKEN", environment))


def local_token_file(address: str, folder: Path = LOCAL_FOLDER) -> Path | None:
    """The token that `sickbay up` has made in its data folder here, for a service on this machine; None if there is none.

    It counts only if it is this user's own, and nobody else can read it: a folder of others must not decide what is sent.
    """
    path = folder / "token"
    if not is_loopback(address):
        return None
    try:
        found = path.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return path.absolute() if is_ours else None


def _tls(environment: Mapping[str, str]) -> TLS | None:
    ca_file, cert_file, key_file = (environment.get(f"SICKBAY_TLS_{name}_FILE") or None for name in ("CA", "CERT", "KEY"))
    server_name = environment.get("SICKBAY_TLS_SERVER_NAME", "")
    if ca_file or cert_file or key_file or server_name or _flag("SICKBAY_TLS", environment):
        try:
            return TLS(ca_file, cert_file, key_file, server_name)
        except ValueError:
            msg = "set both SICKBAY_TLS_CERT_FILE and SICKBAY_TLS_KEY_FILE, or neither"
            raise ValueError(msg) from None
    return None


def _flag(name: str, environment: Mapping[str, str]) -> bool:
    value = environment.get(name, "").lower()
    if value not in _TRUE + _FALSE:
        msg = f"{name} must be 1 or 0, not {value!r}"
        raise ValueError(msg)
    return value in _TRUE


def _seconds(text: str | None) -> float | None:
    if text is None:
        return TIMEOUT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        msg = f"SICKBAY_TIMEOUT must be positive seconds, not {text!r}"
        raise ValueError(msg)
    return seconds
