"""`Relay`: submits the rows of committed transactions, and deletes what the Job API has accepted.

Each row has its idempotency key, so a relay that dies between the two makes no second job: the next one submits the row again, and the
service answers with the first job. A row is found by looking for rows, not by an id that was reached: a transaction that commits late, with
a low id, is not skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from sickbay.client.aio import AsyncClient
from sickbay.client.errors import SickbayError, Unavailable
from sickbay.outbox.store import OutboxRow, OutboxStore
from sickbay.outbox.verdict import Pace, Verdict, delay_s, verdict

BATCH_ROWS: Final = 200
PROBE_ROWS: Final = 20
"""Claimed at once while nobody answers."""
LEASE_S: Final = 60.0
REPORT_S: Final = 60.0

log = logging.getLogger("sickbay.outbox")


@dataclass(frozen=True, slots=True)
class Round:
    """What became of the rows that were claimed at once. `away` is the error if a server did not answer."""

    accepted: int = 0
    refused: int = 0
    later: int = 0
    away: SickbayError | None = None


class Relay:
    """Submits what is in the outbox until it is stopped; any number of them share the work.

    `engine` is an asynchronous one of SQLAlchemy, `client` an `AsyncClient`; both are yours to close. `schema` is that of the table.
    `poll_s`: the longest pause between two looks into an empty outbox. `lease_s`: after so long another relay takes over what this one has
    claimed and not settled.

        relay = Relay(engine, client)
        running = asyncio.create_task(relay.run())
        ...
        relay.stop()
        await running
    """

    def __init__(
        self,
        engine: AsyncEngine,
        client: AsyncClient,
        *,
        schema: str | None = None,
        poll_s: float = 1.0,
        lease_s: float = LEASE_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` is the time in seconds since the epoch. ValueError if a duration is not positive."""
        if not (poll_s > 0 and lease_s > 0):
            msg = f"poll_s and lease_s must be positive, not {poll_s!r} and {lease_s!r}"
            raise ValueError(msg)
        self.store = OutboxStore(engine, schema)
        self._client, self._lease_s, self._now = client, lease_s, now
        self._pace = Pace(poll_s)
        self._stopping = asyncio.Event()
        self._relayed = 0
        self._reported = now()

    def stop(self) -> None:
        """Let `run` return after the round that it is in. Of the event loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Relay until `stop`. Errors of the database and the Job API are logged, and tried again with growing pauses."""
        while not self._stopping.is_set():
            try:
                pause = self._pause_after(await self.once())
                await self._report()
            except Exception as error:  # noqa: BLE001 - of whatever driver the engine has
                pause = self._tell_away("the database", getattr(error, "orig", None) or error)
            if pause:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stopping.wait()

    async def once(self) -> Round:
        """Claim rows that are due, submit them, and settle each by its answer. Raises what the database's driver does."""
        token, now = str(uuid.uuid4()), self._now_ms()
        limit = PROBE_ROWS if self._pace.failures else BATCH_ROWS
        rows = await self.store.claim(token, limit, now, now + round(self._lease_s * 1000))
        if not rows:
            return Round()
        return await self._settle(token, rows, await self._submit(rows))

    async def _submit(self, rows: Sequence[OutboxRow]) -> Sequence[SickbayError | None]:
        """The error of each row, None if it was accepted."""
        errors: list[SickbayError | None] = []
        try:
            async with aclosing(self._client.submit_many(row.job for row in rows)) as results:
                async for result in results:
                    errors.append(result.error)  # noqa: PERF401 - what came before an exception is kept
        except Exception as error:  # noqa: BLE001 - for example, the token's file cannot be read
            errors += [Unavailable(f"{type(error).__name__}: {error}")] * (len(rows) - len(errors))
        return errors

    async def _settle(self, token: str, rows: Sequence[OutboxRow], errors: Sequence[SickbayError | None]) -> Round:
        accepted, later, failed, back = [], {}, {}, []
        away: SickbayError | None = None
        for row, error in zip(rows, errors, strict=True):
            found = verdict(error)
            if error is None:
                accepted.append(row.id)
            elif found is Verdict.REFUSED:
                failed[row.id] = _text(error)
                log.warning("the Job API has rejected job %d of the outbox (%s): %s", row.id, row.job.job_type, error)
            elif found is Verdict.AWAY:
                back.append(row.id)
                away = error
            else:
                later[row.id] = (self._now_ms() + round(delay_s(error, row.attempts) * 1000), _text(error))
        if accepted or later or failed:
            await self.store.settle(token, accepted, later, failed, self._now_ms())
        if away is not None:
            await self.store.release(token, back, _text(away))
        self._relayed += len(accepted)
        return Round(len(accepted), len(failed), len(later), away)

    def _pause_after(self, done: Round) -> float:
        if done.away is not None:
            return self._tell_away("the Job API", done.away)
        if self._pace.failures:
            log.info("relaying again after %d attempts without an answer", self._pace.failures)
        return self._pace.worked() if done.accepted or done.refused or done.later else self._pace.idle()

    def _tell_away(self, who: str, error: BaseException) -> float:
        """The pause; of failures in a row the first, second, fourth and so on are logged."""
        pause = self._pace.away()
        if self._pace.failures & (self._pace.failures - 1) == 0:
            text = str(error).strip() or type(error).__name__
            log.warning("%s does not answer, jobs stay in the outbox (attempt %d): %s", who, self._pace.failures, text)
        return pause

    async def _report(self) -> None:
        """Once a minute in which something was relayed: how much, and what waits."""
        if self._now() - self._reported < REPORT_S:
            return
        relayed, self._relayed, self._reported = self._relayed, 0, self._now()
        if relayed:
            left = await self.store.backlog()
            age = 0.0 if left.oldest is None else max(0.0, self._now() - left.oldest / 1000)
            log.info(
                "relayed %d jobs in the last minute; %d wait, the oldest for %.0f s; %d were rejected",
                relayed,
                left.waiting,
                age,
                left.failed,
            )

    def _now_ms(self) -> int:
        return round(self._now() * 1000)


def _text(error: SickbayError) -> str:
    return f"{error.reason or error.code}: {error}"
