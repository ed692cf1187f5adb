"""Ends streams whose credentials count no longer: once a second the credentials of all open streams are looked at again."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from sickbay.domain.errors import ErrorReason, SickbayError, Unauthenticated, Unavailable
from sickbay.server.access.caller import Caller
from sickbay.server.access.control import Access

LOOK_S: Final = 1.0
AT_ONCE: Final = 32
"""Credentials that are looked at at the same time, so that one that takes its time does not keep the others."""

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
            if not ended.cancel() and not ended.cancelled():
                ended.exception()  # seen, though the stream has ended by itself
            streams = self._open[caller]
            streams.discard(ended)
            if not streams:
                del self._open[caller]
            if not self._open and self._looking is not None:
                self._looking.cancel()
                self._looking = None  # a stream that begins now needs another one

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            callers = iter(list(self._open))
            async with asyncio.TaskGroup() as group:
                for _ in range(min(AT_ONCE, len(self._open))):
                    group.create_task(self._look_at(callers))

    async def _look_at(self, callers: Iterator[Caller]) -> None:
        for caller in callers:
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
