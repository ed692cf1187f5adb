"""Turns whatever SQLAlchemy and the drivers raise into `Unavailable`, in our own words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from sickbay.errors import Unavailable

SENTENCE = "the ledger does not answer; nothing is lost, try again later"


@contextmanager
def translated() -> Iterator[None]:
    """Raise Unavailable for every failure of the database; the cause stays attached for the log."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise Unavailable(SENTENCE) from error
