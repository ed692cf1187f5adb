"""Notices are repeated with growing pauses until the webhook takes them, or are given up, and the log says so without the address."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress

import pytest

from controlplane import webhook_sender as module
from controlplane.flow_metrics import IncidentMetrics
from controlplane.webhook_sender import MAX_ATTEMPTS, WebhookSender, pause_s
from sickbay.domain.errors import Unavailable
from sickbay.ports.incidents import Notice, Undelivered
from sickbay.telemetry.metrics import MetricsRegistry
from tests.support.scraped_metrics import numbers


class Outbox:
    """Notices that are due, one list for each claim."""

    def __init__(self, *rounds):
        self.rounds = list(rounds)
        self.done = []
        self.news = asyncio.Event()

    async def claim(self, limit, lease_ms):
        if not self.rounds:
            return []
        round_ = self.rounds.pop(0)
        if isinstance(round_, Exception):
            raise round_
        return round_

    async def postpone(self, notice, wait_ms):
        self._note("postpone", notice, wait_ms)

    async def finish(self, notice):
        self._note("finish", notice, 0)

    def _note(self, what, notice, wait_ms):
        self.done.append((what, notice.notice_id, wait_ms))
        self.news.set()

    async def until(self, count):
        async with asyncio.timeout(10):
            while len(self.done) < count:
                self.news.clear()
                await self.news.wait()


class Fake:
    def __init__(self, error=None):
        self.error = error

    async def deliver(self, notice):
        if self.error is not None:
            raise self.error


def notice(name="n", attempts=1):
    return Notice(name, 12, b"{}", attempts, 5)


@asynccontextmanager
async def sending(sender):
    task = asyncio.create_task(sender.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_is_due_is_delivered_and_the_ledger_may_be_away_meanwhile(monkeypatch):
    monkeypatch.setattr(module, "FAILED_S", 0.01)
    outbox = Outbox([notice("a"), notice("b")], Unavailable("away"), [notice("c")])
    told = MetricsRegistry("controlplane")
    async with sending(WebhookSender(outbox, Fake(), IncidentMetrics(told.registry))):
        await outbox.until(3)
    assert [(what, name) for what, name, _ in outbox.done] == [("finish", "a"), ("finish", "b"), ("finish", "c")]
    assert await numbers(told, "sickbay_webhook_attempts_total") == {("delivered",): 3, ("failed",): 0}


async def test_a_new_incident_wakes_it():
    outbox = Outbox()
    sender = WebhookSender(outbox, Fake())
    async with sending(sender):
        await asyncio.sleep(0)
        outbox.rounds.append([notice()])
        sender.incident_changed(None, None)
        await outbox.until(1)


@pytest.mark.parametrize(
    ("attempts", "asked_s", "least_ms", "most_ms"), [(1, 0, 1_600, 2_400), (3, 0, 25_600, 38_400), (1, 120, 120_000, 120_000)]
)
async def test_what_fails_is_repeated_later(attempts, asked_s, least_ms, most_ms, caplog):
    outbox = Outbox([notice(attempts=attempts)])
    async with sending(WebhookSender(outbox, Fake(Undelivered("it answered 503", retry_after_s=asked_s)))):
        await outbox.until(1)
    ((what, _, wait_ms),) = outbox.done
    assert what == "postpone"
    assert least_ms <= wait_ms <= most_ms
    assert "a notice of incident 12 is not delivered, retrying in" in caplog.text


@pytest.mark.parametrize(("attempts", "error"), [(MAX_ATTEMPTS, Undelivered("it answered 503")), (1, Undelivered("gone", is_final=True))])
async def test_what_is_hopeless_is_given_up(attempts, error, caplog):
    outbox = Outbox([notice(attempts=attempts)])
    with caplog.at_level(logging.ERROR):
        async with sending(WebhookSender(outbox, Fake(error))):
            await outbox.until(1)
    assert outbox.done == [("finish", "n", 0)]
    assert f"is given up after attempt {attempts}" in caplog.text


def test_the_pauses_grow_to_an_hour_and_end_after_a_day():
    pauses = [pause_s(attempts) for attempts in range(1, MAX_ATTEMPTS)]
    assert pauses[:7] == [2, 8, 32, 128, 512, 2_048, 3_600]
    assert 23 <= sum(pauses) / 3_600 <= 26
