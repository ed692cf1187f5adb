"""What a process of the fleet does with Redis for its circuits: ask the script, keep the view true, notice when Redis is away.

`breakers.py` is the port on top of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from random import Random
from time import monotonic
from typing import Any, Final

from sickbay.adapters.redis import script
from sickbay.adapters.redis.client import REFUSES, SILENT, Client, Odd, Refused, StoreSilent
from sickbay.adapters.redis.documents import TYPES, Documents, overview, texts, totals
from sickbay.adapters.redis.feed import Feed, ended
from sickbay.adapters.redis.guarded_client import GuardedClient
from sickbay.adapters.redis.script import Reply, Script, Word
from sickbay.adapters.redis.view import Seen, View
from sickbay.adapters.redis.write_check import TRY_AGAIN_S, Trying
from sickbay.breaker.machine import Document
from sickbay.breaker.transitions import MAX_JITTER
from sickbay.domain.breaker import BreakerConfig, BreakerKey
from sickbay.domain.errors import Unavailable
from sickbay.ports import Clock
from sickbay.system.clock import uptime, wall_clock

CHANNEL: Final = "breaker.events"
SYNC_EVERY_S: Final = 1.0
UNKNOWN: Final = "no response yet"
NOBODY: Final = BreakerKey("!")
"""No job type: the circuit whose writing is tried."""
SAY_AGAIN_S: Final = 60.0
FORGOTTEN_AT_ONCE: Final = 100
"""Names without a circuit that one reading takes from the hash."""
READ_AT_ONCE: Final = 500
"""Circuits asked for with one command."""
LONGEST_REFUSAL_S: Final = 30.0

log = logging.getLogger(__name__)


class RedisClock:
    """The time of Redis as well as it is known here: its last word plus what has passed since. A given clock replaces both."""

    def __init__(self, clock: Clock | None) -> None:
        self.given = clock
        self._ahead = wall_clock() - uptime()

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self.given() if self.given is not None else uptime() + self._ahead

    def heard(self, now: int) -> None:
        """Redis told the time."""
        self._ahead = now - uptime()


class BreakerSync:
    """The script, the view, the two tasks that keep the view true, and the one that tries whether Redis takes writes.

    `is_away` is True from the first failed call until everything was read anew and a write was taken, and before the first reading.
    `on_return` is called then. A Redis that answers and refuses writes is away, too, but for the view, which stays true.
    """

    def __init__(
        self,
        client: Client,
        where: str,
        config: BreakerConfig,
        clock: Clock | None,
        rng: Random,
        *,
        on_change: Callable[[BreakerKey, Seen | None], None],
        on_return: Callable[[], Awaitable[None]],
    ) -> None:
        """`where` is what logs call this Redis."""
        self.is_away = True
        self.time = RedisClock(clock)
        self.view = View(on_change)
        self._documents = Documents()
        self._where = where
        self._config = config
        self._rng = rng
        self._on_return = on_return
        self._store = GuardedClient(client)
        self._script = Script(script.source(*script.PARTS))
        database = client.connection_pool.connection_kwargs.get("db", 0)
        # Channels do not belong to a database: without this two systems on one server would hear each other.
        self._channel = CHANNEL if database in {0, "0"} else f"{CHANNEL}@{database}"
        self._feed = Feed(client, self._channel, on_subscribed=self._subscribed, on_notice=self._noticed, on_trouble=self._unheard, rng=rng)
        self._told = ""
        self._odd_at = 0.0
        self._refuses = False
        """Whether the last call that failed was refused, and not just unanswered."""
        self._refusals = 0
        """How often writes were refused anew since the last of a circuit that was taken."""
        self._write_at = 0.0
        """When to try a write again that was refused, by the monotonic clock."""
        self._trying = Trying("breaker writes", self._try, lambda: False)
        self._used: set[BreakerKey] = set()
        self._wanted = asyncio.Event()
        self._doubts = False
        self._sees_all = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read everything once if Redis answers, and keep it true from then on."""
        await self._feed.start()
        self._tell(UNKNOWN)
        self._task = asyncio.create_task(self._keep_true(), name="breaker view")
        self._trying.start()

    async def stop(self) -> None:
        """End all tasks and close the connections; stopping twice is harmless."""
        await self._trying.stop()
        await self._feed.stop()
        if self._task is not None:
            await ended(self._task)
        with contextlib.suppress(Unavailable):
            await self._store.close()

    @property
    def trouble(self) -> str:
        """Why the fleet's circuits are not in force here, in words that give nothing away; "" if they are."""
        if not self.is_away:
            return ""
        return REFUSES if self._refuses else SILENT

    def use(self, key: BreakerKey) -> Document | None:
        """The circuit as it is known here; it will be compared with Redis within a second. Costs no I/O."""
        self._used.add(key)
        if not self._wanted.is_set():
            self._wanted.set()
        return self.view.get(key)

    def see_all(self, change: int) -> None:
        """Somebody begins (1) or ends (-1) to watch: meanwhile all circuits are compared, not just the used ones."""
        self._sees_all += change
        self._wanted.set()

    async def call(self, operation: str, key: BreakerKey, words: Sequence[Word] = ()) -> Reply:
        """Let the script act on a circuit, and learn what it is after. Raises Unavailable."""
        if self._refuses and operation != "probe" and self.is_away:
            raise Refused("it rejected a write recently")
        asked_with = self.view.get(key)
        jitter = self._rng.randint(0, MAX_JITTER)
        now = self.time.given() if self.time.given is not None else None
        begin = script.common_args(operation, key, self._config, self._channel, now=now, jitter=jitter)
        answered = await self._ask(lambda client: self._script.run(client, script.key_of(key), [*begin, *words]))
        try:
            reply = script.parse_reply(answered)
        except ValueError as error:
            raise StoreSilent("the breaker's key cannot be read") from error
        self.time.heard(reply.now)
        if operation == "probe":
            return reply
        self._refusals = 0
        self.view.answer(key, reply.doc, reply.total, asked_with)
        return reply

    async def read_all(self) -> None:
        """Make the view equal to Redis. Raises Unavailable."""
        known = self.view.known()
        (seconds, micros), found = await self._ask(overview)
        self.time.heard(seconds * 1000 + micros // 1000)
        counts = {script.key_from_name(name.decode()): int(total) for name, total in found.items()}
        await self._read({key: known.get(key) for key in {*known, *counts}}, counts)
        if self.is_away:
            await self._try_writing()
            await self._returned()
        self._documents.keep(counts)
        gone = [key for key in counts if self.view.get(key) is None]
        for key in gone[:FORGOTTEN_AT_ONCE]:
            await self.call("forget", key)

    async def keys(self) -> list[BreakerKey]:
        """Whose circuits Redis has. Raises Unavailable."""
        return sorted(script.key_from_name(name.decode()) for name in await self._ask(lambda client: client.hkeys(TYPES)))

    async def read(self, keys: Collection[BreakerKey]) -> None:
        """Make the view of some circuits equal to Redis; of all if that has been away. Raises Unavailable."""
        if self.is_away or not keys:
            await self.read_all()
            return
        (seconds, micros), found = await self._ask(lambda client: totals(client, keys))
        self.time.heard(seconds * 1000 + micros // 1000)
        counts = {key: int(total) for key, total in zip(keys, found, strict=True) if total is not None}
        await self._read({key: self.view.get(key) for key in keys}, counts)

    async def _try_writing(self) -> None:
        """Raises Refused if Redis would take no write, or did so lately."""
        if self._refuses and monotonic() < self._write_at:
            raise Refused("it rejected a write recently")
        await self.call("probe", NOBODY)

    async def _try(self) -> None:
        """Healthy circuits write nothing, and must know all the same whether Redis would let them. One that is away is tried elsewhere."""
        if not self.is_away:
            await self.call("probe", NOBODY)

    async def _read(self, asked_with: dict[BreakerKey, Document | None], totals: dict[BreakerKey, int]) -> None:
        """Some at a time, so that neither Redis nor this process is busy with it for long."""
        asked = list(asked_with.items())
        for start in range(0, len(asked), READ_AT_ONCE):
            some = dict(asked[start : start + READ_AT_ONCE])
            found = await self._ask(partial(texts, keys=some))
            for (key, doc), text in zip(some.items(), found, strict=True):
                self.view.answer(key, self._documents.read(key, text), totals.get(key), doc)

    async def _ask(self, call: Callable[[Client], Awaitable[Any]]) -> Any:
        try:
            return await self._store.ask(call)
        except Odd as error:
            self._tell_odd(error.detail)
            raise
        except StoreSilent as error:
            self._refuses = isinstance(error, Refused)
            if self._refuses:
                self._refused()
            if not self.is_away:
                self.is_away = True
                self._wanted.set()
                self._tell(error.detail)
            raise

    def _tell_odd(self, why: str) -> None:
        """One circuit cannot be asked, the others can; said once a minute, for it may be each of its jobs that asks."""
        if monotonic() >= self._odd_at:
            self._odd_at = monotonic() + SAY_AGAIN_S
            log.warning(
                "Redis (%s) has an invalid breaker key; this process uses its own breaker until the key is deleted: %s", self._where, why
            )

    def _refused(self) -> None:
        """Whoever is refused although a try was taken tries later each time: a user who may try, and not publish, is refused for ever."""
        if not self.is_away:
            self._refusals += 1
        pause = min(LONGEST_REFUSAL_S, TRY_AGAIN_S * 2.0 ** min(16, max(0, self._refusals - 1)))
        self._write_at = monotonic() + pause * self._rng.uniform(0.5, 1.0)

    def _unheard(self, why: str) -> None:
        """Notices cannot be heard: whether Redis answers at all is found out now, also if no circuit is used."""
        self._doubts = True
        self._wanted.set()
        self._tell(why)

    def _tell(self, why: str) -> None:
        """Log once for each time that Redis is away, or twice if the first time it was not known why."""
        if self.is_away and (not self._told or (self._told == UNKNOWN and why != UNKNOWN)):
            self._told = why
            does_not = "rejects commands" if self._refuses else "is unavailable"
            log.warning("Redis (%s) %s (%s); breakers are degraded until it recovers", self._where, does_not, why)

    async def _returned(self) -> None:
        self.is_away = False
        self._told = ""
        log.info("Redis (%s) is available; the shared breakers are used again", self._where)
        await self._on_return()

    async def _subscribed(self) -> None:
        self._store.forgive()
        await self.read_all()

    def _noticed(self, payload: bytes) -> None:
        try:
            doc, total = script.parse_notice(payload)
        except ValueError:
            log.warning("an invalid message was published on %s and is ignored", self._channel)
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
        doubts, self._doubts = self._doubts, False
        if self._sees_all or self.is_away or doubts:
            await self.read_all()
        else:
            await self._read({key: self.view.get(key) for key in used}, {})
