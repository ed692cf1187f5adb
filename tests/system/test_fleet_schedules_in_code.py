"""Schedules in the code of a fleet: two versions of workers, three control planes, and kills in between."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until

pytestmark = pytest.mark.servers

MODULE = """
from sickbay import Schedule, handler

@handler("tick", schedule=Schedule("* * * * * *", overlap="ALLOW", description="{version}"))
def tick(job) -> str:
    return "{version}"
"""
ENV = {"JOB_HANDLERS": "old_version", "RETRY_DELAY_MS": "50", "UNKNOWN_TYPE_GRACE": "3"}


def schedule(sickbay: Clients) -> dict[str, Any]:
    found = sickbay.plane.get("/schedules/tick")
    return found.json() if found.status_code == httpx.codes.OK else {}


def version(sickbay: Clients) -> str:
    """Whose code is in force."""
    return str(schedule(sickbay).get("spec", {}).get("description", ""))


def test_a_rolling_deployment_a_rollback_and_workers_that_are_killed(tmp_path: Path, corner: Corner):
    for one in ("old", "new"):
        (tmp_path / f"{one}_version.py").write_text(MODULE.format(version=one))
    (tmp_path / "without.py").write_text('from sickbay import handler\n\n@handler("other")\ndef other(job) -> None: ...\n')
    with Fleet(tmp_path, ENV | dict(corner.env)) as fleet:
        fleet.launch_all(workers=1).ready()
        planes = fleet.launch("controlplane", 2)
        for plane in planes:
            plane.ready()
        with Clients(fleet) as sickbay:
            until(lambda: version(sickbay) == "old")
            (old,) = fleet.workers
            new = fleet.launch("worker", JOB_HANDLERS="new_version")[0].ready()
            until(lambda: version(sickbay) == "new")
            changed = schedule(sickbay)["updatedAt"]
            fleet.retire(planes[0])  # killed: the others go on
            old.terminate()
            old.end_well()
            fleet.retire(old)
            back = fleet.launch("worker", JOB_HANDLERS="old_version")[0].ready()
            until(lambda: version(sickbay) == "old")
            assert schedule(sickbay)["updatedAt"] > changed
            fleet.retire(new)
            fleet.retire(back)  # both killed: nobody can say that the schedule is gone
            until(lambda: not sickbay.plane.get("/workers").json()["workers"])
            assert not schedule(sickbay).get("orphaned")
            fired = schedule(sickbay)["lastRun"]["tickAt"]
            without = fleet.launch("worker", JOB_HANDLERS="without")[0].ready()
            until(lambda: schedule(sickbay).get("orphaned"))
            until(lambda: schedule(sickbay)["lastRun"]["tickAt"] > fired)
            assert version(sickbay) == "old"
            fleet.launch("worker", JOB_HANDLERS="new_version")[0].ready()
            until(lambda: version(sickbay) == "new" and not schedule(sickbay).get("orphaned"))
            jobs = sickbay.jobs_of("tick", pageSize=1000)["jobs"]
            assert set(Counter(one["tickAt"] for one in jobs).values()) == {1}
            sickbay.wait(jobs[-1]["jobId"], "SUCCEEDED")
            assert without.process.returncode is None
