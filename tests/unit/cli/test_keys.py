"""`sickbay keys`, and how the command finds its token."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from sickbay.client.options import from_environment, local_token_file
from sickbay.contract.faults import Fault
from sickbay.domain.api_key import hash_key, id_of
from sickbay.jobs.v1 import job_service_pb2 as jobs_pb
from sickbay_cli.program import cli
from tests.support.cli_services import Fleet

LOCAL = "sl_" + "x" * 43


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the token of `sickbay up`, and no token in the environment."""
    for name in ("SICKBAY_TOKEN", "SICKBAY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".sickbay").mkdir(0o700)
    token = tmp_path / ".sickbay" / "token"
    token.write_text(f"{LOCAL}\n")
    token.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    return token


def run(file: Path, *words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["keys", *words], input=stdin, env={"API_KEYS_FILE": str(file)}, catch_exceptions=False)


def make(file: Path, *words: str) -> str:
    done = run(file, "new", *words)
    assert done.exit_code == 0, done.stderr
    key = done.stdout.removesuffix("\n")
    assert id_of(key) in done.stderr
    assert key not in done.stderr
    assert key not in file.read_text()
    return key


def listed(file: Path) -> list[dict[str, object]]:
    done = run(file, "list", "--json")
    found: list[dict[str, object]] = json.loads(done.stdout)["keys"]
    return found


def test_a_new_key_is_printed_alone_and_kept_as_a_hash(file: Path):
    key = make(file, "--name", "shop", "--role", "submit", "--role", "view", "--tenant", "acme", "--expires", "90d", "--note", "till")
    assert file.stat().st_mode & 0o777 == 0o600
    (view,) = listed(file)
    assert (view["id"], view["name"], view["roles"], view["tenants"], view["state"]) == (
        id_of(key),
        "shop",
        ["submit", "view"],
        ["acme"],
        "valid",
    )
    for done in (run(file, "list"), run(file, "list", "--json"), run(file, "check", stdin=f"{key}\n")):
        assert done.exit_code == 0
        assert "shop" in done.stdout
        assert key not in done.output
        assert hash_key(key) not in done.output


def test_a_key_for_all_tenants_says_so(file: Path):
    assert "for all tenants" in run(file, "new", "--name", "ops", "--role", "operate").stderr
    assert listed(file)[0]["tenants"] is None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--name", "a\nb", "--role", "view"], 1, "printable"),
        (["--name", " ", "--role", "view"], 1, "name"),
        (["--name", "shop", "--role", "root"], 2, "root"),
        (["--name", "shop"], 2, "--role"),
        (["--name", "shop", "--role", "view", "--tenant", "A B"], 2, "--tenant"),
        (["--name", "shop", "--role", "view", "--certificate", "c", "--expires", "1d"], 2, "--certificate"),
    ],
)
def test_what_services_would_refuse_is_not_made(words: list[str], code: int, said: str, file: Path):
    done = run(file, "new", *words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert not file.exists()


def test_revoking_by_id_and_by_name(file: Path):
    first, second, other = (make(file, "--name", name, "--role", "view") for name in ("shop", "shop", "ci"))
    assert run(file, "revoke", id_of(first)).exit_code == 0
    assert [one["state"] for one in listed(file)] == ["revoked", "valid", "valid"]
    refused = run(file, "check", stdin=first)
    assert (refused.exit_code, "was revoked" in refused.stderr, first in refused.output) == (1, True, False)
    third = make(file, "--name", "shop", "--role", "view")
    assert "--yes" in run(file, "revoke", "shop").stderr, "two of them, and no terminal to ask at"
    assert run(file, "check", stdin=second).exit_code == 0
    assert run(file, "revoke", "shop", "--yes").exit_code == 0
    assert [run(file, "check", stdin=key).exit_code for key in (second, third, other)] == [1, 1, 0]
    assert run(file, "revoke", "shop", "--yes").exit_code == 3


def test_certificates_are_added_and_removed(file: Path):
    added = run(file, "new", "--name", "billing", "--role", "submit", "--certificate", "billing.internal")
    assert (added.exit_code, added.stdout) == (0, "")
    make(file, "--name", "billing", "--role", "submit")
    assert "billing.internal" in run(file, "list").stdout
    assert run(file, "new", "--name", "x", "--role", "view", "--certificate", "billing.internal").exit_code == 1, "it is somebody's"
    assert run(file, "revoke", "billing").exit_code == 1, "a key and a certificate, and no terminal to ask at"
    assert run(file, "revoke", "billing", "--yes").exit_code == 0
    assert json.loads(file.read_text())["certificates"] == []
    assert [one["state"] for one in listed(file)] == ["revoked"]


def test_a_key_that_does_not_count_is_refused_without_being_shown(file: Path):
    key = make(file, "--name", "shop", "--role", "view")
    mistyped = key[:-1] + ("a" if key[-1] != "a" else "b")
    for stdin, said in ((mistyped, "checksum"), ("", "mistyped"), ("secret words", "mistyped")):
        done = run(file, "check", stdin=stdin)
        assert done.exit_code == 1
        assert said in done.stderr
        assert not stdin or stdin not in done.output
    assert run(file, "check", key).exit_code == 2, "no argument takes a key"


def test_without_a_file_it_says_what_to_do(file: Path):
    for words in (["list"], ["revoke", "shop"], ["check"]):
        done = run(file, *words)
        assert done.exit_code == 3
        assert "sickbay keys new" in done.stderr


def test_the_command_sends_the_local_token(here: Path):
    with Fleet() as fleet:
        fleet.answers["ListJobs"] = jobs_pb.ListJobsResponse()
        assert fleet.run("jobs").exit_code == 0
        assert fleet.metadata[-1]["authorization"] == f"Bearer {LOCAL}"
        here.chmod(0o644)
        assert fleet.run("jobs").exit_code == 0
        assert "authorization" not in fleet.metadata[-1], "others could have written it"


def test_a_token_of_the_environment_comes_first_also_when_it_is_empty(here: Path, tmp_path: Path):
    (tmp_path / "mine").write_text("mine\n")
    (tmp_path / "empty").write_text("")
    with Fleet() as fleet:
        fleet.answers["ListJobs"] = jobs_pb.ListJobsResponse()
        for name, value, sent in (
            ("SICKBAY_TOKEN", "other", "Bearer other"),
            ("SICKBAY_TOKEN_FILE", str(tmp_path / "mine"), "Bearer mine"),
            ("SICKBAY_TOKEN_FILE", str(tmp_path / "empty"), None),
        ):
            assert fleet.run("jobs", **{name: value}).exit_code == 0
            assert fleet.metadata[-1].get("authorization") == sent
    assert here.exists()


def test_the_local_token_is_for_this_machine_alone(here: Path):
    for address in ("jobs.example.com:443", "10.0.0.1:50051", "localhost.evil.example:50051", "dns:localhost:50051"):
        assert local_token_file(address) is None
    for address in ("localhost:50051", "127.0.0.1:1", "[::1]:50051"):
        assert local_token_file(address) == here
    assert from_environment({}).transport.token_file == here
    assert from_environment({"SICKBAY_JOBAPI": "jobs.example.com:443"}).transport.token_file is None
    assert from_environment({"SICKBAY_CONTROL_PLANE": "plane.example.com:443"}).transport.token_file is None


def test_the_local_token_is_no_link(here: Path, tmp_path: Path):
    here.rename(tmp_path / "elsewhere")
    here.symlink_to(tmp_path / "elsewhere")
    assert local_token_file("localhost:50051") is None


def test_a_refused_call_says_where_the_token_was_from(here: Path):
    with Fleet() as fleet:
        fleet.answers["ListJobs"] = Fault(grpc.StatusCode.UNAUTHENTICATED, "the key has expired", "CREDENTIAL_EXPIRED")
        found = {said: fleet.run("jobs", **env) for said, env in ((".sickbay/token", {}), ("SICKBAY_TOKEN", {"SICKBAY_TOKEN": "s3cret"}))}
        here.unlink()
        found["SICKBAY_TOKEN_FILE or SICKBAY_TOKEN"] = fleet.run("jobs")
    for said, done in found.items():
        assert done.exit_code == 1
        assert "the key has expired" in done.stderr
        assert said in done.stderr
        assert "s3cret" not in done.output
        assert LOCAL not in done.output
