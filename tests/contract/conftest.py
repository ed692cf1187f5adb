"""Who signs certificates, for the tests of servers that speak TLS."""

import pytest

from tests.contract.tls_servers import Authority, public_authority


@pytest.fixture(scope="module")
def authority():
    """The one that the servers' certificates are of; servers may read its folder and live in it."""
    with public_authority() as made:
        yield made


@pytest.fixture
def stranger(tmp_path):
    """One that no server knows."""
    return Authority(tmp_path)
