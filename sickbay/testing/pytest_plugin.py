"""The fixture `sickbay_system`: put `pytest_plugins = ["sickbay.testing.pytest_plugin"]` into the conftest.py beside your tests' root.

It is no plugin that pytest finds by itself (`pytest11`): such a one would be imported at each start of pytest in every environment with
Sickbay in it, needed or not, and before coverage measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from sickbay.testing.system import Handlers, System, start_system


@pytest.fixture
def sickbay_handlers() -> Handlers:
    """Override it: the modules of the handlers, as in JOB_HANDLERS, or a list of functions."""
    raise pytest.UsageError(
        "sickbay_system needs handlers: define a fixture sickbay_handlers that returns their modules, or a list of them"
    )


@pytest.fixture
def sickbay_settings() -> Mapping[str, object]:
    """Override it: settings of this system, such as {"MAX_RETRIES": 1}; the environment is not read."""
    return {}


@pytest.fixture
def sickbay_system(sickbay_handlers: Handlers, sickbay_settings: Mapping[str, object]) -> Iterator[System]:
    """The product in memory, new for each test."""
    with start_system(sickbay_handlers, sickbay_settings) as system:
        yield system
