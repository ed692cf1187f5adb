"""The registry of the embedded form: the one worker of the process."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.clients import Clients


def test_the_worker_of_this_process_is_live(sickbay: Clients):
    (worker,) = sickbay.plane.get("/workers").json()["workers"]
    assert {"ok", "email"} <= set(worker["jobTypes"])
    assert (worker["slots"], worker["draining"]) == (100, False)
    assert "sickbay_live_workers" in sickbay.plane.get("/metrics", headers={"Accept": "text/plain"}).text


def test_the_command_lists_it(sickbay: Clients):
    command = [
        sys.executable,
        "-m",
        "sickbay_cli",
        "workers",
        "--json",
        "--control-plane",
        f"localhost:{sickbay.grpc_ports['Control plane']}",
    ]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert len(listed["workers"]) == 1
