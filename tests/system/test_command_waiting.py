"""The command waits for jobs of the running product, and its exit code says how they ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic


def waits(sickbay: Clients, do: Any, *words: str) -> subprocess.Popen[str]:
    """`sickbay submit waited ... --wait` with these options."""
    env = os.environ | {"SICKBAY_JOBAPI": f"127.0.0.1:{sickbay.grpc_ports['Job API']}"}
    command = [sys.executable, "-m", "sickbay_cli", "submit", "waited", json.dumps({"do": do}), "--wait", *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_script_that_waits_hears_how_its_job_ended(sickbay: Clients, clinic: Clinic):
    """Done; in need of a person, after all retries; still running when the time is over."""
    gate = clinic.make_gate("waited-job")
    done, ill, late = waits(sickbay, "ok"), waits(sickbay, "BAD_REQUEST", "--for", "10m"), waits(sickbay, gate, "--for", "1s")
    try:
        said = {name: process.communicate(timeout=120) for name, process in (("done", done), ("ill", ill), ("late", late))}
    finally:
        clinic.open_gate("waited-job")
    assert (done.returncode, ill.returncode, late.returncode) == (0, 6, 124)
    assert said["done"][1] == ""
    assert "is QUARANTINED and needs a person" in said["ill"][1]
    assert said["late"][1].endswith("has not ended\n")
