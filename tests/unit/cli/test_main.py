"""The `sickbay` command as a whole: help, errors and exit codes, interrupts, closed pipes, health and metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from threading import Event

import click
import grpc
import pytest
import trustme
from click.testing import CliRunner
from grpc_health.v1.health_pb2 import HealthCheckResponse

from scripts.servers import free_port
from sickbay.breakers.v1 import breaker_service_pb2 as breakers_pb
from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import job_service_pb2 as jobs_pb
from sickbay.server.service import HEALTH_DETAILS
from sickbay_cli.program import COMMANDS, cli
from tests.support.cli_services import BUSY, JOB_ID, NOT_FOUND, REFUSED, Fleet, job


@pytest.fixture
def fleet():
    with Fleet() as started:
        yield started


def test_help_names_every_command_and_exit_code():
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert all(f"\n  {name}" in result.output for name in COMMANDS)
    assert "service is unavailable" in result.output


def test_help_loads_neither_grpc_nor_rich():
    """That is what keeps `sickbay --help` fast."""
    run = "CliRunner().invoke(cli, ['--help'])"
    check = "sys.exit(bool({'grpc', 'rich', 'google.protobuf'} & set(sys.modules)))"
    code = f"import sys; from click.testing import CliRunner; from sickbay_cli.program import cli; {run}; {check}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "up"])
def test_summary_is_the_first_sentence_of_the_commands_own_help(name: str):
    command = cli.get_command(click.Context(cli), name)
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == COMMANDS[name][1]


def leaves(command: click.Command, path: tuple[str, ...] = ()):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if name != "up":
                yield from leaves(command.get_command(context, name), (*path, name))
    else:
        yield path


@pytest.mark.parametrize("path", [(), ("quarantine",), ("topology",), ("up",), *leaves(cli)], ids=" ".join)
@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_help_shows_its_markup(path: tuple[str, ...], columns: str):
    """Neither marks for click or Markdown, nor a paragraph that was joined with the next, nor a line that is too long."""
    result = CliRunner().invoke(cli, [*path, "--help"], env={"COLUMNS": columns})
    assert result.exit_code == 0
    assert not re.search(r"\\[a-z]|[^\x20-\x7e\n]|\*\*|``| {2}Examples: +\w|: +sickbay ", result.output)
    assert result.output.count("Examples:") <= 1
    lines = [line for line in result.output.splitlines() if not line.startswith(("    sickbay", "    echo", "    PORT", "    JOB_"))]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("path", [("up",), *leaves(cli)], ids=" ".join)
def test_every_command_has_examples(path: tuple[str, ...]):
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0
    assert f"\n    sickbay {' '.join(path)}" in result.output


def test_version():
    assert CliRunner().invoke(cli, ["--version"], prog_name="sickbay").output.startswith("sickbay 0.")


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (NOT_FOUND, 3, "there is no such job"),
        (REFUSED, 1, "the job is RUNNING"),
        (BUSY, 4, "the broker does not answer (try again in 2 s)"),
        (Fault(grpc.StatusCode.INTERNAL, "internal error; see the service's log", "INTERNAL"), 1, "Job API at"),
        (Fault(grpc.StatusCode.PERMISSION_DENIED, ""), 1, "PERMISSION_DENIED"),
        (Fault(grpc.StatusCode.DEADLINE_EXCEEDED, "slow"), 4, "timed out after 10 s"),
    ],
)
def test_errors_are_one_sentence_and_an_exit_code(fleet: Fleet, fault: Fault, code: int, words: str):
    fleet.answers["GetJob"] = fault
    result = fleet.run("get", JOB_ID)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unreachable_service_is_named_with_what_to_do():
    address = f"127.0.0.1:{free_port()}"
    result = CliRunner().invoke(cli, ["get", JOB_ID, "--jobapi", address])
    assert result.exit_code == 4
    assert f"cannot connect to the Job API at {address}" in result.stderr
    assert all(hint in result.stderr for hint in ("sickbay up", "--jobapi", "SICKBAY_JOBAPI"))


def test_another_server_at_the_address(fleet: Fleet):
    result = fleet.run("get", JOB_ID)
    assert result.exit_code == 4
    assert "is not a Job API" in result.stderr


def test_a_deadline_is_kept(fleet: Fleet):
    release = Event()
    fleet.answers["GetJob"] = lambda _: release.wait() and jobs_pb.GetJobResponse()
    result = fleet.run("get", JOB_ID, "--timeout", "0.05")
    release.set()
    assert result.exit_code == 4
    assert "timed out after 0.05 s" in result.stderr


@pytest.mark.parametrize("address", ["http://localhost:50051", "localhost", "a b:1", ""])
def test_a_malformed_address_is_a_usage_error(address: str):
    result = CliRunner().invoke(cli, ["get", JOB_ID, "--jobapi", address])
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr


@pytest.mark.parametrize("args", [["nope"], ["get"], ["get", JOB_ID, "--nope"], ["jobs", "--limit", "0"]])
def test_misspelt_commands_end_with_2(args: list[str]):
    assert CliRunner().invoke(cli, args).exit_code == 2


def test_ctrl_c_ends_quietly_with_130(fleet: Fleet):
    release = Event()

    def stream(_: object):
        yield jobs_pb.WatchJobResponse(job=job())
        release.wait()

    fleet.answers["WatchJob"] = stream
    process = fleet.start("watch", JOB_ID)
    assert b"QUEUED" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    release.set()
    assert (process.returncode, errors) == (130, b"")


def test_a_closed_pipe_is_quiet(fleet: Fleet):
    fleet.answers["ListJobs"] = jobs_pb.ListJobsResponse(jobs=[job()] * 3)
    reader, writer = os.pipe()
    os.close(reader)
    process = fleet.start("jobs", stdout=writer)
    os.close(writer)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")


def test_health_of_all_three(fleet: Fleet):
    result = fleet.run("health")
    assert result.exit_code == 0
    assert result.stdout.count("up") == 3
    view = fleet.json("health")
    assert view["status"] == "ok"
    assert view["info"]["control-plane"] == {"status": "up", "address": fleet.address}


def test_health_tells_who_is_down(fleet: Fleet):
    address = f"127.0.0.1:{free_port()}"
    result = fleet.run("health", "--worker", address, "--json")
    assert result.exit_code == 4
    view = json.loads(result.stdout)
    assert view["status"] == "error"
    assert [name for name, one in view["info"].items() if one["status"] == "down"] == ["worker"]
    assert f"worker: cannot connect to the worker at {address}" in result.stderr


def _ill(fleet: Fleet, status: str, serving: int) -> None:
    """A service whose ledger is down."""
    ledger = {"status": "down", "needed": False, "since": "2026-11-28T13:20:11.402Z", "reason": "PostgreSQL is read-only"}
    body = {"status": status, "checks": {"broker": {"status": "up", "needed": True}, "ledger": ledger}}
    fleet.trailers = ((HEALTH_DETAILS, json.dumps(body).encode()),)
    fleet.answers["Check"] = HealthCheckResponse(status=serving)


def test_health_tells_what_is_down_behind_a_service(fleet: Fleet):
    """Who is degraded serves; who is down says why, and not that it is starting or stopping."""
    _ill(fleet, "degraded", HealthCheckResponse.SERVING)
    result = fleet.run("health")
    assert (result.exit_code, result.stdout.count("degraded")) == (0, 3)
    assert "worker: ledger is down since 2026-11-28T13:20:11.402Z: PostgreSQL is read-only" in result.stderr
    view = fleet.json("health")
    assert view["status"] == "degraded"
    assert view["info"]["worker"]["checks"]["ledger"]["reason"] == "PostgreSQL is read-only"
    _ill(fleet, "error", HealthCheckResponse.NOT_SERVING)
    result = fleet.run("health")
    assert (result.exit_code, result.stdout.count("down")) == (4, 3)
    assert "it is starting or stopping" not in result.stderr


def test_health_of_a_service_that_drains(fleet: Fleet):
    fleet.answers["Check"] = HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
    result = fleet.run("health")
    assert result.exit_code == 4
    assert result.stdout.count("down") == 3
    assert "3 services of 3 not serving" in result.stderr


def test_metrics(fleet: Fleet):
    fleet.answers["GetMetrics"] = breakers_pb.GetMetricsResponse(
        circuit_breakers=breakers_pb.CircuitBreakerCounts(total=3, open=1, closed=2),
        failures_by_job_type={"email": 1500},
        jobs_by_state={"SUCCEEDED": 7, "RUNNING": 0},
        queue_depths={"jobs.main": 0},
        duplicates=2,
    )
    shown = fleet.run("metrics").stdout
    assert "3: 1 open, 2 closed" in shown
    assert "1,500" in shown
    assert "RUNNING" not in shown
    view = fleet.json("metrics")
    assert view["circuitBreakers"] == {"total": 3, "open": 1, "closed": 2}
    assert view["failures"] == {"byJobType": {"email": 1500}}


@pytest.mark.parametrize(("module", "arguments"), [("click", ["--help"]), ("msgspec", ["submit"]), ("uvicorn", ["up"])])
def test_without_the_servers_packages_one_sentence_says_what_to_install(module, arguments):
    """As after `pip install sickbay`, which has the client library alone."""
    code = f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {arguments!r}; from sickbay_cli.main import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"Error: the `sickbay` command and the services need more than the client library ({module} is missing): "
        "pip install 'sickbay[server]'\n"
    )


def test_a_module_of_our_own_that_is_missing_is_a_fault():
    from sickbay_cli.main import what_to_install

    with pytest.raises(ModuleNotFoundError):
        what_to_install(ModuleNotFoundError("no module", name="sickbay.nowhere"))


def test_a_token_and_tls_are_those_of_the_environment(tmp_path):
    """As for `Client.from_env()`: the command is a client, too."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    key_and_chain = (server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())
    with Fleet(grpc.ssl_server_credentials([key_and_chain])) as fleet:
        fleet.answers |= {"GetJob": jobs_pb.GetJobResponse(job=job()), "WatchJob": [jobs_pb.WatchJobResponse(job=job(state="SUCCEEDED"))]}
        trusted = {"SICKBAY_TLS_CA_FILE": str(tmp_path / "ca.pem"), "SICKBAY_TOKEN": "secret"}
        assert fleet.run("get", JOB_ID, **trusted).exit_code == 0
        assert fleet.run("watch", JOB_ID, **trusted).exit_code == 0
        assert [found["authorization"] for found in fleet.metadata] == ["Bearer secret"] * 2
        assert fleet.run("get", JOB_ID).exit_code == 4


def test_a_token_is_not_sent_unencrypted_to_another_machine():
    result = CliRunner().invoke(cli, ["get", JOB_ID, "--jobapi", "jobs.example.com:50051"], env={"SICKBAY_TOKEN": "hunter2"})
    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot call the Job API: the token would be sent to jobs.example.com:50051 unencrypted;")
    assert "hunter2" not in result.output
