"""The two forms of the system for the tests of traces, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.isolated_servers import own_corner
from tests.support.otlp_sink import Receiver
from tests.support.system_under_test import Product
from tests.support.tracing_env import ENV, Scene, traced_clinic


@pytest.fixture(scope="module", params=["embedded", pytest.param("fleet", marks=pytest.mark.servers)])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """`sickbay up`, and then a Job API, a control plane and two workers on real servers."""
    clinic = traced_clinic(tmp_path_factory.mktemp("traced"))
    with Receiver() as receiver:
        env = ENV | dict(receiver.env)
        if request.param == "embedded":
            product = Product(clinic.folder, env)
            try:
                with Clients(product.ready()) as clients:
                    yield Scene(clients, clinic, receiver, [product], "sickbay")
            finally:
                product.stop()
            return
        with own_corner() as corner:
            fleet = Fleet(clinic.folder, env | dict(corner.env))
            try:
                with Clients(fleet.launch_all(workers=2).ready()) as clients:
                    yield Scene(clients, clinic, receiver, list(fleet.workers), "rabbitmq")
            finally:
                fleet.stop()
