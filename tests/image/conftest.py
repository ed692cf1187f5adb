"""Builds the image once for its checks, unless SICKBAY_IMAGE names one that is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.image.container import Container, build
from tests.system.conftest import corner

__all__ = ["corner", "image", "start"]


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
