"""What a ledger must count for limits on waiting jobs (`WaitingCounts`)."""

import pytest

from sickbay.ports.limits import Waiting
from tests.support.ledger_events import START, parked, quarantined, queued, retrying, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]


async def test_jobs_that_are_queued_retrying_or_parked_wait(ledger):
    assert await ledger.waiting.count() == Waiting({}, 0)
    waiting = [queued("a"), retrying("b"), parked("c", tenant="acme"), queued("d", tenant="acme", submitted_at=START + 7)]
    await ledger.writer.apply([*waiting, running("e"), quarantined("f"), succeeded("g", submitted_at=START + 9)])
    assert await ledger.waiting.count() == Waiting({"default": 2, "acme": 2}, START + 9)
    await ledger.writer.apply([succeeded("a"), succeeded("d", tenant="acme")])
    assert (await ledger.waiting.count()).by_tenant == {"default": 1, "acme": 1}


@pytest.mark.parametrize("state", [succeeded, quarantined])
async def test_a_tenant_without_waiting_jobs_is_not_named(ledger, state):
    await ledger.writer.apply([state("a", tenant="acme")])
    assert await ledger.waiting.count() == Waiting({}, START)
