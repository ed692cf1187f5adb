"""An authenticator with principals given by hand, whose tokens may be revoked at any moment."""

from __future__ import annotations

from sickbay.domain.access import Principal
from sickbay.domain.errors import ErrorReason, Unauthenticated
from sickbay.ports.access import Credentials


class KnownCallers:
    """Principals by their token."""

    def __init__(self, **principals: Principal) -> None:
        self.principals = dict(principals)
        self.revoked: set[str] = set()

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """See the port."""
        if credentials.bearer in self.revoked:
            raise Unauthenticated("the key was revoked", ErrorReason.CREDENTIAL_EXPIRED)
        return self.principals.get(credentials.bearer)
