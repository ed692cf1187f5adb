"""Opens access control from the settings: keys from a file, and the token of `sickbay up`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sickbay.adapters.access.known_keys import KnownKeys
from sickbay.adapters.access.local_token import FILE as TOKEN_FILE
from sickbay.adapters.access.local_token import LocalToken
from sickbay.concurrency.tasks import background
from sickbay.domain.errors import MissingSetting
from sickbay.ports.access import Authenticator
from sickbay.runtime.settings import Settings
from sickbay.runtime.tokens import open_tokens
from sickbay.runtime.variables import AuthMode
from sickbay.server.access.control import Access, exempt
from sickbay.system.clock import wall_clock

__all__ = ["TOKEN_FILE", "open_access"]


@asynccontextmanager
async def open_access(settings: Settings, folder: Path | None = None) -> AsyncIterator[Access | None]:
    """Access control for the services of this process; None if AUTH is off. `folder` gets a token for this user of the machine.

    MissingSetting if AUTH is required and nothing says who may call.
    """
    if settings.auth is not AuthMode.REQUIRED:
        yield None
        return
    async with AsyncExitStack() as stack:
        authenticators: list[Authenticator] = []
        if folder is not None:
            authenticators.append(LocalToken(folder))
        if settings.api_keys_file is not None:
            keys = KnownKeys(Path(settings.api_keys_file), wall_clock)
            await stack.enter_async_context(background(keys.run))
            authenticators.append(keys)
        if (tokens := await stack.enter_async_context(open_tokens(settings))) is not None:
            authenticators.append(tokens)
        if not authenticators:
            raise MissingSetting(
                "AUTH=required needs to know who may call: set API_KEYS_FILE (`sickbay keys new` writes one), or JWT_ISSUER"
            )
        yield Access(authenticators, exempt(settings.auth_exempt))
