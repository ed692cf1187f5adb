"""The command and the client beside the running product: jobs for later, schedules, and files of schedules."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sickbay.client import AsyncClient, Client, Conflict, InvalidRequest, JobState, NewJob, NotFound, RunOutcome, ScheduleSpec, Trigger
from tests.support.system_under_test import Product
from tests.support.waiting import until

pytestmark = pytest.mark.embedded

ROOT = Path(__file__).parents[2]
HANDLERS = """
from sickbay import Job, handler


@handler("echo")
def echo(job: Job) -> dict:
    return {"payload": job.payload, "schedule": job.schedule_id}
"""


@dataclass(frozen=True)
class Shell:
    """Somebody with a shell beside `sickbay up`."""

    product: Product
    folder: Path

    @property
    def addresses(self) -> dict[str, str]:
        return {name: f"127.0.0.1:{self.product.ports[name][1]}" for name in ("Job API", "Worker", "Control plane")}

    def run(self, *words: str, stdin: str = "", code: int = 0) -> str:
        """What the command prints, after it has ended with this code."""
        names = {"Job API": "SICKBAY_JOBAPI", "Worker": "SICKBAY_WORKER", "Control plane": "SICKBAY_CONTROL_PLANE"}
        env = os.environ | {names[name]: address for name, address in self.addresses.items()} | {"PYTHONPATH": str(ROOT), "TZ": "UTC"}
        command = [sys.executable, "-m", "sickbay_cli", *words]
        ran = subprocess.run(command, env=env, cwd=self.folder, input=stdin, capture_output=True, text=True, check=False)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout

    def json(self, *words: str) -> dict:
        return json.loads(self.run(*words, "--json"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("shell")
    (folder / "echo_handlers.py").write_text(HANDLERS)
    product = Product(folder, options=["--handlers", "echo_handlers"]).ready()
    yield Shell(product, folder)
    product.stop()


@pytest.fixture
def client(shell: Shell) -> Iterator[Client]:
    with Client(shell.addresses["Job API"], control_plane=shell.addresses["Control plane"], timeout=60) as made:
        yield made


@pytest.fixture
def tenant() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


def is_there(client: Client, job_id: str) -> None:
    """The ledger has heard of it."""
    until(lambda: any(one.job_id == job_id for one in client.scheduled_jobs.list()))


def test_a_job_for_later_by_the_command(shell: Shell, client: Client):
    """It is listed with its time, moved twice and edited; then it runs, and is listed no more."""
    job_id = shell.json("submit", "echo", '{"n": 1}', "--at", "2097-01-01T08:00+01:00")["jobId"]
    is_there(client, job_id)
    assert "2097-01-01 07:00:00 UTC" in shell.run("jobs", "--state", "scheduled")
    assert "2097-01-01 07:00:00 UTC" in shell.run("scheduled", "list", "--type", "echo")
    assert job_id not in shell.run("scheduled", "list", "--before", "2097-01-01T07:00Z")
    assert "it runs at 2098-01-01 00:00:00 UTC" in shell.run("scheduled", "edit", job_id, "--at", "2098-01-01", "--payload", '{"n": 2}')
    assert shell.json("scheduled", "show", job_id)["payload"] == {"n": 2}
    assert "SCHEDULED" in shell.run("explain", job_id)
    shell.run("scheduled", "edit", job_id, "--in", "100ms")
    assert client.result(job_id, timeout=60) == {"payload": {"n": 2}, "schedule": ""}
    shell.run("scheduled", "cancel", job_id, code=3)
    assert "SUCCEEDED" in shell.run("get", job_id)


def test_jobs_of_a_file_run_now_or_are_cancelled(shell: Shell, client: Client, tenant: str):
    lines = [
        {"jobType": "echo", "tenant": tenant, "payload": {}, "delaySeconds": 3600},
        {"jobType": "echo", "tenant": tenant, "payload": {}, "runAt": "2097-01-01T08:00:00Z"},
    ]
    shell.run("submit", "--from", "-", stdin="\n".join(map(json.dumps, lines)))
    until(lambda: len(list(client.scheduled_jobs.list(tenant=tenant))) == 2)
    soon, late = client.scheduled_jobs.list(tenant=tenant)
    assert shell.run("scheduled", "run", soon.job_id) == f"queued {soon.job_id}\n"
    assert client.wait(soon.job_id, timeout=60).state is JobState.SUCCEEDED
    assert shell.run("scheduled", "cancel", "--tenant", tenant, "--all", "--yes") == "cancelled 1 job\n"
    assert client.get(late.job_id).state is JobState.CANCELLED


def test_submit_waits_for_a_job_for_later(shell: Shell):
    assert "SUCCEEDED" in shell.run("submit", "echo", "--in", "300ms", "--wait")


def test_a_job_for_later_by_the_client(client: Client):
    submitted = client.submit("echo", {"n": 1}, delay=timedelta(milliseconds=300))
    assert submitted.state is JobState.SCHEDULED
    assert submitted.job.run_time is not None
    assert client.result(submitted.job_id, timeout=60)["payload"] == {"n": 1}
    key = str(uuid.uuid4())
    at = datetime(2097, 1, 1, tzinfo=UTC)
    first = client.submit("echo", {}, run_at=at, request_id=key)
    assert client.submit("echo", {}, run_at=at, request_id=key).job_id == first.job_id
    with pytest.raises(Conflict):
        client.submit("echo", {}, run_at=at + timedelta(seconds=1), request_id=key)
    (batched,) = client.submit_many([NewJob("echo", {"n": 2}, run_at=at)])
    is_there(client, batched.job_id)
    job = client.scheduled_jobs.get(batched.job_id)
    assert (job.payload, job.run_time) == ({"n": 2}, at)
    client.scheduled_jobs.update(job.job_id, priority="HIGH", etag=job.etag)
    with pytest.raises(Conflict):
        client.scheduled_jobs.update(job.job_id, delay=0, etag=job.etag)
    assert client.scheduled_jobs.cancel(job.job_id).state is JobState.CANCELLED
    with pytest.raises(NotFound):
        client.scheduled_jobs.get(job.job_id)


def test_a_schedule_by_the_command(shell: Shell, client: Client, tenant: str):
    """From its creation to its end; its jobs stay."""
    own = ("--tenant", tenant)
    shell.run("schedules", "create", "tick", "echo", "--every", "1s", "--dry-run", *own)
    shell.run("schedules", "show", "tick", *own, code=3)
    shell.run("schedules", "create", "tick", "echo", "--every", "1s", "--payload", '{"n": 1}', "--overlap", "allow", *own)
    shell.run("schedules", "create", "tick", "echo", "--every", "1s", *own, code=1)
    runs = until(lambda: [one for one in client.schedules.runs("tick", tenant=tenant) if one.job_state is JobState.SUCCEEDED])
    assert client.get(runs[0].job_id).result == {"payload": {"n": 1}, "schedule": "tick"}
    assert "paused tick" in shell.run("schedules", "pause", "tick", "--note", "enough", *own)
    shown = shell.run("schedules", "show", "tick", *own)
    assert "PAUSED" in shown
    assert "enough" in shown
    assert runs[0].job_id in shell.run("schedules", "runs", "tick", *own)
    told = shell.json("schedules", "trigger", "tick", "--key", "once", *own)
    assert shell.json("schedules", "trigger", "tick", "--key", "once", *own)["jobId"] == told["jobId"]
    assert client.wait(told["jobId"], timeout=60).state is JobState.SUCCEEDED
    span = ("--from", "2024-01-01T00:00:00Z", "--to", "2024-01-01T00:00:03Z")
    assert shell.run("schedules", "backfill", "tick", *span, "--dry-run", *own).count("\n") == 3
    assert len(shell.json("schedules", "backfill", "tick", *span, "--yes", *own)["runs"]) == 3
    assert shell.json("schedules", "backfill", "tick", *span, "--yes", *own) == {"runs": [], "existing": 3}
    shell.run("schedules", "update", "tick", "--cron", "0 3 * * *", "--timezone", "Europe/Berlin", *own)
    assert client.schedules.get("tick", tenant=tenant).payload == {"n": 1}
    shell.run("schedules", "update", "tick", "--cron", "0 30 * * *", *own, code=1)
    assert "03:00:00 CE" in shell.run("schedules", "resume", "tick", *own)
    assert shell.run("schedules", "delete", "tick", "--yes", *own) == "deleted tick\n"
    assert client.get(told["jobId"]).state is JobState.SUCCEEDED


FILE = """
[schedules.nightly]
type = "echo"
cron = "0 3 * * *"
timezone = "Europe/Berlin"
payload = { of = "night", n = [1, 2.50] }
priority = "low"
start = 2097-01-01T08:00:00+01:00
end = 2098-01-01T00:00:00Z
jitter = "90s"
overlap = "buffer_one"
catch_up = "2h"
pause_on_failure = true
while_open = "skip"
description = "it's \\"nightly\\""

[schedules."a.b"]
type = "echo"
every = "1d"
payload = '{"n": null}'
"""


def test_schedules_become_what_a_file_says(shell: Shell, client: Client, tenant: str):
    """What is exported says the same; what somebody else changed meanwhile is seen, and a mistake changes nothing."""
    client.schedules.create("old", ScheduleSpec("echo", interval=3600), tenant=tenant)
    file = ("-f", "-", "--tenant", tenant)
    assert "+ nightly" in shell.run("schedules", "diff", *file, stdin=FILE, code=1)
    shell.run("schedules", "apply", *file, stdin=FILE, code=1)
    assert [one.schedule_id for one in client.schedules.list(tenant=tenant)] == ["old"]
    assert shell.run("schedules", "apply", *file, "--yes", stdin=FILE).endswith("created nightly\ncreated a.b\n")
    assert shell.run("schedules", "diff", *file, stdin=FILE) == ""
    exported = shell.run("schedules", "list", "--toml", "--tenant", tenant)
    assert set(tomllib.loads(exported)["schedules"]) == {"nightly", "a.b", "old"}
    etags = [one.etag for one in client.schedules.list(tenant=tenant)]
    assert shell.run("schedules", "apply", *file, "--yes", "--delete-missing", stdin=exported) == ""
    assert [one.etag for one in client.schedules.list(tenant=tenant)] == etags
    wrong = FILE.replace("0 3 * * *", "0 30 * * *").replace("1d", "2d")
    shell.run("schedules", "apply", *file, "--yes", stdin=wrong, code=1)
    assert [one.etag for one in client.schedules.list(tenant=tenant)] == etags
    changed = shell.run("schedules", "apply", *file, "--yes", "--delete-missing", stdin=FILE.replace("1d", "2d"))
    assert changed.splitlines()[-2:] == ["updated a.b", "deleted old"]
    assert client.schedules.get("a.b", tenant=tenant).spec.interval == timedelta(days=2)


async def test_schedules_by_the_asynchronous_client(shell: Shell, tenant: str):
    addresses = shell.addresses
    async with AsyncClient(addresses["Job API"], control_plane=addresses["Control plane"], timeout=60) as client:
        spec = ScheduleSpec("echo", '{"n": 1.0}', cron="0 3 * * *", timezone="Europe/Berlin", jitter=30, overlap="allow")
        checked = await client.schedules.create("nightly", spec, tenant=tenant, validate_only=True)
        assert len(checked.next_times) == 5
        with pytest.raises(NotFound):
            await client.schedules.get("nightly", tenant=tenant)
        made = await client.schedules.create("nightly", spec, tenant=tenant)
        with pytest.raises(Conflict) as caught:
            await client.schedules.create("nightly", spec, tenant=tenant)
        assert caught.value.reason == "SCHEDULE_EXISTS"
        with pytest.raises(InvalidRequest, match="Europe/Berlin"):
            await client.schedules.create("other", replace(spec, timezone="Europe/Berln"), tenant=tenant)
        assert made.spec.payload == '{"n": 1.0}'
        changed = await client.schedules.update("nightly", replace(made.spec, cron="@daily"), tenant=tenant, etag=made.etag)
        assert (changed.spec.cron, changed.spec.payload, changed.spec.jitter) == ("@daily", '{"n": 1.0}', timedelta(seconds=30))
        with pytest.raises(Conflict):
            await client.schedules.update("nightly", made.spec, tenant=tenant, etag=made.etag)
        day = datetime(2024, 1, 1, 12, tzinfo=UTC)
        filled = await client.schedules.backfill("nightly", day, day + timedelta(days=2), tenant=tenant)
        assert [(one.trigger, one.outcome) for one in filled.runs] == [(Trigger.BACKFILL, RunOutcome.SUBMITTED)] * 2
        ended = await asyncio.gather(*(client.wait(one.job_id, timeout=60) for one in filled.runs))
        assert {job.state for job in ended} == {JobState.SUCCEEDED}
        assert [job.tick_time for job in ended] == [one.tick_time for one in filled.runs]
        run = await client.schedules.trigger("nightly", tenant=tenant)
        seen = [update.job async for update in client.watch(run.job_id, timeout=60)]
        assert {(job.schedule_id, job.tick_time) for job in seen} == {("nightly", run.tick_time)}
        assert [one.job_id async for one in client.schedules.runs("nightly", tenant=tenant, limit=1)] == [run.job_id]
        await client.schedules.delete("nightly", tenant=tenant)
        assert [one async for one in client.schedules.list(tenant=tenant)] == []
