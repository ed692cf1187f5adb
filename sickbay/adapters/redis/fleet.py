"""What a process of the fleet does with Redis for its circuits: ask the script, keep the view true, notice when Redis is away.

`breakers.py` is the port on top of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from time import monotonic, time
from typing import Any, Final, cast

from sickbay.adapters.redis import script
from sickbay.adapters.redis.client import Client, StoreSilent
from sickbay.adapters.redis.feed import Feed, ended
from sickbay.adapters.redis.script import Reply, Script, Word
from sickbay.adapters.redis.store import Store
from sickbay.adapters.redis.view import Seen, View
from sickbay.breaker import Document, from_json
from sickbay.breaker_moves import MAX_JITTER
from sickbay.circuit import BreakerConfig, Key
from sickbay.errors import Unavailable
from sickbay.ports import Clock

CHANNEL: Final = "breaker.events"
TYPES: Final = "breakers"
"""Hash: every name that was ever registered, with all its failures."""
SYNC_EVERY_S: Final = 1.0
UNKNOWN: Final = "no answer yet"

log = logging.getLogger(__name__)


class FleetTime:
    """The time of Redis as well as it is known here: its last word plus what has passed since. A given clock replaces both."""

    def __init__(self, clock: Clock | None) -> None:
        self.given = clock
        self._ahead = time() * 1000 - monotonic() * 1000

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self.given() if self.given is not None else int(monotonic() * 1000 + self._ahead)

    def heard(self, now: int) -> None:
        """Redis told the time."""
        self._ahead = now - monotonic() * 1000


class Fleet:
    """The script, the view and the two tasks that keep the view true.

    `is_away` is True from the first failed call until everything was read anew, and before the first reading. `on_return` is called then.
    """

    def __init__(
        self,
        client: Client,
        where: str,
        config: BreakerConfig,
        clock: Clock | None,
        rng: Random,
        *,
        on_change: Callable[[Key, Seen | None], None],
        on_return: Callable[[], Awaitable[None]],
    ) -> None:
        """`where` is what logs call this Redis."""
        self.is_away = True
        self.time = FleetTime(clock)
        self.view = View(on_change)
        self._where = where
        self._config = config
        self._rng = rng
        self._on_return = on_return
        self._store = Store(client)
        self._script = Script(script.source(*script.PARTS))
        database = client.connection_pool.connection_kwargs.get("db", 0)
        # Channels do not belong to a database: without this two systems on one server would hear each other.
        self._channel = CHANNEL if database in {0, "0"} else f"{CHANNEL}@{database}"
        self._feed = Feed(client, self._channel, on_subscribed=self._subscribed, on_notice=self._noticed, on_trouble=self._tell, rng=rng)
        self._told = ""
        self._used: set[Key] = set()
        self._wanted = asyncio.Event()
        self._sees_all = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read everything once if Redis answers, and keep it true from then on."""
        await self._feed.start()
        self._tell(UNKNOWN)
        self._task = asyncio.create_task(self._keep_true(), name="breaker view")

    async def stop(self) -> None:
        """End both tasks and close the connections; stopping twice is harmless."""
        await self._feed.stop()
        if self._task is not None:
            await ended(self._task)
        with contextlib.suppress(Unavailable):
            await self._store.close()

    def use(self, key: Key) -> Document | None:
        """The circuit as it is known here; it will be compared with Redis within a second. Costs no I/O."""
        self._used.add(key)
        if not self._wanted.is_set():
            self._wanted.set()
        return self.view.get(key)

    def see_all(self, change: int) -> None:
        """Somebody begins (1) or ends (-1) to watch: meanwhile all circuits are compared, not just the used ones."""
        self._sees_all += change
        self._wanted.set()

    async def call(self, operation: str, key: Key, words: Sequence[Word] = ()) -> Reply:
        """Let the script act on a circuit, and learn what it is after. Raises Unavailable."""
        asked_with = self.view.get(key)
        jitter = self._rng.randint(0, MAX_JITTER)
        now = self.time.given() if self.time.given is not None else None
        begin = script.request(operation, key, self._config, self._channel, now=now, jitter=jitter)
        answered = await self._ask(lambda client: self._script.run(client, script.key_of(key), [*begin, *words]))
        try:
            reply = script.reply(answered)
        except ValueError as error:
            raise StoreSilent("the circuit's document cannot be read") from error
        self.time.heard(reply.now)
        self.view.answer(key, reply.doc, reply.total, asked_with)
        return reply

    async def read_all(self) -> None:
        """Make the view equal to Redis. Raises Unavailable."""
        known = self.view.known()
        (seconds, micros), totals = await self._ask(_overview)
        self.time.heard(seconds * 1000 + micros // 1000)
        counts = {script.named(name.decode()): int(total) for name, total in totals.items()}
        await self._read({key: known.get(key) for key in {*known, *counts}}, counts)
        if self.is_away:
            await self._returned()

    async def _read(self, asked_with: dict[Key, Document | None], totals: dict[Key, int]) -> None:
        if not asked_with:
            return
        texts = await self._ask(lambda client: client.mget([script.key_of(key) for key in asked_with]))
        for (key, doc), text in zip(asked_with.items(), texts, strict=True):
            self.view.answer(key, _document(text), totals.get(key), doc)

    async def _ask(self, call: Callable[[Client], Awaitable[Any]]) -> Any:
        try:
            return await self._store.ask(call)
        except StoreSilent as error:
            if not self.is_away:
                self.is_away = True
                self._wanted.set()
                self._tell(error.detail)
            raise

    def _tell(self, why: str) -> None:
        """Log once for each time that Redis is away, or twice if the first time it was not known why."""
        if self.is_away and (not self._told or (self._told == UNKNOWN and why != UNKNOWN)):
            self._told = why
            log.warning("Redis (%s) does not answer (%s); circuits run degraded until it does", self._where, why)

    async def _returned(self) -> None:
        self.is_away = False
        self._told = ""
        log.info("Redis (%s) answers; the fleet's circuits are in force", self._where)
        await self._on_return()

    async def _subscribed(self) -> None:
        self._store.forgive()
        await self.read_all()

    def _noticed(self, payload: bytes) -> None:
        try:
            doc, total = script.notice(payload)
        except ValueError:
            log.warning("something else than a circuit was published on %s", self._channel)
        else:
            self.view.notice(doc, total)

    async def _keep_true(self) -> None:
        """Once a second, and only while circuits are used or watched, or Redis is away."""
        while True:
            await self._wanted.wait()
            with contextlib.suppress(Unavailable):
                await self._compare()
            if not self._sees_all and not self.is_away and not self._used:
                self._wanted.clear()
            await asyncio.sleep(SYNC_EVERY_S)

    async def _compare(self) -> None:
        used, self._used = self._used, set()
        if self._sees_all or self.is_away:
            await self.read_all()
        else:
            await self._read({key: self.view.get(key) for key in used}, {})


async def _overview(client: Client) -> Any:
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.hgetall(TYPES)
    return await pipeline.execute()


def _document(text: Any) -> Document | None:
    try:
        return from_json(cast("bytes", text)) if text else None
    except ValueError:  # written by somebody else; the script will begin anew
        return None
