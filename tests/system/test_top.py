"""`sickbay top` on the running product: an open circuit, its parked jobs, its release; and a product that goes away and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.servers import free_port
from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.forms import BOTH, running
from tests.support.system_under_test import PORTS, Product
from tests.support.terminal import Terminal
from tests.support.waiting import until

COMMAND = (sys.executable, "-m", "sickbay_cli", "top", "--every", "200ms")


def addresses(ports: Mapping[str, int]) -> dict[str, str]:
    names = {"Job API": "SICKBAY_JOBAPI", "Worker": "SICKBAY_WORKER", "Control plane": "SICKBAY_CONTROL_PLANE"}
    return {names[name]: f"localhost:{port}" for name, port in ports.items()}


def row(screen: str, job_type: str) -> list[str]:
    """The first line of the screen that begins with the type: that of its breaker."""
    return next((line.split() for line in screen.splitlines() if line.split()[:1] == [job_type]), [])


def once(env: Mapping[str, str], *options: str) -> str:
    ran = subprocess.run([*COMMAND, "--once", *options], env=os.environ | env, capture_output=True, text=True, timeout=60, check=True)
    assert (ran.stderr, "\x1b" in ran.stdout) == ("", False)
    return ran.stdout


def test_an_open_circuit_its_parked_jobs_and_their_release(sickbay: Clients):
    env = addresses(sickbay.grpc_ports)
    sickbay.wait(sickbay.submit("on-top"), "SUCCEEDED")
    with Terminal(COMMAND, env, lines=60, columns=140) as terminal:
        terminal.until(lambda screen: row(screen, "on-top")[1:2] == ["CLOSED"])
        sickbay.plane.post("/breakers/on-top/force-open", json={"by": "ada", "why": "maintenance"})
        ids = sickbay.submit_all("on-top", *({} for _ in range(7)))
        sickbay.wait_all(ids, "PARKED")
        told = terminal.until(lambda screen: "7" in row(screen, "on-top"))
        assert row(told, "on-top")[1] == "FORCED_OPEN"
        assert "by ada: maintenance" in told
        assert "jobs.quarantine" in told

        text = once(env)
        assert row(text, "on-top")[1] == "FORCED_OPEN"
        view: dict[str, Any] = json.loads(once(env, "--json"))
        (breaker,) = [one for one in view["breakers"] if one["jobType"] == "on-top"]
        assert (breaker["state"], breaker["parkedJobs"]) == ("FORCED_OPEN", 7)
        assert breaker["since"] <= breaker["oldestParkedAt"] <= view["time"]
        assert view["jobs"]["byState"]["PARKED"] >= 7
        queues = {queue["name"]: queue.get("consumers", 0) > 0 for queue in view["queues"]}
        consumed = {f"jobs.{name}": True for name in ("high", "main", "demoted", "low", "ledger")}
        assert queues == consumed | {"jobs.retry": False, "jobs.quarantine": False}
        assert {one["status"] for one in view["health"].values()} <= {"up", "degraded"}

        sickbay.plane.post("/breakers/on-top/reset")
        terminal.until(lambda screen: row(screen, "on-top")[1:2] == ["CLOSED"])
        sickbay.wait_all(ids, "SUCCEEDED")
        terminal.until(lambda screen: "7" not in row(screen, "on-top"))
        terminal.press(b"q")
        assert (terminal.ended(), terminal.is_restored) == (0, True)


@pytest.mark.parametrize("form", BOTH)
def test_an_outage_in_both_forms(form: str, tmp_path: Path):
    """A circuit that failures have opened, with its cause, its probe and its incident; then all of it is over."""
    env = {"JOB_HANDLERS": "clinic_handlers", "COOLDOWN_PERIOD": "600", "RETRY_DELAY_MS": "300", "LOG_FORMAT": "json"}
    (tmp_path / "email.down").write_text("API_TIMEOUT")
    with running(form, "clinic_handlers", tmp_path, env) as system:
        sickbay = system.clients
        told = addresses(sickbay.grpc_ports)

        def view() -> dict[str, Any]:
            seen: dict[str, Any] = json.loads(once(told, "--json"))
            return seen

        ids = sickbay.submit_all("email", *({} for _ in range(8)))
        sickbay.wait_all(ids, "PARKED")
        until(lambda: view()["incidents"])
        seen = view()
        (breaker,) = seen["breakers"]
        assert (breaker["state"], breaker["reason"]["code"], breaker["parkedJobs"]) == ("OPEN", "API_TIMEOUT", 8)
        assert breaker["probeAt"] > seen["time"]
        assert [(one["jobType"], one["open"]) for one in seen["incidents"]] == [("email", True)]
        assert [(one["jobType"], one["state"]) for one in seen["changes"]] == [("email", "OPEN")]
        assert {queue["name"]: queue.get("consumers", 0) for queue in seen["queues"]}["jobs.main"] >= 1

        (tmp_path / "email.down").unlink()
        with Terminal(COMMAND, told, lines=40, columns=140) as terminal:
            terminal.until(lambda screen: row(screen, "email")[1:2] == ["OPEN"])
            assert sickbay.plane.post("/breakers/email/probe").status_code == 200
            terminal.until(lambda screen: row(screen, "email")[1:2] == ["CLOSED"])
            sickbay.wait_all(ids, "SUCCEEDED")
            changed = terminal.until(lambda screen: " 0 parked" in screen)
            log = [line.split()[2] for line in changed.splitlines() if line.split()[1:2] == ["email"] and ":" in line.split()[0]]
            assert (log[0], log[-1]) == ("CLOSED", "OPEN"), "newest first; a fast probe may be missed"
            terminal.press(b"q")
            assert (terminal.ended(), terminal.is_restored) == (0, True)


def test_a_product_that_goes_away_and_comes_back(own_clinic: Clinic, start: Callable[..., Product]):
    numbers = [free_port() for _ in PORTS]
    options = [word for option, number in zip(PORTS, numbers, strict=True) for word in (option, str(number))]
    product = start(own_clinic.folder, options=options).ready()
    env = addresses({name: grpc for name, (_, grpc) in product.ports.items()})
    with Clients(product) as sickbay:
        sickbay.wait(sickbay.submit("email"), "SUCCEEDED")
    with Terminal(COMMAND, env) as terminal:
        terminal.until(lambda screen: row(screen, "email")[1:2] == ["CLOSED"])
        product.stop()
        told = terminal.until(lambda screen: "the numbers below are those of" in screen)
        assert "control plane down" in told
        assert row(told, "email")[1:2] == ["CLOSED"]
        start(own_clinic.folder, options=options).ready()
        terminal.until(lambda screen: "Job API up" in screen and "control plane up" in screen and "the numbers below" not in screen)
        terminal.press(b"\x03")
        assert (terminal.ended(), terminal.is_restored) == (130, True)
