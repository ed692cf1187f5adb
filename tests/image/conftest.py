"""Builds the image once for its checks, unless SICKBAY_IMAGE names one that is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from scripts import engine
from tests.image.container import TAG, Container
from tests.system.corner import Corner, own_corner


@pytest.fixture(scope="session", autouse=True)
def image() -> str:
    """Built from this tree, and known as TAG."""
    given = os.environ.get("SICKBAY_IMAGE")
    if given:
        engine.run("tag", given, TAG)
    else:
        engine.build(TAG, arguments=("--build-arg", f"PYTHON_IMAGE={engine.base()}", "--build-arg", "VERSION=0.0.0-test"))
    return TAG


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
