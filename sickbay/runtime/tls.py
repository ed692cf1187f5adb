"""The certificate of the ports, from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sickbay.concurrency.tasks import background
from sickbay.ports.tls import Certificates
from sickbay.runtime.settings import Settings


@asynccontextmanager
async def open_tls(settings: Settings) -> AsyncIterator[Certificates | None]:
    """The certificate in force, renewed while the context lasts; None without TLS. SettingsError if a file is wrong at the start."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        yield None
        return
    from sickbay.adapters.tls.files import CertificateFiles  # noqa: PLC0415 - loads a library that nothing needs without TLS

    files = CertificateFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    async with background(files.run):
        yield files
