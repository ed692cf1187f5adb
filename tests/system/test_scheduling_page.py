"""docs/scheduling.md is done word for word against a running system: its curl, its commands, its file, its Python."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients import Clients
from tests.support.system_under_test import Product
from tests.support.waiting import until

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "scheduling.md").read_text("utf-8")
HANDLERS: Final = """
from sickbay import Job, handler


@handler("greet")
def greet(job: Job) -> None:
    print("Hello", job.payload["name"])


@handler("invoices")
def invoices(job: Job) -> None:
    print("invoices", job.payload)
"""
BLOCKS: Final = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
IN_CODE: Final = "\n\n".join(text for kind, text in BLOCKS if kind == "python" and "@handler" in text and "client" not in text)


def block(kind: str, part: str) -> str:
    """The one block of the page that has this in it."""
    (found,) = [text for language, text in BLOCKS if language == kind and part in text]
    return found


class Reader:
    """Somebody who has started `sickbay up` with the handlers of the page, and two more, and has a shell in the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "page_handlers.py").write_text(HANDLERS + IN_CODE)
        tool = folder / "bin" / "sickbay"
        tool.parent.mkdir()
        tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m sickbay_cli "$@"\n')
        tool.chmod(0o755)
        self.product = Product(folder, options=["--handlers", "page_handlers"]).ready()

    def sh(self, text: str) -> str:
        """What the shell prints; the ports are those of this system."""
        ports = self.product.ports
        names = {"Job API": "SICKBAY_JOBAPI", "Worker": "SICKBAY_WORKER", "Control plane": "SICKBAY_CONTROL_PLANE"}
        env = os.environ | {variable: f"127.0.0.1:{ports[name][1]}" for name, variable in names.items()}
        env |= {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        for standard, name in ((3000, "Job API"), (3002, "Control plane")):
            text = text.replace(f"localhost:{standard}", f"127.0.0.1:{ports[name][0]}")
        words = ["bash", "-euo", "pipefail", "-c", text.replace("curl ", "curl -sS --fail-with-body ")]
        ran = subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    started = Reader(tmp_path_factory.mktemp("page"))
    yield started
    started.product.stop()


@pytest.fixture
def sickbay(reader: Reader) -> Iterator[Clients]:
    with Clients(reader.product) as clients:
        yield clients


def table(first: str) -> dict[str, list[str]]:
    """The code in the cells of the table whose second row begins with this, by the first cell."""
    lines = PAGE[PAGE.index(f"\n| {first} |") :].partition("\n\n")[0].strip().splitlines()
    return {line.split(" | ")[0].strip("| "): re.findall(r"`([^`]+)`", line) for line in lines}


def test_in_ten_minutes_by_curl(reader: Reader):
    """The answer has the fields that the page shows."""
    answer = json.loads(reader.sh(block("bash", "delaySeconds")))
    shown = json.loads(block("json", '"runAt"'))
    assert answer.keys() == shown.keys()
    assert (answer["status"], answer["message"]) == (shown["status"], shown["message"])


@pytest.mark.parametrize("when", [0, 1], ids=["in", "at"])
def test_in_ten_minutes_by_the_command(reader: Reader, sickbay: Clients, when: int):
    command = table("REST")["command"][when]
    assert command.startswith("sickbay submit greet")
    told = json.loads(reader.sh(command + " --json"))
    wait_for(sickbay, told["jobId"])


def test_a_job_is_listed_shown_changed_run_and_cancelled(reader: Reader, sickbay: Clients):
    """By the commands of the table, each on a job of its own kind."""
    commands = {name: code[0] for name, code in table("list").items() if code[0].startswith("sickbay")}
    assert len(commands) == 5
    changed, ran, cancelled = (sickbay.api.post("/jobs", json=later()).json()["jobId"] for _ in range(3))
    wait_for(sickbay, changed, ran, cancelled)
    assert ran in reader.sh(commands["list"] + " --json")
    assert "Ada" in reader.sh(commands["one, with its payload"].replace("JOB_ID", changed))
    before = sickbay.plane.get(f"/scheduled-jobs/{changed}").json()["runAt"]
    reader.sh(commands["another time, payload or priority"].replace("JOB_ID", changed))
    assert sickbay.plane.get(f"/scheduled-jobs/{changed}").json()["runAt"] < before
    reader.sh(commands["run it now"].replace("JOB_ID", ran))
    sickbay.wait(ran, "SUCCEEDED")
    reader.sh(commands["cancel it"].replace("JOB_ID", cancelled))
    assert sickbay.job(cancelled)["state"] == "CANCELLED"


def later() -> dict[str, Any]:
    return {"jobType": "greet", "payload": {"name": "Ada"}, "delaySeconds": 86_400}


def wait_for(sickbay: Clients, *job_ids: str) -> None:
    sickbay.wait_all(list(job_ids), "SCHEDULED")


def test_every_night_by_curl_and_looked_after_by_commands(reader: Reader, sickbay: Clients):
    answer = json.loads(reader.sh(block("bash", '"scheduleId": "nightly-report"')))
    assert len(answer["nextTimes"]) == 5
    assert answer["descriptionOfTimes"].startswith("At 03:00 every day in Europe/Berlin; next: ")
    commands = [code for row in table("all, with their next times").values() for code in row if code.startswith("sickbay ")]
    assert len(commands) >= 8
    for command in commands:
        reader.sh(command + (" --yes" if "backfill" in command or "delete" in command else ""))
    assert sickbay.plane.get("/schedules/nightly-report").status_code == 404


def test_every_night_by_the_command(reader: Reader, sickbay: Clients):
    reader.sh(block("bash", "schedules create nightly-report"))
    spec = sickbay.plane.get("/schedules/nightly-report").json()["spec"]
    assert (spec["cron"], spec["timezone"], spec["payload"]) == ("0 3 * * *", "Europe/Berlin", {"of": "yesterday"})
    sickbay.plane.delete("/schedules/nightly-report").raise_for_status()


def test_every_night_by_a_file(reader: Reader, sickbay: Clients):
    """`diff` exits with 1 because something would change, and with 0 when all is as the file says."""
    (reader.folder / "schedules.toml").write_text(block("toml", "[schedules.nightly-report]"))
    diff, apply = block("bash", "schedules diff").strip().splitlines()
    assert "nightly-report" in reader.sh(diff.partition("#")[0] + "|| test $? = 1")
    reader.sh(apply)
    reader.sh(diff)
    spec = sickbay.plane.get("/schedules/nightly-report").json()["spec"]
    assert spec["pauseOnFailure"] is True
    for name in ("nightly-report", "refresh-prices"):
        sickbay.plane.delete(f"/schedules/{name}")


def test_a_line_of_a_crontab(reader: Reader, sickbay: Clients):
    line = re.search(r"^CRON_TZ=(\S+)\n(\S+ \S+ \S+ \S+ \S+)  /", PAGE, re.MULTILINE)
    assert line is not None
    reader.sh(block("bash", "send-invoices"))
    spec = sickbay.plane.get("/schedules/send-invoices").json()["spec"]
    assert (spec["timezone"], spec["cron"]) == line.groups()


def test_every_night_from_python(reader: Reader, sickbay: Clients):
    """The program of the page prints when it runs."""
    (reader.folder / "program.py").write_text(block("python", "from sickbay.client import"))
    assert reader.sh(f"{sys.executable} program.py").startswith("At 03:00 every day in Europe/Berlin; next: ")
    sickbay.plane.delete("/schedules/nightly-report").raise_for_status()


def test_what_is_in_code_is_there_by_itself(sickbay: Clients):
    """Soon after its worker."""
    names = {"report", "poll", "poll-all"}
    until(lambda: names == {one["scheduleId"] for one in in_code(sickbay)})
    found = {one["scheduleId"]: one for one in in_code(sickbay)}
    assert found["report"]["spec"]["timezone"] == "Europe/Berlin"
    assert found["poll-all"]["spec"]["overlap"] == "ALLOW"


def in_code(sickbay: Clients) -> list[dict[str, Any]]:
    return list(sickbay.plane.get("/schedules?origin=CODE").json()["schedules"])
