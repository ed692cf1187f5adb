"""The certificate, its key and the clients' authority from PEM files, read again once a second: a renewal counts for new connections.

A change counts only as a whole: until all files fit together, those before stay in force, and the log says once why.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from sickbay.domain.errors import SettingsError
from sickbay.ports.tls import Material

LOOK_S: Final = 1.0
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption alone. Those of TLS 1.3 all are."""
_SCRAMBLED: Final = "it is encrypted with a password; a service needs the key without one, readable by its user alone"

log = logging.getLogger(__name__)

Contents = tuple[bytes, bytes, bytes | None]


class CertificateFiles:
    """See `Certificates`; `run` looks for changes."""

    def __init__(self, certificate: str, key: str, client_ca: str | None = None) -> None:
        """Read them. SettingsError says which setting is wrong, and how."""
        self._files = Path(certificate), Path(key), None if client_ca is None else Path(client_ca)
        self._seen = self._read()
        self._current = self._parse(self._seen)
        while (found := self._read()) != self._seen:  # replaced while it was read
            self._seen, self._current = found, self._parse(found)
        self._failed: Contents | str | None = None
        self._warn_of_dates(self._current)

    @property
    def current(self) -> Material:
        """The latest that is valid."""
        return self._current

    async def run(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Look once: what has changed and is valid is in force afterwards."""
        try:
            found = self._read()
        except SettingsError as error:
            self._keep(str(error), error)
            return
        if found == self._seen:
            self._failed = None
            return
        try:
            material = self._parse(found)
            if self._read() != found:  # replaced while it was read: next time
                return
        except SettingsError as error:
            self._keep(found, error)
            return
        self._seen, self._current, self._failed = found, material, None
        log.info("TLS certificate renewed: new connections use %s, valid until %s", self._files[0], _until(material))
        self._warn_of_dates(material)

    def _keep(self, what: Contents | str, error: SettingsError) -> None:
        if what != self._failed:
            self._failed = what
            log.error("the TLS certificate in force stays: %s", error)

    def _read(self) -> Contents:
        certificate, key, client_ca = self._files
        return (
            _bytes(certificate, "TLS_CERT_FILE"),
            _bytes(key, "TLS_KEY_FILE"),
            None if client_ca is None else _bytes(client_ca, "TLS_CLIENT_CA_FILE"),
        )

    def _parse(self, contents: Contents) -> Material:
        certificate, key, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        try:
            x509.load_pem_x509_certificates(contents[0])
        except ValueError:
            raise SettingsError(f"TLS_CERT_FILE: {certificate} has no certificate in PEM") from None
        if b"ENCRYPTED" in contents[1]:
            raise SettingsError(f"TLS_KEY_FILE: {key}: {_SCRAMBLED}")
        if b"PRIVATE KEY-----" not in contents[1]:
            raise SettingsError(f"TLS_KEY_FILE: {key} has no private key in PEM")
        try:
            context.load_cert_chain(certificate, key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise SettingsError(f"TLS_KEY_FILE: the key in {key} does not belong to the certificate in {certificate}") from None
            raise SettingsError(
                f"TLS_CERT_FILE, TLS_KEY_FILE: {certificate} and {key} are no certificate and key ({error.reason})"
            ) from None
        except OSError as error:
            raise SettingsError(f"TLS_CERT_FILE, TLS_KEY_FILE: {certificate} or {key}: {error.strerror}") from None
        if contents[2] is not None:
            try:
                x509.load_pem_x509_certificates(contents[2])
                context.load_verify_locations(cadata=contents[2].decode("ascii"))
            except ValueError:
                raise SettingsError(f"TLS_CLIENT_CA_FILE: {client_ca} has no certificate in PEM") from None
            except ssl.SSLError as error:
                raise SettingsError(f"TLS_CLIENT_CA_FILE: {client_ca} is not usable ({error.reason})") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return Material(*contents, context)

    def _warn_of_dates(self, material: Material) -> None:
        now, one = datetime.now(UTC), x509.load_pem_x509_certificates(material.certificate)[0]
        if one.not_valid_after_utc <= now:
            log.warning("TLS_CERT_FILE: the certificate in %s expired on %s; clients refuse it", self._files[0], _until(material))
        elif one.not_valid_before_utc > now:
            log.warning("TLS_CERT_FILE: the certificate in %s is not valid before %s", self._files[0], _shown(one.not_valid_before_utc))


def _until(material: Material) -> str:
    return _shown(x509.load_pem_x509_certificates(material.certificate)[0].not_valid_after_utc)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _bytes(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{setting}: cannot read {path} ({error.strerror})") from None
