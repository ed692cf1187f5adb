"""A start that cannot succeed ends at once, with one sentence that says what to change."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.system_under_test import Product

pytestmark = [pytest.mark.embedded, pytest.mark.executed]
CASES = {
    "taken HTTP port": ("port {port} is already in use", "--jobapi-port"),
    "taken gRPC port": ("port {port} is already in use", "--control-plane-grpc-port"),
    "bad variable": ("COOLDOWN_PERIOD", "abc"),
    "bad URL": ("REDIS_URL", "redis://"),
    "file instead of folder": ("data folder", "a file with this name exists"),
    "folder in use": ("data folder", "is in use by process"),
    "damaged ledger": ("damaged/ledger.db cannot be used: not a SQLite database, or corrupted", "restore it from a backup"),
    "damaged queue": ("queued/queue.db cannot be used: not a SQLite database, or corrupted", "restore it from a backup"),
    "no such module": ("JOB_HANDLERS", "no_such_module"),
}


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory, taken: int, shared_product: Product) -> Iterator[Mapping[str, Product]]:
    """All of them at once, for the sake of time; another process of the tests may look at some of its own."""
    folder = tmp_path_factory.mktemp("starts")
    (folder / "file").touch()
    for name, file in (("damaged", "ledger.db"), ("queued", "queue.db")):
        (folder / name).mkdir(0o700)
        (folder / name / file).write_bytes(b"no database" * 1_000)
    held = Path(f"/proc/{shared_product.process.pid}/cwd").resolve() / "data"
    all_at_once = {
        "taken HTTP port": Product(folder, options=["--ephemeral", "--jobapi-port", str(taken)]),
        "taken gRPC port": Product(folder, options=["--ephemeral", "--control-plane-grpc-port", str(taken)]),
        "bad variable": Product(folder, {"COOLDOWN_PERIOD": "abc"}),
        "bad URL": Product(folder, {"REDIS_URL": "http://user:hunter2@localhost"}),
        "file instead of folder": Product(folder, options=["--data", "file"]),
        "damaged ledger": Product(folder, options=["--data", "damaged"]),
        "damaged queue": Product(folder, options=["--data", "queued"]),
        "folder in use": Product(folder, options=["--data", str(held)]),
        "no such module": Product(folder, {"JOB_HANDLERS": "no_such_module"}),
    }
    yield all_at_once
    for product in all_at_once.values():
        if product.process.returncode is None:
            product.kill()


@pytest.mark.parametrize("case", CASES)
def test_a_start_that_cannot_succeed_says_why_in_one_sentence(case: str, attempts: Mapping[str, Product], taken: int):
    product = attempts[case]
    assert product.wait() != 0
    assert product.out.text == ""
    (line,) = product.err.text.splitlines()
    for part in CASES[case]:
        assert part.format(port=taken) in line
    for leak in ("Traceback", "Error(", "Errno", "hunter2", "sqlite", "pydantic"):
        assert leak not in line
