"""A tracer for one test, and a context that no other test has left anything in."""

import pytest
from opentelemetry.context import Context, attach, detach

from sickbay.telemetry.publish_traces import RUN
from tests.support.spans import Sent


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture(autouse=True)
def own_context():
    token, run = attach(Context()), RUN.set(None)
    yield
    RUN.reset(run)
    detach(token)
