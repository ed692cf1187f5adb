"""AUTH=required, from outside: nothing but health answers without a credential, and no credential is ever told to anybody."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import grpc
import httpx
import pytest
from click.testing import CliRunner, Result
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from sickbay.breakers.v1.breaker_service_pb2 import WatchBreakersRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.client.errors import fault_of_call
from sickbay.contract.access import HEALTH_PATHS, RULES
from sickbay.domain.api_key import hash_key, id_of, make_key
from sickbay_cli.program import cli
from tests.support.otlp_sink import Receiver
from tests.support.plain_http import NO_TLS
from tests.support.system_under_test import Product
from tests.support.waiting import until
from tests.system.conftest import Start

DOORS = ("Job API", "Worker", "Control plane")
HEALTH = "grpc.health.v1.Health"


class Locked:
    """`sickbay up` with AUTH=required, its traces, and every answer that the tests have got from it."""

    def __init__(self, folder: Path, sink: Receiver, product: Product) -> None:
        self.folder, self.sink, self.product = folder, sink, product
        self.file = folder / "keys.json"
        self.token = (folder / ".sickbay" / "token").read_text().strip()
        self.secrets = {self.token}
        self.answers: list[str] = []

    def rest(self, door: str, method: str, path: str, *, bearer: str = "", **more: Any) -> httpx.Response:
        """One request."""
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        url = f"http://127.0.0.1:{self.product.ports[door][0]}{path}"
        answer = httpx.request(method, url, headers=headers | more.pop("headers", {}), verify=NO_TLS, timeout=30, **more)
        self.answers.append(f"{answer.headers}{answer.text}")
        return answer

    @contextmanager
    def channel(self, door: str) -> Iterator[grpc.Channel]:
        """To a gRPC port."""
        with grpc.insecure_channel(f"127.0.0.1:{self.product.ports[door][1]}") as opened:
            yield opened

    def keys(self, *words: str, stdin: str = "") -> Result:
        """`sickbay keys` on the file of the product."""
        done = CliRunner().invoke(cli, ["keys", *words], input=stdin, env={"API_KEYS_FILE": str(self.file)}, catch_exceptions=False)
        self.answers.append(done.stderr)
        return done

    def key(self, *words: str) -> str:
        """A new one, when it counts."""
        made = self.keys("new", *words)
        assert made.exit_code == 0, made.stderr
        key = made.stdout.strip()
        self.secrets.add(key)
        until(lambda: self.rest("Job API", "GET", "/nothing", bearer=key).status_code == 404)
        return key

    def command(self, *words: str, **env: str) -> Result:
        """The `sickbay` command in the working folder, with the addresses of the product."""
        names = zip(("SICKBAY_JOBAPI", "SICKBAY_WORKER", "SICKBAY_CONTROL_PLANE"), DOORS, strict=True)
        addresses = {name: f"127.0.0.1:{self.product.ports[door][1]}" for name, door in names}
        done = CliRunner().invoke(cli, words, env=addresses | env, catch_exceptions=False)
        self.answers.append(done.output)
        return done


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """One product for all tests here."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "keys.json").write_text("{}")
    (folder / "keys.json").chmod(0o600)
    with Receiver() as sink:
        env = {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG", "AUTH": "required", "API_KEYS_FILE": "keys.json", **sink.env}
        product = Product(folder, env, ["--data", ".sickbay"]).ready()
        try:
            yield Locked(folder, sink, product)
        finally:
            product.stop()


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token of the environment, and none of the working folder."""
    for name in ("SICKBAY_TOKEN", "SICKBAY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def routes(locked: Locked, door: str) -> Sequence[tuple[str, str]]:
    """Method and path of all routes, with something for each parameter; and what the document does not list."""
    document = locked.rest(door, "GET", "/openapi.json", bearer=locked.token).json()
    found = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    assert len(found) > 3
    more = [("GET", path) for path in ("/", "/docs", "/openapi.json", "/metrics", "/nothing")]
    return [(method, path.replace("{", "").replace("}", "")) for method, path in [*found, *more]]


def wrong_credentials(locked: Locked) -> Mapping[str, Mapping[str, str]]:
    """Headers by what is wrong with them."""
    unknown, _ = make_key()
    mistyped = unknown[:-1] + ("a" if unknown[-1] != "a" else "b")
    other_token = locked.token[:-1] + ("a" if locked.token[-1] != "a" else "b")
    locked.secrets |= {unknown, mistyped, other_token}
    bearers = {"unknown": unknown, "mistyped": mistyped, "other token": other_token, "garbage": "x", "of another kind": "a.b.c"}
    return {
        "none": {},
        "basic": {"authorization": "Basic YWRtaW46YWRtaW4="},
        **{name: {"authorization": f"Bearer {value}"} for name, value in bearers.items()},
    }


@pytest.mark.parametrize("door", DOORS)
def test_no_route_but_health_answers_without_a_credential(locked: Locked, door: str):
    for method, path in routes(locked, door):
        for wrong, headers in wrong_credentials(locked).items():
            answer = locked.rest(door, method, path, headers=headers)
            if path in HEALTH_PATHS:
                assert answer.status_code == 200, (method, path, wrong)
            else:
                told = "Bearer" if wrong == "none" else 'Bearer error="invalid_token"'
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, told), (method, path, wrong)


@pytest.mark.parametrize("door", DOORS)
def test_no_rpc_but_health_answers_without_a_credential(locked: Locked, door: str):
    """All that reflection tells of, and what it does not: the whole contract, at each port."""
    with locked.channel(door) as opened:
        with_token = grpc.intercept_channel(opened, Bearer(locked.token))
        reflected = ProtoReflectionDescriptorDatabase(with_token)
        pool, methods = DescriptorPool(reflected), set()
        for service in reflected.get_services():
            methods |= {f"/{service}/{one.name}" for one in pool.FindServiceByName(service).methods}
        assert methods & set(RULES)
        methods |= {*RULES, "/sickbay.jobs.v1.JobService/Nothing", "/other.Service/Nothing"}
        for wrong, headers in wrong_credentials(locked).items():
            for method in sorted(methods):
                if HEALTH in method:
                    continue
                call = opened.stream_stream(method)(iter([b""]), metadata=tuple(headers.items()), timeout=30)
                with pytest.raises(grpc.RpcError) as refused:
                    next(call)
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, (method, wrong)
                locked.answers.append(str(refused.value))
            answer = HealthStub(opened).Check(HealthCheckRequest(), metadata=tuple(headers.items()), timeout=30)
            assert answer.status == HealthCheckResponse.SERVING, wrong


class Bearer(grpc.StreamStreamClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sends a token with each call."""

    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(client_call_details._replace(metadata=self._metadata), request_iterator)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details._replace(metadata=self._metadata), request)


COMMANDS = (
    ("jobs",),
    ("breakers",),
    ("metrics",),
    ("workers",),
    ("types",),
    ("incidents",),
    ("quarantine", "list"),
    ("submit", "email", '{"to": "ada@example.com"}'),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_command_finds_the_token_in_its_working_folder_only(locked: Locked, words: Sequence[str], monkeypatch: pytest.MonkeyPatch):
    refused = locked.command(*words)
    assert refused.exit_code == 1, refused.output
    assert "SICKBAY_TOKEN_FILE" in refused.stderr
    monkeypatch.chdir(locked.folder)
    assert locked.command(*words).exit_code == 0


def test_health_and_top_need_no_help(locked: Locked, monkeypatch: pytest.MonkeyPatch):
    assert locked.command("health").exit_code == 0
    monkeypatch.chdir(locked.folder)
    seen = locked.command("top", "--json", "--once")
    assert seen.exit_code == 0, seen.output
    assert "unauthenticated" not in seen.output.lower()


def test_a_key_may_what_its_role_may(locked: Locked, tmp_path: Path):
    key = locked.key("--name", "shop", "--role", "view")
    (tmp_path / "key").write_text(f"{key}\n")
    env = {"SICKBAY_TOKEN_FILE": str(tmp_path / "key")}
    assert locked.command("breakers", **env).exit_code == 0
    refused = locked.command("submit", "email", "{}", **env)
    assert refused.exit_code == 1
    assert "shop may not do that" in refused.stderr
    assert locked.rest("Job API", "POST", "/jobs", bearer=key, json={"jobType": "email", "payload": {}}).status_code == 403


def test_a_revoked_key_ends_its_streams_and_is_refused(locked: Locked):
    """A live watch over gRPC, and one over HTTP."""
    key, other = (locked.key("--name", name, "--role", "view") for name in ("watcher", "stays"))
    job = locked.rest("Job API", "POST", "/jobs", bearer=locked.token, json={"jobType": "ghost", "payload": {}}).json()["jobId"]
    assert locked.command("force-open", "ghost", SICKBAY_TOKEN=locked.token).exit_code == 0  # or a watch has nothing to say at first
    begun, ended = Event(), Event()

    def follow() -> None:
        url = f"http://127.0.0.1:{locked.product.ports['Job API'][0]}/jobs/{job}/events"
        with httpx.stream("GET", url, headers={"authorization": f"Bearer {key}"}, verify=NO_TLS, timeout=60) as events:
            for _ in events.iter_lines():
                begun.set()
        ended.set()

    following = Thread(target=follow, daemon=True)
    following.start()
    with locked.channel("Control plane") as opened:
        stub = BreakerServiceStub(opened)
        watch = stub.WatchBreakers(WatchBreakersRequest(), metadata=(("authorization", f"Bearer {key}"),))
        stays = stub.WatchBreakers(WatchBreakersRequest(), metadata=(("authorization", f"Bearer {other}"),))
        assert watch.initial_metadata() is not None
        assert begun.wait(60)
        assert locked.keys("revoke", id_of(key)).exit_code == 0
        revoked_at = time.monotonic()
        with pytest.raises(grpc.RpcError) as refused:
            for _ in watch:
                pass
        print(f"the stream ended {time.monotonic() - revoked_at:.2f} s after the key was revoked")  # noqa: T201 - for people
        fault = fault_of_call(refused.value)
        assert (fault.code, fault.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_EXPIRED")
        assert stays.is_active(), "only the streams of this key end"
        stays.cancel()
    assert ended.wait(60)
    answer = locked.rest("Control plane", "GET", "/breakers", bearer=key)
    assert (answer.status_code, answer.json()["reason"]) == (401, "CREDENTIAL_EXPIRED")
    checked = locked.keys("check", stdin=key)
    assert (checked.exit_code, "was revoked" in checked.stderr) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_cannot_read_the_token(locked: Locked):
    token = locked.folder / ".sickbay" / "token"
    assert [stat.S_IMODE(one.stat().st_mode) for one in (token, token.parent)] == [0o600, 0o700]
    for folder in locked.folder.parents:
        if folder.stat().st_uid == os.geteuid() and folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)  # or the test would show what pytest does
    locked.folder.chmod(0o755)
    seen = subprocess.run(["cat", locked.folder / "seen"], user=65_534, capture_output=True, text=True, check=False)
    assert "No such file" in seen.stderr, "it gets as far as the working folder"
    read = subprocess.run(["cat", token], user=65_534, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stdout) == (1, "")
    assert "Permission denied" in read.stderr


def test_no_secret_is_told_to_anybody(locked: Locked):
    """After calls with good, bad and revoked keys: no log, answer, trace or process list has a key, or the hash of one."""
    good = locked.key("--name", "till", "--role", "submit")
    gone = locked.key("--name", "till", "--role", "submit")
    assert locked.keys("revoke", id_of(gone)).exit_code == 0
    until(lambda: locked.rest("Job API", "GET", "/jobs", bearer=gone).status_code == 401)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for bearer in (good, gone, *locked.secrets):
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        locked.rest("Job API", "POST", "/jobs", bearer=bearer, headers=headers, json={"jobType": "email", "payload": {"to": "a@b.example"}})
    locked.sink.wait(trace=trace)
    arguments = [one.read_bytes().decode("utf-8", "replace") for one in Path("/proc").glob("[0-9]*/cmdline") if one.exists()]
    told = {
        "log": locked.product.err.text,
        "output": locked.product.out.text,
        "answers": "\n".join(locked.answers),
        "traces": "\n".join(raw.decode("latin-1") for raw in locked.sink.raw),
        "process list": "\n".join(arguments),
    }
    assert all(told.values())
    assert '"level": "debug"' in told["log"].lower(), "everything was logged"
    for secret in locked.secrets:
        for hidden in (secret, hash_key(secret)):
            assert [where for where, text in told.items() if hidden in text] == []


ANYWHERE = ("--host", "0.0.0.0")  # noqa: S104 - as in a container


def asked(product: Product, **headers: str) -> int:
    url = f"http://127.0.0.1:{product.ports['Control plane'][0]}/breakers"
    return httpx.get(url, headers=headers, verify=NO_TLS, timeout=30).status_code


def test_up_opens_itself_to_others_only_when_told_to(start: Start, tmp_path: Path):
    product = start(tmp_path, {"LOG_FORMAT": "json"}, ANYWHERE).ready()
    token = (tmp_path / "data" / "token").read_text().strip()
    assert asked(product) == 401
    assert asked(product, authorization=f"Bearer {token}") == 200
    assert '-H "Authorization: Bearer $(cat data/token)"' in product.out.text
    product.stop()
    assert "no access control" not in product.err.text
    again = start(tmp_path, {"LOG_FORMAT": "json", "AUTH": "off"}, ANYWHERE).ready()
    assert asked(again) == 200
    assert again.logged("no access control") is not None
    again.stop()
    kept = start(tmp_path, {"LOG_FORMAT": "json", "AUTH": "required"}).ready()
    assert asked(kept, authorization=f"Bearer {token}") == 200, "the token is kept"


def test_without_a_folder_up_says_who_may_call(tmp_path: Path):
    words = [sys.executable, "-m", "sickbay_cli", "up", *ANYWHERE, "--ephemeral"]
    env = {name: value for name, value in os.environ.items() if name not in {"AUTH", "API_KEYS_FILE"}}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "API_KEYS_FILE" in line
    assert "AUTH=off" in line


def test_on_loopback_nothing_changes(start: Start, tmp_path: Path):
    product = start(tmp_path, {"LOG_FORMAT": "json"}).ready()
    assert asked(product) == 200
    assert not (tmp_path / "data" / "token").exists()
    assert "Authorization" not in product.out.text
