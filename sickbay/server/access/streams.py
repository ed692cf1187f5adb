"""Ends streams whose credentials count no longer: once a second the credentials of all open streams are looked at again."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sickbay.domain.errors import ErrorReason, SickbayError, Unauthenticated, Unavailable
from sickbay.server.access.caller import Caller
from sickbay.server.access.control import Access

LOOK_S: Final = 1.0

log = logging.getLogger(__name__)


class OpenStreams:
    """The streams of one port."""

    def __init__(self, access: Access, look_s: float = LOOK_S) -> None:
        """Nothing runs while there is no stream."""
        self._access, self._look_s = access, look_s
        self._open: defaultdict[Caller, set[asyncio.Future[None]]] = defaultdict(set)
        self._looking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    @asynccontextmanager
    async def hold(self, caller: Caller) -> AsyncIterator[asyncio.Future[None]]:
        """A future that gets the error by which the stream is to end."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open[caller].add(ended)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="credentials of streams")
        try:
            yield ended
        finally:
            ended.cancel()
            streams = self._open[caller]
            streams.discard(ended)
            if not streams:
                del self._open[caller]
            if not self._open and self._looking is not None:
                self._looking.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            for caller in list(self._open):
                error = await self._error(caller)
                for stream in [*self._open.get(caller, ())] if error is not None else ():
                    if not stream.done():
                        stream.set_exception(error)

    async def _error(self, caller: Caller) -> SickbayError | None:
        """Why this caller's streams are to end; None if they go on, as while it cannot be known."""
        try:
            found = await self._access.identify(caller.credentials)
        except Unavailable:
            return None
        except SickbayError as error:
            return error
        except Exception:
            log.exception("internal error while looking at the credentials of a stream; looking again")
            return None
        if found == caller.principal:
            return None
        return Unauthenticated("the rights of this credential have changed; call again", ErrorReason.CREDENTIAL_EXPIRED)
