"""Both clients, and a server that answers as the test says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cli_services import Fleet
from tests.support.client_pair import IDS, PAIRS, BlockingPair, Sleeps


@pytest.fixture(params=PAIRS, ids=IDS)
def kind(request) -> type[BlockingPair]:
    return request.param


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet() as started:
        yield started


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
def client(kind, fleet, sleeps) -> Iterator[BlockingPair]:
    with kind(fleet.address, control_plane=fleet.address, sleeps=sleeps) as pair:
        yield pair
