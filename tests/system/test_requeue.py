"""Jobs whose queue was purged or lost come back, each runs once; on real queues, in both forms, and with a kill in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, Final

import aiormq
import asyncpg
import httpx
import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until
from tests.system.conftest import QUICK, Start

JOBS: Final = 20
LEASED: Final = "SELECT job_id FROM jobs WHERE lease_until IS NOT NULL"
AGE_LEASES: Final = "UPDATE jobs SET lease_until = 1 WHERE lease_until IS NOT NULL"


def requeue(product: Clients, **body: Any) -> dict[str, list[str]]:
    """`POST /jobs:requeue`; the jobs by what became of them."""
    answer = product.plane.post("/jobs:requeue", json={"minAgeSeconds": 1, "by": "ada", **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, list[str]] = {}
    for job in answer.json()["jobs"]:
        found.setdefault(job["outcome"], []).append(job["jobId"])
    return found


@dataclass(frozen=True)
class WithoutWorkers:
    """The ports of a fleet that has no worker yet."""

    fleet: Fleet

    @property
    def ports(self) -> Mapping[str, tuple[int, int]]:
        """Those of the Job API stand for a worker's, which nobody asks."""
        return {"Worker": self.fleet.ports["Job API"], **self.fleet.ports}


def purge(corner: Corner, queue: str) -> None:
    """As an administrator does."""

    async def purged() -> None:
        async with aiormq.connect(corner.rabbitmq) as connection:
            await (await connection.channel()).queue_purge(queue)

    asyncio.run(purged())


def lost_jobs(fleet: Fleet, corner: Corner, product: Clients) -> list[str]:
    """Accepted while no worker is there, known to the ledger, and purged a second later."""
    ids = product.submit_all("ok", *({"number": number} for number in range(JOBS)))
    product.wait_until_known(*ids)
    until(lambda: set(requeue(product, validateOnly=True).get("MAY_WAIT", ())) == set(ids))
    purge(corner, "jobs.main")
    return ids


@pytest.mark.servers
def test_the_jobs_of_a_purged_queue_come_back(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """Before the purge they are left alone; after it a worker runs each once; large ones are told and can be closed."""
    fleet.launch("controlplane")
    fleet.launch("jobapi")
    with Clients(WithoutWorkers(fleet.ready())) as product:
        ids = lost_jobs(fleet, corner, product)
        large = product.submit("ok", {"text": "x" * 70_000})
        product.wait_until_known(large)
        purge(corner, "jobs.main")
        assert product.plane.post(f"/quarantine/{ids[0]}/resubmit").status_code == 409
        until(lambda: large in requeue(product, validateOnly=True).get("NO_PAYLOAD", ()))
        assert 'sickbay_oldest_unfinished_job_seconds{job_type="ok",state="QUEUED"}' in _metrics(product)
        assert requeue(product, discardWithoutPayload=True) == {"REQUEUED": sorted(ids), "DISCARDED": [large]}
        assert product.job(ids[0])["history"][-1]["actor"] == "ada"
    fleet.launch("worker")
    with Clients(fleet.ready()) as product:
        product.wait_all(ids, "SUCCEEDED")
        assert own_clinic.count("ok") == dict.fromkeys(ids, 1)
        assert product.job(large)["state"] == "DISCARDED"
        assert 'state="QUEUED"} ' not in "".join(line for line in _metrics(product).splitlines() if "oldest_unfinished" in line)
        assert product.plane.get("/metrics").json()["duplicates"] == 0


@pytest.mark.servers
def test_a_copy_that_turns_up_after_all_does_not_run(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """They were not lost, and somebody insisted: the copies of before are dropped, by workers that start later, too."""
    fleet.launch("controlplane")
    fleet.launch("jobapi")
    with Clients(WithoutWorkers(fleet.ready())) as product:
        ids = product.submit_all("ok", *({"number": number} for number in range(JOBS)))
        product.wait_until_known(*ids)
        until(lambda: requeue(product, evenIfWaiting=True).get("REQUEUED") == sorted(ids))
        assert corner.depths()["jobs.main"] == 2 * JOBS
    fleet.launch("worker", 2)
    with Clients(fleet.ready()) as product:
        product.wait_all(ids, "SUCCEEDED")
        until(lambda: corner.depths()["jobs.main"] == 0)
        assert {(run.job, run.generation) for run in own_clinic.runs(job_type="ok")} == {(job_id, 1) for job_id in ids}
        assert own_clinic.count("ok") == dict.fromkeys(ids, 1)


@pytest.mark.servers
def test_a_control_plane_is_killed_while_it_brings_jobs_back(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """After it published and before it said so: another one publishes again, and the second copies are dropped."""
    (doomed,) = fleet.launch("controlplane")
    fleet.launch("jobapi")
    with Clients(WithoutWorkers(fleet.ready())) as product:
        ids = lost_jobs(fleet, corner, product)
        asking = Thread(target=_ask_in_vain, args=(product,))
        with _Locked(corner.postgres, "job_changes"):
            asking.start()
            until(lambda: corner.depths()["jobs.main"] == JOBS)
            assert len(corner.sql(LEASED)) == JOBS
            fleet.retire(doomed)
        asking.join()
    corner.sql(AGE_LEASES)  # rather than to wait for 30 s
    fleet.launch("controlplane")
    fleet.launch("worker", CONCURRENCY="1")
    with Clients(fleet.ready()) as product:
        product.wait_all(ids, "SUCCEEDED")
        until(lambda: corner.depths()["jobs.main"] == 0)
        assert own_clinic.count("ok") == dict.fromkeys(ids, 1)


def test_the_jobs_of_a_lost_queue_file_come_back(start: Start, own_clinic: Clinic):
    """The embedded form: the file with the queues is gone, the ledger is there."""
    gate = own_clinic.make_gate("held")
    product = start(own_clinic.folder, QUICK | {"CONCURRENCY": "1"}).ready()
    with Clients(product) as clients:
        clients.submit("ok", {"do": gate})
        ids = clients.submit_all("sms", *({"number": number} for number in range(JOBS)))
        clients.wait_until_known(*ids)
    product.kill()
    for file in (own_clinic.folder / "data").glob("queue*"):
        file.unlink()
    with Clients(start(own_clinic.folder).ready()) as clients:
        until(lambda: set(requeue(clients, jobType="sms").get("REQUEUED", ())) == set(ids))
        clients.wait_all(ids, "SUCCEEDED")
        assert own_clinic.count("sms") == dict.fromkeys(ids, 1)


def _metrics(product: Clients) -> str:
    return product.plane.get("/metrics", headers={"accept": "text/plain"}).text


def _ask_in_vain(product: Clients) -> None:
    with suppress(httpx.TransportError):
        requeue(product)


class _Locked:
    """Nobody writes to a table meanwhile."""

    def __init__(self, url: str, table: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._url, self._table = url, table

    def __enter__(self) -> None:
        self._connection = self._loop.run_until_complete(asyncpg.connect(self._url.replace("+asyncpg", "")))
        self._loop.run_until_complete(self._connection.execute(f"BEGIN; LOCK TABLE {self._table} IN EXCLUSIVE MODE"))

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()
