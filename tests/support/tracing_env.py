"""A system that sends its spans to a receiver in the tests, embedded and on real servers, and a client with a trace of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.otlp_sink import Receiver
from tests.support.process import Process
from tests.system.conftest import QUICK

ENV = QUICK | {"JOB_HANDLERS": "clinic_handlers,traced_handlers"}
API, WORKER, PLANE = "sickbay-jobapi", "sickbay-worker", "sickbay-controlplane"


class Scene(NamedTuple):
    """A running system that sends its spans to `receiver`."""

    clients: Clients
    clinic: Clinic
    receiver: Receiver
    workers: list[Process]
    system: str


def traced_clinic(folder: Path) -> Clinic:
    shutil.copy(Path(__file__).with_name("traced_handlers.py"), folder / "traced_handlers.py")
    return Clinic(folder)


class Caller(NamedTuple):
    """A client's own span."""

    trace: str
    id: str

    @classmethod
    def new(cls):
        return cls(token_hex(16), token_hex(8))

    @property
    def headers(self):
        return {"traceparent": f"00-{self.trace}-{self.id}-01", "tracestate": "acme=1"}
