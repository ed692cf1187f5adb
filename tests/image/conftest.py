"""Builds the image once for its checks, unless SICKBAY_IMAGE names one that is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.image.container import Container, build
from tests.system.corner import Corner, own_corner


@pytest.fixture(scope="session", autouse=True)
def image() -> str:
    """Built from this tree, and known as TAG."""
    return build()


@pytest.fixture
def start() -> Iterator[Callable[..., Container]]:
    """Starts containers for one test."""
    started: list[Container] = []

    def launch(*words: str, **more) -> Container:
        started.append(Container(*words, **more))
        return started[-1]

    yield launch
    for container in started:
        container.remove()


@pytest.fixture
def corner() -> Iterator[Corner]:
    """Empty places on RabbitMQ, Redis and PostgreSQL."""
    with own_corner() as made:
        yield made
