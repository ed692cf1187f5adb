"""Keeps runs of a job from beginning while a decision about it is made, and finds out whether one has begun (`ports.Holds`).

A start costs a worker no I/O, so to stop one, the workers must be asked. The request puts a hold on the job in every process that runs
jobs; each answers whether a run has begun there, and begins none until the hold ends or expires. If as many processes have answered as
the broker has consumers, no other can begin one. The processes use PostgreSQL's notifications, on the channel of the change feed, which
arrive in the order of the commits: a worker receives a cancellation before the end of the hold.

The texts are lines like those of `notices.py`, but their last field is never a job id alone, so programs that do not know them ignore them:
`H <round> 0 0 - <token> <job id>` holds, `U 0 0 0 - <token>` ends the hold, `N <round> <takes jobs> <can cancel runs> - <token> <process>`
answers, and `B <round> 0 0 - <token> <job id>` names a run that has begun.
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
from sickbay.adapters.sql.errors import UNAVAILABLE
from sickbay.adapters.sql.starts import Starts
from sickbay.concurrency.tasks import detached
from sickbay.domain.errors import Unavailable
from sickbay.domain.queries import HoldAnswer
from sickbay.ports.lost import Hold

CHANNEL: Final = "'sickbay_' || md5(current_schema())"
"""SQL for the name of the channel: several ledgers may live in one database, each in its own schema."""
NOTIFY: Final = f"SELECT count(pg_notify({CHANNEL}, told)) FROM unnest($1::text[]) AS told"  # noqa: S608 - no input
ANSWER_S: Final = 2.0
"""How long to wait for answers."""
_COMMANDS: Final = ("H ", "U ", "N ", "B ")

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

    async def ask(self, workers: int) -> HoldAnswer:  # noqa: ARG002 - the port's signature: there are no other processes
        """Hold the jobs, and return which runs have begun."""
        begun = self._starts.hold(self._token, self._job_ids)
        return HoldAnswer(frozenset(begun), int(self._starts.takes_jobs))


@dataclass(slots=True)
class _Round:
    """The answers to one request."""

    begun: set[str] = field(default_factory=set)
    workers: set[str] = field(default_factory=set)
    can_cancel: bool = True
    """Whether all who answered can cancel a run."""


class RemoteHolds:
    """Implements `Holds` among many processes. Call `on_notification` with each text; `run` sends the answers."""

    def __init__(self, store: Database, starts: Starts) -> None:
        self._store = store
        self.detached = store.detached
        self._starts = starts
        self._name = secrets.token_hex(8)
        self._rounds: dict[str, dict[int, _Round]] = {}
        self._outgoing: list[str] = []
        self._send_due = asyncio.Event()
        self._answered = asyncio.Event()
        self._is_listening = False

    @asynccontextmanager
    async def hold(self, job_ids: Sequence[str]) -> AsyncIterator[Hold]:
        """Hold until the context ends; if that message is lost, the holds expire."""
        token = secrets.token_hex(8)
        self._rounds[token] = {}
        try:
            yield _RemoteHold(self, token, job_ids)
        finally:
            del self._rounds[token]
            self._send([f"U 0 0 0 - {token}"])

    @detached
    async def ask(self, token: str, job_ids: Sequence[str], workers: int) -> HoldAnswer:
        """Send one round of requests and wait for the answers."""
        if not self._is_listening:
            raise Unavailable(UNAVAILABLE)
        asked = self._rounds.get(token, {})
        first = len(asked)
        texts = _questions(token, job_ids, first)
        rounds = [asked.setdefault(first + number, _Round()) for number in range(len(texts))]
        async with self._store.write(grows=False) as connection:
            await connection.exec_driver_sql(NOTIFY, (texts,))
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while any(len(one.workers) < workers for one in rounds):
                    self._answered.clear()
                    await self._answered.wait()
        begun = frozenset[str]().union(*(one.begun for one in asked.values()))
        workers = min((len(one.workers) for one in rounds), default=0)
        return HoldAnswer(begun, workers, can_cancel=all(one.can_cancel for one in asked.values()))

    def on_notification(self, text: str) -> bool:
        """Handle the text of a notification; False if it is not about holds."""
        if not text.startswith(_COMMANDS):
            return False
        lines = [line.split(" ", 5) for line in text.split("\n")]
        command, number, what, more, _, tail = lines[0]
        token, _, rest = tail.partition(" ")
        if command == "U":
            self._starts.release(token)
        elif command == "H" and self._starts.runs_jobs:
            begun = self._starts.hold(token, [line[5].partition(" ")[2] for line in lines])
            answers = [f"B {number} 0 0 - {token} {job_id}" for job_id in begun]
            self._send([*notices.texts(answers), f"N {number} {int(self._starts.takes_jobs)} 1 - {token} {self._name}"])
        elif command in {"B", "N"} and (asked := self._rounds.get(token, {}).get(int(number))):
            if command == "B":
                asked.begun.update(line[5].partition(" ")[2] for line in lines)
            else:
                asked.can_cancel &= more == "1"
                asked.workers |= {rest} if what == "1" else set()
            self._answered.set()
        return True

    def set_listening(self, *, yes: bool) -> None:
        """Set whether notifications arrive."""
        self._is_listening = yes

    async def run(self) -> None:
        """Send the answers, until cancelled. One that cannot be sent counts as missing for the requester."""
        while True:
            await self._send_due.wait()
            self._send_due.clear()
            texts, self._outgoing = self._outgoing, []
            try:
                async with self._store.write(grows=False) as connection:
                    await connection.exec_driver_sql(NOTIFY, (texts,))
            except Unavailable as error:
                log.warning("another process cannot be notified whether a run has begun: %s", error)

    def _send(self, texts: Sequence[str]) -> None:
        self._outgoing += texts
        self._send_due.set()


class _RemoteHold:
    def __init__(self, holds: RemoteHolds, token: str, job_ids: Sequence[str]) -> None:
        self._holds = holds
        self._token = token
        self._job_ids = job_ids

    async def ask(self, workers: int) -> HoldAnswer:
        """Hold the jobs everywhere, and return which runs have begun."""
        return await self._holds.ask(self._token, self._job_ids, workers)


def _questions(token: str, job_ids: Sequence[str], first: int) -> list[str]:
    """The texts of the requests, each with a number of its own."""
    texts = list(notices.texts([f"0 0 0 - {token} {job_id}" for job_id in job_ids], spare=len("H ######")))
    return ["\n".join(f"H {first + number}{line[1:]}" for line in text.split("\n")) for number, text in enumerate(texts)]
