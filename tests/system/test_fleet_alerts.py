"""What Prometheus makes of a fleet: nothing counts twice because two control planes tell it, and alerts come and go with their cause."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.prometheus import Prometheus
from tests.support.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.promtool]

IMPATIENT: Final = ("SickbayNoConsumers", "SickbayServiceMissing", "SickbayTargetDown")
JOBS: Final = {"jobapi": "job-api", "worker": "worker", "controlplane": "control-plane"}


def test_alerts_when_the_last_worker_goes(fleet: Fleet, tmp_path: Path):
    """Jobs wait and nobody reads them, until another worker comes."""
    fleet.launch_all(workers=1).launch("controlplane")
    with Clients(fleet.ready()) as sickbay:
        ports = {JOBS[module]: [service.ports[0] for service in services] for module, services in fleet.services.items()}
        (lost,) = ports["worker"]
        with Prometheus(tmp_path, ports, *IMPATIENT) as prometheus:
            until(lambda: prometheus.now("count(up == 1) == 4"))
            sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
            until(lambda: prometheus.now('sum(sickbay_jobs_total{outcome="succeeded"}) == 1'))
            until(lambda: not any(map(prometheus.firing, IMPATIENT)))  # it may have looked before it had read all of them

            fleet.retire(fleet.workers[0])
            jobs = sickbay.submit_all("ok", {}, {}, {})
            (unread,) = until(lambda: prometheus.firing("SickbayNoConsumers"))
            assert unread == {"alertname": "SickbayNoConsumers", "severity": "critical", "queue": "jobs.main", "value": "3e+00"}
            (missing,) = until(lambda: prometheus.firing("SickbayServiceMissing"))
            assert missing["service"] == "worker"
            (down,) = until(lambda: prometheus.firing("SickbayTargetDown"))
            assert (down["job"], down["instance"]) == ("worker", f"127.0.0.1:{lost}")

            fleet.launch("worker")[0].ready()
            sickbay.wait_all(jobs, "SUCCEEDED")
            until(lambda: not prometheus.firing("SickbayNoConsumers"))
