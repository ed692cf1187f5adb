"""Keeps the key set of an issuer at hand: refreshed in the background, at once for a key that is not in it, and kept while it is away."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Final

from sickbay.adapters.jwt.fetch import Document, Fetcher, NotFetched
from sickbay.adapters.jwt.key_set import MAX_SET_BYTES, KeySet, Unusable, parse_set
from sickbay.concurrency.pauses import Backoff
from sickbay.domain.errors import Unavailable

REFRESH_S: Final = 300.0
LEAST_REFRESH_S: Final = 60.0
MOST_REFRESH_S: Final = 3_600.0
"""Bounds on what the issuer's Cache-Control says."""
FILE_REFRESH_S: Final = 2.0
EXTRA_S: Final = 10.0
"""The least time from the beginning of one look that a token caused to that of the next, whoever asks."""
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0

Load = Callable[[], Awaitable[Document]]
log = logging.getLogger(__name__)


class IssuerKeys:
    """`run` refreshes them until it is cancelled."""

    def __init__(
        self,
        load: Load,
        algorithms: frozenset[str],
        *,
        refresh_s: float | None = None,
        now: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`load` gets the document; `refresh_s` is how often, if the document does not say; `now` is in seconds."""
        self._load, self._algorithms, self._refresh_s, self._now, self._sleep = load, algorithms, refresh_s, now, sleep
        self._set: KeySet | None = None
        self._trouble = "it was not asked yet"
        self._logged = ""
        self._looking: asyncio.Task[None] | None = None
        self._extra_at = self._first_at = -math.inf
        self._next_s = REFRESH_S
        self._pauses = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self.on_change: Callable[[], None] = _nothing
        """Called when there is another set."""

    @property
    def trouble(self) -> str:
        """Why the last look failed; empty if it did not."""
        return self._trouble

    async def current(self) -> KeySet:
        """The set; without one it is looked for. Unavailable if it is not to be had now."""
        if self._set is None and self._is_looking:
            await self.refresh()
        elif self._set is None and self._now() - self._first_at >= EXTRA_S:
            self._first_at = self._now()
            await self.refresh()
        return self._known()

    async def after_look(self) -> KeySet:
        """The set for a token whose key is not in the present one: after a look, unless there was one just now.

        Unavailable if the look failed, so that nobody knows whether the issuer has such a key.
        """
        if self._is_looking:
            await self.refresh()
        elif self._now() - self._extra_at >= EXTRA_S:
            self._extra_at = self._now()
            await self.refresh()
        if self._trouble:
            raise self._away()
        return self._known()

    async def refresh(self) -> None:
        """Look now; all who want that at the same time share one look. Never raises: what fails is logged once."""
        if self._looking is None or self._looking.done():  # not while one is under way
            self._looking = asyncio.create_task(self._look(), name="keys of the issuer")
        await asyncio.shield(self._looking)

    async def run(self) -> None:
        """Refresh for ever, the first time at once."""
        while True:
            await self.refresh()
            if self._trouble:
                await self._sleep(self._pauses.next_s())
            else:
                self._pauses.reset()
                await self._sleep(self._next_s)

    async def close(self) -> None:
        """End a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    @property
    def _is_looking(self) -> bool:
        """Whether a look is under way, which whoever wants one joins."""
        return self._looking is not None and not self._looking.done()

    async def _look(self) -> None:
        try:
            document = await self._load()
            found = parse_set(document.body, self._algorithms)
        except (NotFetched, Unusable) as error:
            self._failed(str(error))
        except Exception:
            log.exception("internal error while looking at the keys of the issuer")
            self._failed("internal error")
        else:
            self._took(found, document.max_age_s)

    def _took(self, found: KeySet, max_age_s: int | None) -> None:
        if self._trouble and self._logged:
            log.info("the keys of the issuer (JWT) are at hand again")
        self._trouble = self._logged = ""
        said = REFRESH_S if max_age_s is None else min(max(max_age_s, LEAST_REFRESH_S), MOST_REFRESH_S)
        self._next_s = said if self._refresh_s is None else self._refresh_s
        if found != self._set:
            for why in found.skipped if self._set is None or found.skipped != self._set.skipped else ():
                log.warning("a key of the issuer (JWT) is not used: %s", why)
            self._set = found
            self.on_change()

    def _failed(self, why: str) -> None:
        self._trouble = why
        if why != self._logged:
            self._logged = why
            goes_on = "tokens are refused until they are" if self._set is None else "those of before go on"
            log.warning("the keys of the issuer (JWT) are not to be had: %s; %s", why, goes_on)

    def _known(self) -> KeySet:
        if self._set is None:
            raise self._away()
        return self._set

    def _away(self) -> Unavailable:
        return Unavailable(f"the keys of the token's issuer are not to be had now: {self._trouble}", retry_after=_FIRST_PAUSE_S)


def from_url(url: str, fetcher: Fetcher) -> Load:
    """The set at this address."""

    async def load() -> Document:
        return await fetcher.get(url)

    return load


def from_issuer(issuer: str, fetcher: Fetcher) -> Load:
    """The set whose address the issuer tells, asked anew each time."""

    async def load() -> Document:
        return await fetcher.get(await fetcher.discover(issuer))

    return load


def from_file(path: Path) -> Load:
    """The set in a file."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(MAX_SET_BYTES + 1)

    async def load() -> Document:
        try:
            return Document(await asyncio.to_thread(read))
        except OSError as error:
            raise NotFetched(f"the file {path} cannot be read: {error.strerror}") from None

    return load


def _nothing() -> None:
    """Nobody wants to know."""
