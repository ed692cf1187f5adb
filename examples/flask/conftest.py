"""The tests have a database of their own, and the product in memory."""

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("SHOP_DATABASE_URL", f"sqlite:///{tempfile.mkdtemp()}/test.sqlite3")  # before `handlers` makes its app

from handlers import app
from shop import Base, create_app
from sqlalchemy.orm import Session

from sickbay.testing import System

pytest_plugins = ["sickbay.testing.pytest_plugin"]


@pytest.fixture
def session() -> Iterator[Session]:
    """Of a database with empty tables."""
    engine = app.extensions["database"]
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as made:
        yield made


@pytest.fixture
def sickbay_handlers() -> str:
    """The modules of the handlers."""
    return "handlers"


@pytest.fixture
def web(session: Session, sickbay_system: System) -> Any:
    """Flask's test client, for an app that calls the product in memory."""
    made = create_app(client=sickbay_system.client)
    yield made.test_client()
    made.extensions["database"].dispose()
