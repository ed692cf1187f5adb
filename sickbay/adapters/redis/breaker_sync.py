"""Keeps a process in sync with the breakers in Redis: calls the script, keeps the view up to date, notices when Redis is unavailable.

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

from sickbay.adapters.breaker_view import DocumentView
from sickbay.adapters.redis import script
from sickbay.adapters.redis.client import REJECTS_WRITES, UNAVAILABLE, Client, KeyRejected, RedisUnavailable, Refused
from sickbay.adapters.redis.clock import RedisClock
from sickbay.adapters.redis.documents import Documents, batched, names, overview, some, texts
from sickbay.adapters.redis.feed import BreakerFeed, cancel_and_wait
from sickbay.adapters.redis.guarded_client import GuardedClient
from sickbay.adapters.redis.script import Reply, Script, Word
from sickbay.adapters.redis.view import Seen, View
from sickbay.adapters.redis.write_check import TRY_AGAIN_S, WriteCheck
from sickbay.breaker.cooldown import MAX_JITTER
from sickbay.breaker.machine import Document
from sickbay.domain.breaker import BreakerKey, ConfigOf
from sickbay.domain.errors import Unavailable
from sickbay.ports import BreakerView, Clock

CHANNEL: Final = "breaker.events"
SYNC_EVERY_S: Final = 1.0
UNKNOWN: Final = "no response yet"
TEST_KEY: Final = BreakerKey("!")
"""Not a job type: the key of the test write."""
LOG_EVERY_S: Final = 60.0
FORGET_AT_ONCE: Final = 100
"""How many names without a document one read removes from the hash."""
LONGEST_REFUSAL_S: Final = 30.0

log = logging.getLogger(__name__)


class BreakerSync:
    """The script, the view, the two tasks that keep the view up to date, and the one that checks whether Redis accepts writes.

    `is_unavailable` is True from the first failed call until everything was read again and a write was accepted, and before the first
    read. `on_recovered` is called then. A Redis that rejects writes counts as unavailable, too, but the view stays up to date.
    """

    def __init__(
        self,
        client: Client,
        where: str,
        config: ConfigOf,
        clock: Clock | None,
        rng: Random,
        *,
        on_change: Callable[[BreakerKey, Seen | None], None] = lambda _, __: None,
        on_recovered: Callable[[], Awaitable[None]] | None = None,
        writes: bool = True,
    ) -> None:
        """`where` is the name of this Redis in logs. Without `writes` it only reads, so Redis need not accept writes."""
        self.is_unavailable = True
        self.time = RedisClock(clock)
        self.view = View(on_change)
        self._documents = Documents()
        self._where = where
        self._config = config
        self._rng = rng
        self._on_recovered = on_recovered
        self._writes = writes
        self._store = GuardedClient(client)
        self._script = Script(script.source(*script.PARTS))
        database = client.connection_pool.connection_kwargs.get("db", 0)
        # Channels do not belong to a database: without this two systems on one server would get each other's notices.
        self._channel = CHANNEL if database in {0, "0"} else f"{CHANNEL}@{database}"
        self._feed = BreakerFeed(
            client, self._channel, on_subscribed=self._on_subscribed, on_notice=self._on_notice, on_trouble=self._on_feed_trouble, rng=rng
        )
        self._logged = ""
        self._rejected_key_at = 0.0
        self._refuses = False
        """Whether the last failed call was rejected by Redis, and not unanswered."""
        self._refusals = 0
        """How often writes were rejected again since the last accepted write of a breaker."""
        self._write_at = 0.0
        """When to try a write again after a rejection, by the monotonic clock."""
        self._write_check = WriteCheck("breaker writes", self._check_writes, lambda: False)
        self._used: set[BreakerKey] = set()
        self._sync_wanted = asyncio.Event()
        self._read_all_next = False
        self._watcher_count = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read everything once if Redis answers, and keep it up to date from then on."""
        await self._feed.start()
        self._log_outage(UNKNOWN)
        self._task = asyncio.create_task(self._sync_loop(), name="breaker view")
        if self._writes:
            self._write_check.start()

    async def stop(self) -> None:
        """End all tasks and close the connections; stopping twice is harmless."""
        await self._write_check.stop()
        await self._feed.stop()
        if self._task is not None:
            await cancel_and_wait(self._task)
        with contextlib.suppress(Unavailable):
            await self._store.close()

    @property
    def trouble(self) -> str:
        """Why the fleet's breakers are not used here, without secrets; "" if they are."""
        if not self.is_unavailable:
            return ""
        return REJECTS_WRITES if self._refuses else UNAVAILABLE

    def use(self, key: BreakerKey) -> Document | None:
        """The breaker as known here; it will be compared with Redis within a second. No I/O."""
        self._used.add(key)
        if not self._sync_wanted.is_set():
            self._sync_wanted.set()
        return self.view.get(key)

    def breaker_view(self) -> BreakerView:
        """The breakers as known here; those that are looked at will be compared with Redis within a second."""
        return DocumentView(self.use, self._config, self.time.now, is_outdated=lambda: self.is_unavailable)

    def watch_all(self, change: int) -> None:
        """A watcher was added (1) or removed (-1): while there are any, all breakers are compared, not just the used ones."""
        self._watcher_count += change
        self._sync_wanted.set()

    async def call(self, operation: str, key: BreakerKey, words: Sequence[Word] = ()) -> Reply:
        """Run an operation of the script on a breaker and return its new state. Raises Unavailable."""
        if self._refuses and operation != "probe" and self.is_unavailable:
            raise Refused("it rejected a write recently")
        asked_with = self.view.get(key)
        jitter = self._rng.randint(0, MAX_JITTER)
        now = self.time.fixed() if self.time.fixed is not None else None
        begin = script.common_args(operation, key, self._config(key), self._channel, now=now, jitter=jitter)
        answer = await self._ask(lambda client: self._script.run(client, script.key_of(key), [*begin, *words]))
        try:
            reply = script.parse_reply(answer)
        except ValueError as error:
            raise RedisUnavailable("the breaker's key cannot be read") from error
        self.time.update(reply.now)
        if operation == "probe":
            return reply
        self._refusals = 0
        self.view.answer(key, reply.doc, reply.total, asked_with)
        return reply

    async def read_all(self) -> None:
        """Make the view equal to Redis. Raises Unavailable."""
        known = self.view.known()
        now, found = await self._ask(partial(overview, expected=len(known)))
        self.time.update(now)
        counts = {script.key_from_name(name): int(total) for name, total in found.items()}
        await self._read({key: known.get(key) for key in {*known, *counts}}, counts)
        if self.is_unavailable:
            if self._writes:
                await self._require_writes()
            await self._end_outage()
        self._documents.keep(counts)
        if not self._writes:
            return
        gone = [key for key in counts if self.view.get(key) is None]
        for key in gone[:FORGET_AT_ONCE]:
            await self.call("forget", key)

    async def keys(self) -> Sequence[BreakerKey]:
        """The keys of the breakers in Redis. Raises Unavailable."""
        return self._documents.keys(await self._ask(names))

    async def read(self, keys: Collection[BreakerKey]) -> None:
        """Make the view of some breakers equal to Redis; of all if Redis was unavailable. Raises Unavailable."""
        if self.is_unavailable or not keys:
            await self.read_all()
            return
        for batch in batched(keys):
            asked_with = self.view.documents(batch)
            now, found, texts = await self._ask(partial(some, keys=batch))
            self.time.update(now)
            totals = [int(total) if total else None for total in found]
            self.view.answers(batch, self._documents.read(batch, texts), totals, asked_with)

    async def _require_writes(self) -> None:
        """Raises Refused if Redis rejects writes, or rejected one recently."""
        if self._refuses and monotonic() < self._write_at:
            raise Refused("it rejected a write recently")
        await self.call("probe", TEST_KEY)

    async def _check_writes(self) -> None:
        """Healthy breakers write nothing, so test whether Redis accepts writes. While it is unavailable, `read_all` tests that."""
        if not self.is_unavailable:
            await self.call("probe", TEST_KEY)

    async def _read(self, asked_with: dict[BreakerKey, Document | None], totals: dict[BreakerKey, int]) -> None:
        """Read in batches, so that neither Redis nor this process is blocked for long."""
        for batch in batched(asked_with):
            found = await self._ask(partial(texts, keys=batch))
            self.view.answers(batch, self._documents.read(batch, found), map(totals.get, batch), map(asked_with.get, batch))

    async def _ask(self, call: Callable[[Client], Awaitable[Any]]) -> Any:
        try:
            return await self._store.ask(call)
        except KeyRejected as error:
            self._log_rejected_key(error.detail)
            raise
        except RedisUnavailable as error:
            self._refuses = isinstance(error, Refused)
            if self._refuses:
                self._delay_next_write()
            if not self.is_unavailable:
                self.is_unavailable = True
                self._sync_wanted.set()
                self._log_outage(error.detail)
            raise

    def _log_rejected_key(self, why: str) -> None:
        """The key of one breaker is invalid, the others work; logged once a minute, because each of its jobs may find it."""
        if monotonic() >= self._rejected_key_at:
            self._rejected_key_at = monotonic() + LOG_EVERY_S
            log.warning(
                "Redis (%s) has an invalid breaker key; this process uses its own breaker until the key is deleted: %s", self._where, why
            )

    def _delay_next_write(self) -> None:
        """Back off longer each time if writes fail although the test write works: a user without the right to publish always fails."""
        if not self.is_unavailable:
            self._refusals += 1
        pause = min(LONGEST_REFUSAL_S, TRY_AGAIN_S * 2.0 ** min(16, max(0, self._refusals - 1)))
        self._write_at = monotonic() + pause * self._rng.uniform(0.5, 1.0)

    def _on_feed_trouble(self, why: str) -> None:
        """The subscription failed: check now whether Redis answers at all, even if no breaker is used."""
        self._read_all_next = True
        self._sync_wanted.set()
        self._log_outage(why)

    def _log_outage(self, why: str) -> None:
        """Log once per outage, or twice if the reason was not known the first time."""
        if self.is_unavailable and (not self._logged or (self._logged == UNKNOWN and why != UNKNOWN)):
            self._logged = why
            does_not = "rejects commands" if self._refuses else "is unavailable"
            log.warning("Redis (%s) %s (%s); breakers are degraded until it recovers", self._where, does_not, why)

    async def _end_outage(self) -> None:
        self.is_unavailable = False
        self._logged = ""
        log.info("Redis (%s) is available; the shared breakers are used again", self._where)
        if self._on_recovered is not None:
            await self._on_recovered()

    async def _on_subscribed(self) -> None:
        self._store.reset()
        await self.read_all()

    def _on_notice(self, payload: bytes) -> None:
        try:
            doc, total = script.parse_notice(payload)
        except ValueError:
            log.warning("an invalid message was published on %s and is ignored", self._channel)
        else:
            self.view.notice(doc, total)

    async def _sync_loop(self) -> None:
        """Compare once a second, only while breakers are used or watched, or Redis is unavailable."""
        while True:
            await self._sync_wanted.wait()
            with contextlib.suppress(Unavailable):
                await self._compare()
            if not self._watcher_count and not self.is_unavailable and not self._used:
                self._sync_wanted.clear()
            await asyncio.sleep(SYNC_EVERY_S)

    async def _compare(self) -> None:
        used, self._used = self._used, set()
        must_read_all, self._read_all_next = self._read_all_next, False
        if self._watcher_count or self.is_unavailable or must_read_all:
            await self.read_all()
        else:
            await self._read({key: self.view.get(key) for key in used}, {})
