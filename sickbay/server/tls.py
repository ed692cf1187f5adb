"""TLS of both doors: gRPC's credentials, and the names in a client certificate, in the same order over gRPC and REST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import grpc

from sickbay.ports.tls import Certificates, Material

CERTIFICATE: Final = "sickbay.certificate"
"""The extension of the ASGI scope with the names in the client certificate that the server has verified."""
_KINDS: Final = (("URI", "peer_uri"), ("DNS", "peer_dns"))
"""Alternative names that name a principal, as Python and as gRPC call them; addresses and mailboxes do not."""


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Credentials that ask for the certificate in force at each handshake; open connections keep theirs."""
    first = certificates.current
    shown = [first]

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        now = certificates.current
        if now is shown[0]:
            return None
        shown[0] = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first), cast("Any", fetch), require_client_authentication=first.client_ca is not None
    )


def names_over_grpc(context: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in the verified client certificate of gRPC's `auth_context()`: URIs, DNS names, then the common name; none without one."""
    found = [*(name for _, kind in _KINDS for name in context.get(kind, ())), *context.get("x509_common_name", ())[:1]]
    return _unique(name.decode("utf-8", "replace") for name in found)


def names_over_http(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The same of what `SSLObject.getpeercert()` returns, which is empty unless the certificate was verified."""
    if not certificate:
        return ()
    alternative = certificate.get("subjectAltName", ())
    common = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    return _unique([*(value for wanted, _ in _KINDS for kind, value in alternative if kind == wanted), *common[:1]])


def _unique(names: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.client_ca)
