"""The distributed form from end to end, for a start."""

from __future__ import annotations

import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until

pytestmark = pytest.mark.servers


def test_a_job_goes_all_the_way(fleet: Fleet, corner: Corner):
    fleet.launch_all(workers=1).ready()
    with Clients(fleet) as sickbay:
        sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
    until(lambda: corner.list_queues()["jobs.main"] == 0, pause_s=1)  # RabbitMQ counts anew every 5 s
