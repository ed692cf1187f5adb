"""`sickbay run`: one handler, once, in the foreground."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import sickbay_cli.run_handler
from sickbay_cli.program import cli

HANDLERS = """
import asyncio, logging, time
from sickbay import handler

@handler("email")
def send_email(job):
    print("printed")
    job.progress(0.5, "half")
    return {"to": job.payload["to"], "attempt": job.attempt, "tenant": job.tenant}

@handler("sms")
async def send_sms(job):
    await asyncio.sleep(0)
    here = job.job_type
    breakpoint()
    return here

@handler("two", retry={"delay": 9})
@handler("one", retry={"delay": 8})
def both(job):
    raise ConnectionRefusedError("nobody answers")

@handler("hangs")
def hangs(job):
    print("hanging", flush=True)
    time.sleep(60)

@handler("interrupted")
def interrupted(job):
    raise KeyboardInterrupt

plain = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The current folder, with a module of handlers that no other test has loaded."""
    (tmp_path / "handlers_to_run.py").write_text(HANDLERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sickbay_cli.run_handler, "configure_logging", lambda *_: None)
    monkeypatch.delitem(sys.modules, "handlers_to_run", raising=False)
    yield tmp_path
    sys.modules.pop("handlers_to_run", None)


def ran(*arguments: str, **options: object) -> Result:
    return CliRunner().invoke(cli, ["run", *arguments], **options)


def test_a_success(folder: Path):
    done = ran("handlers_to_run.send_email", '{"to": "ada"}', "--attempt", "2", "--tenant", "acme")
    assert done.exit_code == 0
    first, second, *result = done.stdout.splitlines()
    assert (first, second.startswith("SUCCEEDED after ")) == ("printed", True)
    assert json.loads("\n".join(result)) == {"to": "ada", "attempt": 1, "tenant": "acme"}
    assert done.stderr == "progress 50%  half\n"


def test_a_failure(folder: Path):
    done = ran("handlers_to_run.send_email")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[1].endswith(" with KEY_ERROR (data): 'to'")
    assert lines[2] == "  Traceback (most recent call last):"
    assert lines[-2:] == ["  KeyError: 'to'", "The job would run again in 5 s; the breaker does not count this failure."]


def test_the_settings_in_force_decide_where_the_job_goes(folder: Path):
    done = ran("handlers_to_run.send_email", "--attempt", "2", env={"MAX_RETRIES": "1"})
    assert done.stdout.endswith("The job would be quarantined; the breaker does not count this failure.\n")
    Path("sickbay.toml").write_text('[types.email]\nretry = { delay = "42s" }\n')
    assert "run again in 42 s" in ran("handlers_to_run.send_email", "--config", "sickbay.toml").stdout


def test_json_is_all_that_is_on_stdout(folder: Path):
    done = ran("handlers_to_run.both", "--type", "two", "--json")
    assert done.exit_code == 1
    view = json.loads(done.stdout)
    assert view.pop("traceback").splitlines()[-1] == "ConnectionRefusedError: nobody answers"
    assert view.pop("seconds") < 60
    assert view == {
        "jobType": "two",
        "succeeded": False,
        "result": None,
        "resultNote": "",
        "code": "CONNECTION_REFUSED",
        "kind": "systemic",
        "message": "nobody answers",
        "goesTo": "retry",
        "retryInSeconds": 9,
        "breakerCounts": True,
        "progress": [],
        "submitted": [],
    }
    done = ran("handlers_to_run.send_email", '{"to": "ada"}', "--json")
    assert json.loads(done.stdout)["progress"] == [{"fraction": 0.5, "message": "half"}]
    assert done.stderr == "printed\n"


@pytest.mark.parametrize(("payload", "stdin"), [("-", '{"to": "ada"}'), ("@payload.json", None)])
def test_the_payload_from_stdin_or_a_file(folder: Path, payload: str, stdin: str | None):
    Path("payload.json").write_text('{"to": "ada"}')
    done = ran("handlers_to_run.send_email", payload, "--json", input=stdin)
    assert json.loads(done.stdout)["result"]["to"] == "ada"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["handlers_to_run"], "must be MODULE.FUNCTION, for example my_handlers.send_email"),
        (["handlers_to_run.nothing"], "module 'handlers_to_run' has nothing that is called 'nothing'"),
        (["no_such_module.function"], "there is no module 'no_such_module' in the current folder or among the installed ones"),
        (["handlers_to_run.plain"], "is not a handler: put @handler(...) on it"),
        (["handlers_to_run.both"], "handles several job types: say with --type which of one, two"),
        (["handlers_to_run.send_email", "[1]"], "a payload must be a JSON object"),
        (["handlers_to_run.send_email", "--tenant", "No!"], "is no name of a tenant"),
        (["handlers_to_run.send_email", "--config", "none.toml"], "none.toml"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error(folder: Path, arguments: list[str], message: str):
    done = ran(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.split())


def test_a_syntax_error_is_named_with_its_line(folder: Path):
    Path("handlers_to_run.py").write_text("from sickbay import handler\n\ndef broken(:\n")
    done = ran("handlers_to_run.broken")
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: handlers_to_run.py:3: module 'handlers_to_run' failed while it was imported: SyntaxError:")


def test_a_timeout(folder: Path):
    done = ran("handlers_to_run.hangs", "--timeout", "0.05")
    assert done.exit_code == 1
    assert "HANDLER_TIMEOUT (systemic): the handler timed out after 0.05 s" in done.stdout


def test_an_interrupt_is_no_failure_of_the_handler(folder: Path):
    done = ran("handlers_to_run.interrupted")
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "Error: interrupted\n")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sickbay_cli", "run", *arguments]


@pytest.mark.parametrize(("words", "code", "said"), [("p here\nc\n", 0, "'sms'"), ("q\n", 130, "interrupted")])
def test_the_debugger_works_in_an_async_handler(folder: Path, words: str, code: int, said: str):
    done = subprocess.run(command("handlers_to_run.send_sms"), input=words, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr


def test_ctrl_c_ends_it(folder: Path):
    with subprocess.Popen(
        command("handlers_to_run.hangs"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    ) as running:
        assert running.stdout.readline() == "hanging\n"
        os.kill(running.pid, signal.SIGINT)
        assert running.wait(30) == 130
        assert running.stderr.read() == "Error: interrupted\n"
