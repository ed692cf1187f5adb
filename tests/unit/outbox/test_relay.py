"""The relay's rounds, with a Job API that answers what the test says and a clock that the test moves."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import pytest
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from sickbay import outbox
from sickbay.client import InvalidRequest, LimitReached, NewJob, SickbayError, Unavailable
from sickbay.client.jobs import BatchResult
from sickbay.outbox.relay import PROBE_ROWS, Relay, Round

BAD = InvalidRequest("no such type", reason="INVALID_JOB_TYPE")
FULL = LimitReached("full", reason="SUBMISSION_RATE_EXCEEDED", retry_after=5.0)
AWAY = Unavailable("no connection", code="UNAVAILABLE")


@dataclass
class Api:
    """Accepts jobs, but those whose type has an error; `broken` is raised after so many."""

    errors: dict[str, SickbayError] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    broken: tuple[int, Exception] | None = None

    async def submit_many(self, jobs: Iterable[NewJob]) -> AsyncIterator[BatchResult]:
        all_jobs = list(jobs)
        self.sent.append(len(all_jobs))
        for number, job in enumerate(all_jobs):
            if self.broken and self.broken[0] == number:
                raise self.broken[1]
            error = self.errors.get(job.job_type)
            if error is None:
                self.accepted.append(job.request_id)
            yield BatchResult(job, "" if error else f"job-{job.request_id}", error=error)


class Clock:
    """In seconds."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def engine(tmp_path) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/app.db", poolclass=NullPool)
    metadata = MetaData()
    outbox.table(metadata)
    async with made.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield made
    await made.dispose()


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def relay(engine: AsyncEngine, api: Api, clock: Clock) -> Relay:
    return Relay(engine, api, now=clock)  # type: ignore[arg-type]


async def write(engine: AsyncEngine, *types: str) -> list[str]:
    async with AsyncSession(engine) as session, session.begin():
        return [await outbox.submit_async(session, one, {}, request_id=f"{one}-{number}") for number, one in enumerate(types)]


async def test_what_was_accepted_is_deleted(relay: Relay, engine: AsyncEngine, api: Api):
    keys = await write(engine, "a", "b", "c")
    assert await relay.once() == Round(accepted=3)
    assert api.accepted == keys
    assert await relay.store.rows(9) == []
    assert await relay.once() == Round()
    assert api.sent == [3]


async def test_a_rejected_job_does_not_hold_up_others(relay: Relay, engine: AsyncEngine, api: Api, clock: Clock, caplog):
    api.errors = {"bad": BAD, "full": FULL}
    keys = await write(engine, "bad", "full", "a")
    assert await relay.once() == Round(accepted=1, refused=1, later=1)
    assert api.accepted == [keys[2]]
    bad, full = await relay.store.rows(9)
    assert (bad.failed_at, bad.last_error) == (1_000_000, "INVALID_JOB_TYPE: no such type")
    assert (full.failed_at, full.last_error) == (0, "SUBMISSION_RATE_EXCEEDED: full")
    assert "has rejected job 1 of the outbox (bad): no such type" in caplog.text
    api.errors = {}
    clock.now += 4.9
    assert await relay.once() == Round()
    clock.now += 0.1
    assert await relay.once() == Round(accepted=1)
    await relay.store.retry([bad.id])
    assert await relay.once() == Round(accepted=1)


async def test_nothing_is_lost_while_the_job_api_is_away(relay: Relay, engine: AsyncEngine, api: Api):
    keys = await write(engine, "a", "b")
    api.errors = dict.fromkeys("ab", AWAY)
    assert await relay.once() == Round(away=AWAY)
    assert [row.last_error for row in await relay.store.rows(9)] == ["UNAVAILABLE: no connection"] * 2
    api.errors = {}
    assert await relay.once() == Round(accepted=2)
    assert api.accepted == keys


async def test_a_client_that_raises_leaves_the_rest_for_later(relay: Relay, engine: AsyncEngine, api: Api):
    """For example, because the token's file is gone."""
    keys = await write(engine, "a", "b", "c")
    api.broken = (1, FileNotFoundError(2, "No such file", "token"))
    done = await relay.once()
    assert (done.accepted, str(done.away)) == (1, "FileNotFoundError: [Errno 2] No such file: 'token'")
    api.broken = None
    assert await relay.once() == Round(accepted=2)
    assert api.accepted == keys


async def test_a_relay_that_died_between_submit_and_delete(relay: Relay, engine: AsyncEngine, api: Api, clock: Clock, monkeypatch):
    """After the lease the same keys are sent again."""
    keys = await write(engine, "a")
    with monkeypatch.context() as dying:
        dying.setattr(relay.store, "settle", _die)
        with pytest.raises(ConnectionResetError):
            await relay.once()
    clock.now += 59.9
    assert await relay.once() == Round()
    clock.now += 0.1
    assert await relay.once() == Round(accepted=1)
    assert api.accepted == keys * 2


async def test_run_survives_a_database_that_is_away_and_stops(engine: AsyncEngine, relay: Relay, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "sickbay.outbox")
    claim, settle, calls = relay.store.claim, relay.store.settle, []

    async def away_at_first(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise ConnectionRefusedError(111, "Connection refused")
        return await claim(*arguments)

    async def settle_and_stop(*arguments):
        await settle(*arguments)
        relay.stop()

    monkeypatch.setattr(relay.store, "claim", away_at_first)
    monkeypatch.setattr(relay.store, "settle", settle_and_stop)
    await write(engine, "a")
    await relay.run()
    assert len(calls) == 2
    assert await relay.store.rows(1) == []
    assert "the database does not answer, jobs stay in the outbox (attempt 1): [Errno 111] Connection refused" in caplog.text
    assert "relaying again after 1 attempts without an answer" in caplog.text


async def test_while_nobody_answers_few_rows_are_tried(relay: Relay, engine: AsyncEngine, api: Api, monkeypatch):
    await write(engine, *["a"] * 50)
    api.errors = {"a": AWAY}
    rounds = []

    async def once():
        rounds.append(await Relay.once(relay))
        if len(rounds) == 2:
            relay.stop()
        return rounds[-1]

    monkeypatch.setattr(relay, "once", once)
    monkeypatch.setattr(relay._pace, "jitter", lambda _: -0.249)
    await relay.run()
    assert api.sent == [50, PROBE_ROWS]


async def test_each_minute_with_work_is_reported(relay: Relay, engine: AsyncEngine, api: Api, clock: Clock, caplog):
    caplog.set_level(logging.INFO, "sickbay.outbox")
    api.errors = {"bad": BAD, "full": FULL}
    await write(engine, "a", "bad", "full")
    await relay.once()
    await relay._report()
    assert "relayed" not in caplog.text
    clock.now = max(row.created_at for row in await relay.store.rows(9)) / 1000 + 90
    await relay._report()
    assert "relayed 1 jobs in the last minute; 1 wait, the oldest for 90 s; 1 were rejected" in caplog.text
    caplog.clear()
    clock.now += 60
    await relay._report()
    assert caplog.text == ""


@pytest.mark.parametrize("wrong", [{"poll_s": 0.0}, {"lease_s": -1.0}])
async def test_durations_are_positive(engine: AsyncEngine, api: Api, wrong):
    with pytest.raises(ValueError, match="must be positive"):
        Relay(engine, api, **wrong)  # type: ignore[arg-type]


async def _die(*_: object) -> None:
    raise ConnectionResetError
