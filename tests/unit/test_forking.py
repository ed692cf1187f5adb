"""Which processes of the product the tests fork, which they execute, and when they import it themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sickbay.runtime.settings import describe_settings
from tests.support.forked import can_fork


def test_settings_of_the_product_are_read_at_each_start():
    assert can_fork(os.environ | dict.fromkeys(describe_settings(), "0")), "GRPC_PORT is none of gRPC's own"


@pytest.mark.parametrize("name", ["GRPC_DNS_RESOLVER", "PYTHONHASHSEED", "SSL_CERT_FILE", "TZ"])
def test_what_is_read_while_python_is_loaded_needs_a_new_one(name: str):
    assert not can_fork(os.environ | {name: "another"})


@pytest.mark.executed
def test_tests_of_starts_execute():
    assert not can_fork(os.environ)


def test_what_pytest_loads_first_imports_nothing_of_the_product():
    """Processes of the tests measure coverage only afterwards: lines of modules that are imported then would count as not covered."""
    code = "import sys, tests.conftest; print(*(name for name in sys.modules if name.partition('.')[0] in {'sickbay', 'jobapi', 'worker'}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
