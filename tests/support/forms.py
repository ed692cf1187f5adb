"""One system in either of its forms, with handlers from a file beside the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.isolated_servers import own_corner
from tests.support.process import Process
from tests.support.system_under_test import Product
from tests.support.waiting import until

BOTH: Final = ["embedded", pytest.param("fleet", marks=pytest.mark.servers)]
"""The parameters of a fixture that wants both."""


class System(NamedTuple):
    """A running system, the process in which its handlers run, their folder, and its processes if they are several."""

    clients: Clients
    worker: Process
    folder: Path
    fleet: Fleet | None = None

    def release(self) -> None:
        """Let every handler go on that waits for the file `release`."""
        (self.folder / "release").touch()

    def wait_for_note(self, what: str, times: int = 1) -> None:
        """Wait until handlers have written this line to `notes.txt` so often."""
        notes = self.folder / "notes.txt"
        until(lambda: notes.exists() and notes.read_text().splitlines().count(what) >= times)


@contextmanager
def running(form: str, handlers: str, folder: Path, env: Mapping[str, str]) -> Iterator[System]:
    """`sickbay up`, or three processes on real servers, with the handlers of `handlers.py`."""
    shutil.copy(Path(__file__).with_name(f"{handlers}.py"), folder)
    if form == "embedded":
        product = Product(folder, env)
        try:
            with Clients(product.ready()) as clients:
                yield System(clients, product, folder)
        finally:
            (folder / "release").touch()
            product.stop()
        return
    with own_corner() as corner, Fleet(folder, dict(env) | dict(corner.env)) as fleet:
        fleet.launch_all(workers=1).ready()
        with Clients(fleet) as clients:
            yield System(clients, fleet.workers[0], folder, fleet)
        (folder / "release").touch()
