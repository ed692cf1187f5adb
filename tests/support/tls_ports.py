"""Certificates for the ports of services and for their clients, and files that are replaced as Kubernetes replaces those of a Secret."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import trustme

from sickbay.client.transport import TLS

LONG_AGO = {"not_before": datetime(2020, 1, 1, tzinfo=UTC), "not_after": datetime(2021, 1, 1, tzinfo=UTC)}


class Papers:
    """An authority, and the PEM files that it has signed, in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.authority.cert_pem.bytes())

    def sign(self, name: str, *names: str, common_name: str | None = None, **dates: Any) -> tuple[Path, Path]:
        """The files of a certificate with these alternative names, and of its key."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain, secret = self.pair(*names, common_name=common_name, **dates)
        certificate.write_bytes(chain)
        key.write_bytes(secret)
        return certificate, key

    def pair(self, *names: str, common_name: str | None = None, **dates: Any) -> tuple[bytes, bytes]:
        """The same in memory."""
        signed = self.authority.issue_cert(*(names or ("localhost", "127.0.0.1")), common_name=common_name, **dates)
        return b"".join(pem.bytes() for pem in signed.cert_chain_pems), signed.private_key_pem.bytes()

    def for_server(self, client_ca: Path | None = None) -> Mapping[str, str]:
        """The settings of a service, with a new certificate."""
        certificate, key = self.sign("server")
        mutual = {} if client_ca is None else {"TLS_CLIENT_CA_FILE": str(client_ca)}
        return {"TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)} | mutual

    def context(self, badge: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """For an HTTP client, with a certificate of its own or without."""
        context = ssl.create_default_context(cafile=self.ca)
        if badge is not None:
            context.load_cert_chain(*badge)
        return context

    def tls(self, badge: tuple[Path, Path] | None = None) -> TLS:
        """For a `Client`."""
        return TLS(self.ca) if badge is None else TLS(self.ca, *badge)

    def credentials(self, badge: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
        """For a channel."""
        return self.tls(badge).credentials()


class SecretMount:
    """A folder as kubelet keeps it for a Secret: files are links into a folder that is swapped as a whole."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self._version = folder, 0

    def put(self, **files: bytes) -> None:
        """Replace all of them at once; `tls_crt` is the file tls.crt."""
        self._version += 1
        new = self.folder / f"..{self._version}"
        new.mkdir()
        for name, content in files.items():
            (new / name.replace("_", ".")).write_bytes(content)
            link = self.folder / name.replace("_", ".")
            if not link.is_symlink():
                link.symlink_to(f"..data/{link.name}")
        (self.folder / "..new").symlink_to(new.name)
        (self.folder / "..new").replace(self.folder / "..data")
