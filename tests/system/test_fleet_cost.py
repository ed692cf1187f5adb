"""What healthy jobs cost Redis: nothing, however many they are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis as Client

from scripts.servers import Redis
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until
from tests.system.conftest import QUICK

pytestmark = pytest.mark.servers

WORKERS: Final = 2
JOBS: Final = 200
OF_TIME: Final = {"mget", "time", "hgetall", "evalsha"}
"""With these each process compares its view once a second, or knows and says which workers live, whatever the jobs do."""
TRIES: Final = {"set", "del", "hmget", "hset", "pexpire"}
"""With these each process tries every 10 s whether Redis takes circuits (`set` and `del`) or idempotency keys."""
TRY_S: Final = 8.0
"""The shortest time between two."""
OURS: Final = {"info", "client|setinfo", "client|setname", "hello", "ping"}


def calls(client: Client) -> Mapping[str, int]:
    """How often each command was called since the server's start."""
    stats: Any = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


def test_healthy_jobs_ask_redis_nothing(corner: Corner, own_clinic: Clinic, tmp_path: Path):
    """Once every process knows the type, 200 jobs cause no call; what is left depends on the time alone."""
    with (
        Redis(tmp_path / "redis") as server,
        Client.from_url(server.url, decode_responses=True) as client,
        # So many slots that nothing floods: workers tell the registry of floods at once.
        Fleet(own_clinic.folder, QUICK | dict(corner.env) | {"REDIS_URL": server.url, "CONCURRENCY": str(JOBS)}) as fleet,
    ):
        fleet.launch_all(workers=WORKERS).ready()
        with Clients(fleet) as sickbay:
            until(lambda: sickbay.submit("ok") and len({run.pid for run in own_clinic.runs(what="done")}) == WORKERS)
            sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
            before, began = calls(client), time.monotonic()
            sickbay.wait_all(sickbay.submit_all("ok", *({"number": number} for number in range(JOBS))), "SUCCEEDED")
            after, took = calls(client), time.monotonic() - began
    grown = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    assert grown.keys() <= OF_TIME | TRIES | OURS, grown
    processes = WORKERS + 2
    assert all(grown.get(name, 0) <= processes * (took + 2) for name in OF_TIME), grown
    assert all(grown.get(name, 0) <= processes * (took / TRY_S + 1) for name in TRIES), grown
