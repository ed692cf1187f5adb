"""Keeps runs of a job from beginning while something about it is being decided, and learns whether one has begun (`ports.Holds`).

A start costs a worker no I/O, so whoever wants to stop one has to ask. He who asks puts a hold on the job in every process that runs jobs;
each answers whether a run of it has begun there, and begins none until it hears of the decision or the hold is over. If as many processes
have answered as the broker knows consumers, nobody else can begin one. Several processes talk by PostgreSQL's notifications, on the channel
of the feed, whose order is that of the commits: a worker hears of a cancellation before it hears that the hold is over.

The texts are lines of `notices.py` whose last field is never a job id alone, so programs that do not know them ignore them:
`H <round> 0 0 - <token> <job id>` holds, `U 0 0 0 - <token>` lets go, `N <round> <takes jobs> 0 - <token> <process>` answers, and
`B <round> 0 0 - <token> <job id>` names a run that has begun.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from sickbay.adapters.sql import notices
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.errors import SENTENCE
from sickbay.adapters.sql.starts import Starts
from sickbay.concurrency.tasks import detached
from sickbay.domain.errors import Unavailable
from sickbay.domain.queries import HoldAnswer
from sickbay.ports.lost import Hold

CHANNEL: Final = "'sickbay_' || md5(current_schema())"
"""SQL for the name of the channel: several ledgers may live in one database, each in its own schema."""
NOTIFY: Final = f"SELECT count(pg_notify({CHANNEL}, told)) FROM unnest($1::text[]) AS told"  # noqa: S608 - nothing from outside
ANSWER_S: Final = 2.0
"""How long an answer is waited for."""
_WORDS: Final = ("H ", "U ", "N ", "B ")

log = logging.getLogger(__name__)


class LocalHolds:
    """Implements `Holds` inside one process."""

    def __init__(self, starts: Starts) -> None:
        self._starts = starts

    @asynccontextmanager
    async def hold(self, job_ids: Sequence[str]) -> AsyncIterator[Hold]:
        """Hold until the context ends."""
        token = secrets.token_hex(8)
        try:
            yield _LocalHold(self._starts, token, job_ids)
        finally:
            self._starts.release(token)


class _LocalHold:
    def __init__(self, starts: Starts, token: str, job_ids: Sequence[str]) -> None:
        self._starts = starts
        self._token = token
        self._job_ids = job_ids

    async def ask(self, workers: int) -> HoldAnswer:  # noqa: ARG002 - the port's: here there is nobody else to wait for
        """Hold, and see what has begun."""
        begun = self._starts.hold(self._token, self._job_ids)
        return HoldAnswer(frozenset(begun), int(self._starts.takes_jobs))


@dataclass(slots=True)
class _Round:
    """The answers to one text."""

    begun: set[str] = field(default_factory=set)
    workers: set[str] = field(default_factory=set)


class RemoteHolds:
    """Implements `Holds` among many processes. `hear` takes the texts of notifications, `run` sends the answers."""

    def __init__(self, store: Database, starts: Starts) -> None:
        self._store = store
        self.detached = store.detached
        self._starts = starts
        self._name = secrets.token_hex(8)
        self._asked: dict[str, dict[int, _Round]] = {}
        self._answers: list[str] = []
        self._due = asyncio.Event()
        self._heard = asyncio.Event()
        self._listens = False

    @asynccontextmanager
    async def hold(self, job_ids: Sequence[str]) -> AsyncIterator[Hold]:
        """Hold until the context ends; should nobody hear that, the holds end by themselves."""
        token = secrets.token_hex(8)
        self._asked[token] = {}
        try:
            yield _RemoteHold(self, token, job_ids)
        finally:
            del self._asked[token]
            self._answer([f"U 0 0 0 - {token}"])

    @detached
    async def ask(self, token: str, job_ids: Sequence[str], workers: int) -> HoldAnswer:
        """Send one round of questions and wait for its answers."""
        if not self._listens:
            raise Unavailable(SENTENCE)
        asked = self._asked.get(token, {})
        first = len(asked)
        texts = _questions(token, job_ids, first)
        rounds = [asked.setdefault(first + number, _Round()) for number in range(len(texts))]
        async with self._store.write(grows=False) as connection:
            await connection.exec_driver_sql(NOTIFY, (texts,))
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while any(len(one.workers) < workers for one in rounds):
                    self._heard.clear()
                    await self._heard.wait()
        begun = frozenset[str]().union(*(one.begun for one in asked.values()))
        return HoldAnswer(begun, min((len(one.workers) for one in rounds), default=0))

    def hear(self, text: str) -> bool:
        """Take the text of a notification; False if it is not one of ours."""
        if not text.startswith(_WORDS):
            return False
        lines = [line.split(" ", 5) for line in text.split("\n")]
        word, number, what, *_, tail = lines[0]
        token, _, rest = tail.partition(" ")
        if word == "U":
            self._starts.release(token)
        elif word == "H" and self._starts.works:
            begun = self._starts.hold(token, [line[5].partition(" ")[2] for line in lines])
            said = [f"B {number} 0 0 - {token} {job_id}" for job_id in begun]
            self._answer([*notices.texts(said), f"N {number} {int(self._starts.takes_jobs)} 0 - {token} {self._name}"])
        elif word in {"B", "N"} and (asked := self._asked.get(token, {}).get(int(number))):
            if word == "B":
                asked.begun.update(line[5].partition(" ")[2] for line in lines)
            elif what == "1":
                asked.workers.add(rest)
            self._heard.set()
        return True

    def listens(self, *, yes: bool) -> None:
        """Whether notifications are heard."""
        self._listens = yes

    async def run(self) -> None:
        """Send the answers, until cancelled. One that cannot be sent is missed by who asked, and that is his answer."""
        while True:
            await self._due.wait()
            self._due.clear()
            texts, self._answers = self._answers, []
            try:
                async with self._store.write(grows=False) as connection:
                    await connection.exec_driver_sql(NOTIFY, (texts,))
            except Unavailable as error:
                log.warning("another process cannot be notified whether a run has begun: %s", error)

    def _answer(self, texts: Sequence[str]) -> None:
        self._answers += texts
        self._due.set()


class _RemoteHold:
    def __init__(self, holds: RemoteHolds, token: str, job_ids: Sequence[str]) -> None:
        self._holds = holds
        self._token = token
        self._job_ids = job_ids

    async def ask(self, workers: int) -> HoldAnswer:
        """Hold everywhere, and hear what has begun."""
        return await self._holds.ask(self._token, self._job_ids, workers)


def _questions(token: str, job_ids: Sequence[str], first: int) -> list[str]:
    """The texts that ask, each with a number of its own."""
    texts = list(notices.texts([f"0 0 0 - {token} {job_id}" for job_id in job_ids], spare=len("H ######")))
    return ["\n".join(f"H {first + number}{line[1:]}" for line in text.split("\n")) for number, text in enumerate(texts)]
