"""The distributed form from end to end, for a start."""

from __future__ import annotations

import pytest

from tests.system.clients import Clients
from tests.system.corner import Corner
from tests.system.fleet import Fleet

pytestmark = pytest.mark.servers


def test_a_job_goes_all_the_way(fleet: Fleet, corner: Corner):
    fleet.launch_all(workers=1).ready()
    with Clients(fleet) as sickbay:
        sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
    assert corner.list_queues()["jobs.main"] == 0
