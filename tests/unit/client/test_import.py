"""What a program gets that imports the client: little."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires

import pytest

FORBIDDEN = {
    *("sickbay.server", "sickbay.messages", "sickbay.adapters", "sickbay.telemetry", "sickbay.runtime", "sickbay.ports", "sickbay.breaker"),
    *("fastapi", "starlette", "uvicorn", "pydantic", "msgspec", "sqlalchemy", "aiosqlite", "asyncpg", "alembic", "redis", "aio_pika"),
    *("aiormq", "uvloop", "prometheus_client", "opentelemetry", "structlog", "click", "rich", "grpc_status"),
}


@pytest.mark.parametrize(("module", "allowed"), [("sickbay", set()), ("sickbay.client", {"grpc", "google"}), ("sickbay.testing", set())])
def test_the_import_loads_neither_services_nor_drivers(module, allowed):
    script = f"import {module}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert [name for name in loaded if any(name == one or name.startswith(f"{one}.") for one in FORBIDDEN)] == []
    assert allowed <= set(loaded)
    assert {"grpc", "google"} & set(loaded) == allowed


def test_a_bare_install_has_three_packages_of_others():
    """What `import sickbay.client` loads besides, grpc itself looks for: it is there because tests have more installed."""
    needed = {re.split(r"[<>=;\[ ]", need)[0] for need in requires("sickbay") or () if "extra" not in need}
    assert needed == {"grpcio", "googleapis-common-protos", "protobuf"}
    script = "import sickbay.client, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    others = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    looked_for = {"grpc_health", "grpc_reflection", "grpc_tools", "grpc_admin", "typing_extensions", "cython_runtime"}
    assert {name for name in others - looked_for if not name.startswith(("_", "sickbay"))} == {"grpc", "google"}


def test_all_that_is_exported_is_there():
    import sickbay.client

    assert [name for name in sickbay.client.__all__ if not hasattr(sickbay.client, name)] == []
