"""Opens access control from the settings: keys from a file, tokens of an issuer, client certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sickbay.domain.errors import MissingSetting
from sickbay.ports.access import Authenticator
from sickbay.runtime.settings import Settings
from sickbay.runtime.tokens import open_tokens
from sickbay.runtime.variables import AuthMode
from sickbay.server.access.control import Access, exempt


@asynccontextmanager
async def open_access(settings: Settings, own: Sequence[Authenticator] = ()) -> AsyncIterator[Access | None]:
    """Access control for the services of this process; None if AUTH is off. `own` are authenticators beside those of the settings.

    MissingSetting if AUTH is required and nothing says who may call.
    """
    if settings.auth is not AuthMode.REQUIRED:
        yield None
        return
    async with open_tokens(settings) as tokens:
        authenticators = [*own, *([] if tokens is None else [tokens])]
        if not authenticators:
            raise MissingSetting("AUTH=required needs to know who may call: set API_KEYS_FILE (sickbay keys new), or JWT_ISSUER")
        yield Access(authenticators, exempt(settings.auth_exempt))
