"""However a command is called and wherever its output goes, it ends with a sentence or without a word, and with its own exit code."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from click.testing import CliRunner

from sickbay.jobs.v1 import job_service_pb2 as jobs_pb
from sickbay.jobs.v1 import quarantine_service_pb2 as wards_pb
from sickbay_cli.program import cli
from tests.support.cli_services import JOB_ID, NOT_FOUND, Fleet, case, failed, job

PATIENCE_S = 60
ODD = b"caf\xe9"


@pytest.fixture
def fleet():
    with Fleet() as started:
        started.answers["ListJobs"] = jobs_pb.ListJobsResponse(jobs=[job(JOB_ID, errors=[failed("X", "größer als 5 € 🙂")])] * 3)
        started.answers["GetJob"] = NOT_FOUND
        started.answers["SubmitJob"] = jobs_pb.SubmitJobResponse(job=job())
        accepted = [jobs_pb.BatchSubmitResult(job_id=JOB_ID)]
        started.answers["BatchSubmitJobs"] = lambda request: jobs_pb.BatchSubmitJobsResponse(results=accepted * len(request.requests))
        yield started


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Exit code and what was said; never Python's own inside."""
    try:
        out, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    said = [(text or b"").decode("utf-8", "replace") for text in (out, errors)]
    for text in said:
        assert "Traceback" not in text
        assert "Exception ignored" not in text
    return process.returncode, said[0], said[1]


@pytest.mark.parametrize(
    "args",
    [
        ["get", ODD],
        ["jobs", "--tenant", ODD],
        ["jobs", b"--type=" + ODD],
        ["submit", ODD],
        ["submit", "email", b'{"to": "' + ODD + b'"}'],
        ["quarantine", "discard", JOB_ID, "--actor", ODD],
        ["reset", ODD],
        [ODD],
        [b"--" + ODD],
    ],
)
def test_an_argument_that_is_no_text_is_refused(fleet: Fleet, args: list[Any]):
    """By name, wherever it stands."""
    result = CliRunner().invoke(cli, [os.fsdecode(arg) for arg in args], env=fleet.env, catch_exceptions=False)
    assert result.exit_code == 2
    assert "caf\\udce9" in result.stderr
    assert "not UTF-8 text" in result.stderr
    assert fleet.calls == []


def test_a_path_may_be_anything(fleet: Fleet, tmp_path: Path):
    """Also one that does not exist is told, in letters that can be written."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + ODD)
    Path(path).write_text('{"id": 7}')
    assert fleet.run("submit", "email", f"@{path}").exit_code == 0
    Path(path).write_text('{"jobType": "email", "payload": {}}\n')
    assert fleet.run("submit", "--from", path).exit_code == 0
    code, _, said = ended(fleet.start("submit", "email", f"@{path}.gone"))
    assert code == 2
    assert "cannot read" in said


def test_variables_that_are_no_text_do_no_harm(fleet: Fleet):
    """A login name, and an address."""
    odd = os.fsdecode(ODD)
    fleet.answers["DiscardJob"] = wards_pb.DiscardJobResponse(job=job())
    assert fleet.run("quarantine", "discard", JOB_ID, "--yes", LOGNAME=odd).exit_code == 0
    assert fleet.requests[-1].actor == "caf?"
    assert fleet.run("jobs", SICKBAY_JOBAPI=f"{odd}:50051").exit_code == 2


@pytest.mark.parametrize(
    "args", [["jobs"], ["jobs", "--json"], ["health"], ["--help"], ["--version"], ["jobs", "--help"], ["watch", JOB_ID]], ids=" ".join
)
def test_an_output_that_cannot_be_written_is_told_in_one_sentence(fleet: Fleet, args: list[str]):
    fleet.answers["WatchJob"] = [jobs_pb.WatchJobResponse(job=job())]
    with Path("/dev/full").open("wb") as full:
        code, _, said = ended(fleet.start(*args, stdout=full))
    assert (code, said) == (1, "Error: the output cannot be written: No space left on device\n")


def test_an_error_that_cannot_be_told_keeps_its_exit_code(fleet: Fleet):
    with Path("/dev/full").open("wb") as full:
        assert ended(fleet.start("get", JOB_ID, stderr=full))[0] == 3
        assert ended(fleet.start("nope", stderr=full))[0] == 2


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_closed_streams_are_no_trouble(fleet: Fleet, closed: list[int]):
    """Nor does a connection take the number of one and is written to."""
    shell = " ".join(f"{number}>&-" if number else "0<&-" for number in closed)
    for args, wanted in (("jobs", 0), (f"get {JOB_ID}", 3), (f"quarantine discard {JOB_ID}", 1), ("submit email -", 2)):
        line = f"exec {sys.executable} -m sickbay_cli {args} {shell}"
        process = subprocess.Popen(["sh", "-c", line], env=os.environ | fleet.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        code, out, said = ended(process)
        assert code == wanted, said
        assert bool(said) == (wanted != 0 and 2 not in closed)
        assert bool(out) == (args == "jobs" and 1 not in closed)


def in_terminal(fleet: Fleet, *args: str, columns: int = 0, **env: str) -> tuple[int, str]:
    """The command in front of somebody, on a terminal of this width; what is said there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "sickbay_cli", *args], env=os.environ | fleet.env | env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65_536):
            said += piece
    except OSError:  # a terminal that nobody has open any more
        pass
    os.close(ours)
    text = said.decode("utf-8", "replace")
    assert "Traceback" not in text
    return process.wait(PATIENCE_S), text


@pytest.mark.parametrize("columns", ["0", "-1", "wide", "²", "1", "3", "9" * 30, ""])
def test_whatever_columns_says(fleet: Fleet, columns: str):
    """Into a pipe, and in a terminal that knows no width of its own; lines are long, not infinite."""
    result = fleet.run("jobs", COLUMNS=columns, LINES=columns)
    assert (result.exit_code, result.stdout.count(JOB_ID)) == (0, 3)
    assert fleet.run("jobs", "--help", COLUMNS=columns).exit_code == 0
    code, said = in_terminal(fleet, "jobs", COLUMNS=columns, LINES=columns)
    assert code == 0
    assert "JOB" in said or columns in {"1", "3"}
    assert len(said) < 10_000


@pytest.mark.parametrize("columns", [1, 2, 20, 65_535])
def test_a_terminal_of_any_width(fleet: Fleet, columns: int):
    fleet.answers["GetJob"] = jobs_pb.GetJobResponse(job=job())
    for args in (("jobs",), ("get", JOB_ID)):
        assert in_terminal(fleet, *args, columns=columns)[0] == 0


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "nonsense"},
    ],
    ids=str,
)
def test_letters_that_the_output_lacks_are_escaped(fleet: Fleet, env: dict[str, str]):
    """And JSON is UTF-8 everywhere."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "env": os.environ | fleet.env | env}
    command = [sys.executable, "-m", "sickbay_cli", "jobs"]
    process = subprocess.Popen(command, **options)
    code, out, said = ended(process)
    assert (code, said) == (0, "")
    assert "als 5 " in out
    out = subprocess.run([*command, "--json"], check=True, **options).stdout
    told = json.loads(out.decode())
    assert told["jobs"][0]["errors"][0]["message"] == "größer als 5 € 🙂"


def test_ctrl_c_before_anything_is_loaded_is_quiet(tmp_path: Path):
    """The first thing that is loaded takes a long time here."""
    (tmp_path / "click").mkdir()
    (tmp_path / "click" / "__init__.py").write_text("import sys, threading\nprint('loading', flush=True)\nthreading.Event().wait(60)\n")
    command = ["env", "--default-signal=INT", sys.executable, "-m", "sickbay_cli", "jobs"]
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"loading\n"
    process.send_signal(signal.SIGINT)
    code, _, said = ended(process)
    assert (code, said) == (-signal.SIGINT, "")


def interrupted(fleet: Fleet, method: str, answer: Any, *args: str, after: int) -> tuple[int, str, str]:
    """Ctrl-C while the call after so many is under way; it gets no answer before the command has ended."""
    reached, release = Event(), Event()
    calls = iter(range(1_000_000))

    def answered(request: Any) -> Any:
        if next(calls) >= after:
            reached.set()
            release.wait(PATIENCE_S)
        return answer

    fleet.answers[method] = answered
    process = fleet.start(*args, f"--timeout={PATIENCE_S}")  # on a busy machine an answer may be late, which is no failure here
    assert reached.wait(PATIENCE_S)
    process.send_signal(signal.SIGINT)
    try:
        return ended(process)
    finally:
        release.set()


@pytest.mark.parametrize(
    ("method", "answer", "verb", "args"),
    [
        ("DiscardJob", wards_pb.DiscardJobResponse(job=job()), "discarded", ("quarantine", "discard", "--all", "--yes")),
        (
            "ResubmitJob",
            wards_pb.ResubmitJobResponse(job=job()),
            "resubmitted",
            ("quarantine", "resubmit", "--all", "--yes", "--type", "x"),
        ),
        ("CancelJob", jobs_pb.CancelJobResponse(job=job()), "cancelled", ("cancel", *(f"j{number}" for number in range(40)))),
    ],
)
def test_ctrl_c_in_the_middle_of_many_says_how_far_it_came(fleet: Fleet, method: str, answer: Any, verb: str, args: tuple[str, ...]):
    """What has been done is counted, what is under way is named, the rest was not touched."""
    cases = [case(f"j{number}") for number in range(40)]
    fleet.answers["ListQuarantinedJobs"] = wards_pb.ListQuarantinedJobsResponse(jobs=cases, total_size=40)
    code, _, said = interrupted(fleet, method, answer, *args, after=16)
    assert code == 130
    words = rf"interrupted: 16 of 40 jobs {verb}, \d+ may or may not have been \(j16[^)]*\); the others were not touched"
    assert re.search(words, said), said


def test_ctrl_c_in_the_middle_tells_scripts_what_was_done(fleet: Fleet):
    answer = jobs_pb.CancelJobResponse(job=job())
    code, out, _ = interrupted(fleet, "CancelJob", answer, "cancel", *(f"j{number}" for number in range(40)), "--json", after=16)
    assert code == 130
    assert len(json.loads(out)["jobs"]) == 16


def test_ctrl_c_in_a_call_for_one_job_says_that_nobody_knows(fleet: Fleet):
    code, _, said = interrupted(fleet, "CancelJob", jobs_pb.CancelJobResponse(job=job()), "cancel", "j1", after=0)
    assert (code, said) == (130, "interrupted: j1 may or may not have been cancelled\n")


def test_ctrl_c_in_a_requeue_says_how_far_it_came(fleet: Fleet):
    """Asked first, then in hundreds."""
    lost = [wards_pb.RequeuedJob(job=job(f"j{number}"), outcome="OUTCOME_REQUEUEABLE") for number in range(250)]
    back = [wards_pb.RequeuedJob(job=job(f"j{number}"), outcome="OUTCOME_REQUEUED") for number in range(100)]
    reached, release, calls = Event(), Event(), iter(range(1_000))

    def answered(request: Any) -> Any:
        if request.validate_only:
            return wards_pb.RequeueJobsResponse(jobs=lost)
        if next(calls):
            reached.set()
            release.wait(PATIENCE_S)
        return wards_pb.RequeueJobsResponse(jobs=back)

    fleet.answers["RequeueJobs"] = answered
    process = fleet.start("requeue", "--all", "--yes", f"--timeout={PATIENCE_S}")
    assert reached.wait(PATIENCE_S)
    process.send_signal(signal.SIGINT)
    code, _, said = ended(process)
    release.set()
    assert code == 130
    assert said == "stopped: of 250 jobs requeued 100, 100 jobs may or may not have been; run it again for the others\n"


def test_ctrl_c_in_the_first_batch_of_a_file_says_what_is_unsure(fleet: Fleet, tmp_path: Path):
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"jobType": "email", "payload": {}}\n' * 250)
    code, _, said = interrupted(fleet, "BatchSubmitJobs", jobs_pb.BatchSubmitJobsResponse(), "submit", "--from", str(path), after=0)
    assert code == 130
    assert said == "stopped: 0 jobs accepted, lines 1 to 100 may or may not have been; continue with line 1\n"
