"""Who calls: what a caller sends, and the port that finds the principal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from sickbay.domain.access import Principal


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller has sent: a bearer token, and the names in its client certificate. No `repr` shows the token."""

    bearer: str = field(default="", repr=False)
    certificate: tuple[str, ...] = ()
    """The names of a certificate that the TLS layer has verified: URIs, DNS names, and the common name last."""
    peer: str = ""
    """The caller's address, for the audit log."""


class Authenticator(Protocol):
    """Finds the principal of credentials. It is asked for every call, and every second for every stream, so it must be fast."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """The principal; None if these credentials are not of this kind, so that another authenticator is asked.

        Unauthenticated if they are of this kind and do not count, with the reason CREDENTIAL_EXPIRED if they did before.
        Unavailable if that cannot be known now.
        """
