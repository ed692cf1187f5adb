"""The recipes for web frameworks (docs/recipes.md): their own tests pass, and they work with the running product."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.outbox_databases import DATABASES, OutboxDatabase, outbox_database
from tests.support.plain_http import NO_TLS
from tests.support.process import Lines, Process
from tests.support.system_under_test import Product
from tests.support.waiting import until

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
PREFORK: Final = Path(__file__).parents[1] / "support" / "prefork.py"
ENV: Final = {"LOG_FORMAT": "json"}
DRIVERS: Final = {
    "django": {"sqlite": "", "postgresql": "postgresql"},
    "flask": {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"},
    "fastapi": {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"},
}
"""How the example's SHOP_DATABASE_URL names a database; Django's has SQLite without one."""
OWN_TESTS: Final = {
    "django": ["manage.py", "test", "--noinput"],
    "flask": ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
    "fastapi": ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
}
SERVERS: Final = {
    "django": [str(PREFORK), "shop.wsgi:application"],
    "flask": [str(PREFORK), "shop:create_app()"],
    "fastapi": ["-m", "uvicorn", "shop:app", "--port", "0"],
}


@pytest.fixture(params=DRIVERS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(framework: str, tmp_path: Path) -> Path:
    return shutil.copytree(EXAMPLES / framework, tmp_path / framework, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutboxDatabase]:
    with outbox_database(request.param, tmp_path) as made:
        for table in ("sickbay_outbox", "orders"):  # the example makes its own
            made.sql(f"DROP TABLE {table}")
        yield made


def variables(framework: str, database: OutboxDatabase, folder: Path) -> dict[str, str]:
    """What the example's programs read."""
    driver = DRIVERS[framework][database.dialect]
    return {"SHOP_DATABASE_URL": database.url.replace(database.dialect, driver, 1)} if driver else {}


@contextmanager
def serving(words: Sequence[str], folder: Path, env: dict[str, str]) -> Iterator[list[str]]:
    """A web server; yields the ports of its processes."""
    command = [sys.executable, *words]
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    out, err = Lines(process.stdout), Lines(process.stderr)
    try:
        if "uvicorn" in words:
            line = err.wait_for(lambda line: "running on" in line)
            assert line, err.text
            yield re.findall(r"running on http://127.0.0.1:(\d+)", line)
        else:
            ended = out.wait_for(lambda _: len(out.text.splitlines()) == 2) is None
            assert not ended, err.text
            yield out.text.split()
    finally:
        process.stdin.close()
        if "uvicorn" in words:
            process.terminate()
        process.wait(30)
        out.close()
        err.close()
        assert "Traceback" not in err.text


def test_its_own_tests_pass(framework: str, folder: Path, database: OutboxDatabase):
    env = os.environ | variables(framework, database, folder)
    ran = subprocess.run([sys.executable, *OWN_TESTS[framework]], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"4 passed|Ran 5 tests", ran.stdout + ran.stderr)


def test_orders_are_invoiced_by_jobs(framework: str, folder: Path, database: OutboxDatabase, start: Callable[..., Product]):
    """A web server of two forked processes, a relay, and `sickbay up` with the handlers."""
    env = variables(framework, database, folder)
    if framework == "django":
        subprocess.run([sys.executable, "manage.py", "migrate"], cwd=folder, env=os.environ | env, check=True, capture_output=True)
    product = start(folder, ENV | env, options=["--handlers", "handlers"]).ready()
    api = f"127.0.0.1:{product.ports['Job API'][1]}"
    env["SICKBAY_JOBAPI"] = api
    with Clients(product) as sickbay, serving(SERVERS[framework], folder, env) as ports, relaying(framework, folder, database, api):
        for port in ports:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=NO_TLS, timeout=30) as web:
                order = web.post("/orders", json={"name": "Ada"}).json()["order"]
                until(lambda web=web, order=order: web.get(f"/orders/{order}").json()["invoice"] == 1_000 + order)
                job = web.post("/reports", json={}).json()["job"]
                sickbay.wait(job, "SUCCEEDED")
                assert web.get(f"/jobs/{job}").json() == {"state": "SUCCEEDED", "result": {"invoiced": order}}
    product.stop()


@contextmanager
def relaying(framework: str, folder: Path, database: OutboxDatabase, api: str) -> Iterator[None]:
    """A relay as a process of its own; the app with FastAPI has one within."""
    if framework == "fastapi":
        yield
        return
    here = f"sqlite:///{folder}/shop.sqlite3" if framework == "django" and database.dialect == "sqlite" else database.url
    words = ["sickbay_cli", "outbox", "relay", "--jobapi", api, "--poll", "100ms"]
    relay = Process(words, folder, {"SICKBAY_OUTBOX_DATABASE_URL": here, "LOG_FORMAT": "json"})
    try:
        yield
    finally:
        relay.stop()
