"""What several contract suites need: who signs certificates, and patience with a Redis that is there."""

import pytest

from tests.support.tls_servers import Authority, public_authority


@pytest.fixture(scope="module")
def authority():
    """The one that the servers' certificates are of; servers may read its folder and live in it."""
    with public_authority() as made:
        yield made


@pytest.fixture
def stranger(tmp_path):
    """One that no server knows."""
    return Authority(tmp_path)


@pytest.fixture
def patience(monkeypatch):
    """On a busy machine Redis may answer late; what happens then is for the tests of a Redis that is away."""
    monkeypatch.setattr("sickbay.adapters.redis.client.TIMEOUT_S", 20.0)
