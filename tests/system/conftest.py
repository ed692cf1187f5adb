"""Starts the product for the system tests: one shared run for tests that keep to job types of their own, and own runs for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.clients import Clients, HasPorts
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner, own_corner
from tests.support.system_under_test import Product

QUICK = {
    "JOB_HANDLERS": "clinic_handlers",
    "COOLDOWN_PERIOD": "1.5",
    "RETRY_DELAY_MS": "300",
    "UNKNOWN_TYPE_GRACE": "3",
    "LOG_FORMAT": "json",
}
"""Short waits, so that tests are quick; everything else as documented."""

Start = Callable[..., Product]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--stack=compose` runs the tests of the shared product on docker-compose.yml."""
    parser.addoption("--stack", choices=("embedded", "compose"), default="embedded", help="What the shared product is.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another stack than our own process only what asks for the shared product can run."""
    if config.getoption("--stack") == "embedded":
        return
    other = [item for item in items if "shared_product" not in getattr(item, "fixturenames", ()) or "embedded" in item.keywords]
    config.hook.pytest_deselected(items=other)
    items[:] = [item for item in items if item not in other]


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    """The handlers of the shared product."""
    return Clinic(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def shared_product(clinic: Clinic, request: pytest.FixtureRequest) -> Iterator[HasPorts]:
    """One product for all tests that keep to their own job types."""
    if request.config.getoption("--stack") == "compose":
        from tests.image.compose import Stack, shareable

        with Stack(shareable(clinic.folder), {name: value for name, value in QUICK.items() if name != "LOG_FORMAT"}) as stack:
            yield stack
            assert stack.faults == []
        return
    product = Product(clinic.folder, QUICK)
    try:
        yield product.ready()
    finally:
        product.stop()


@pytest.fixture(scope="session")
def sickbay(shared_product: HasPorts) -> Iterator[Clients]:
    """Clients of the shared product."""
    with Clients(shared_product) as clients:
        yield clients


@pytest.fixture
def own_clinic(tmp_path: Path) -> Clinic:
    """Handlers for a product of the test's own."""
    return Clinic(tmp_path)


@pytest.fixture
def start() -> Iterator[Start]:
    """Launches products for one test, and stops at its end those that still run."""
    launched: list[Product] = []

    def launch(folder: Path, env: Mapping[str, str] = QUICK, options: Sequence[str] = ()) -> Product:
        launched.append(Product(folder, env, options))
        return launched[-1]

    yield launch
    for product in launched:
        product.stop()


@pytest.fixture
def corner() -> Iterator[Corner]:
    """Empty places on RabbitMQ, Redis and PostgreSQL for one test, which carries the marker `servers`."""
    with own_corner() as made:
        yield made


@pytest.fixture
def fleet(own_clinic: Clinic, corner: Corner) -> Iterator[Fleet]:
    """A distributed system for one test, with nothing started yet; what runs at the end is stopped."""
    with Fleet(own_clinic.folder, QUICK | dict(corner.env)) as made:
        yield made
