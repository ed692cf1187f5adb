"""Which processes of the product the tests fork, and which they execute."""

from __future__ import annotations

import os

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
