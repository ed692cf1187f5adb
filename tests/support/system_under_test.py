"""Sickbay as a user starts it: `sickbay up` as a process of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.support.process import Process

PORTS: Final = (
    "--jobapi-port",
    "--jobapi-grpc-port",
    "--worker-port",
    "--worker-grpc-port",
    "--control-plane-port",
    "--control-plane-grpc-port",
)
_ROW: Final = re.compile(r"^ {2}(Job API|Worker|Control plane) +https?://localhost:(\d+) +gRPC localhost:(\d+) ")


class Product(Process):
    """One run of `sickbay up` in `folder`, with its data in `folder/data` and six free ports."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None, options: Sequence[str] = ()) -> None:
        """Launch it; nothing is waited for. `options` come last, so they win."""
        ports = [word for option in PORTS for word in (option, "0")]
        super().__init__(["sickbay_cli", "up", "--data", "data", *ports, *options], folder, env or {})

    def ready(self) -> Self:
        """Wait for the whole banner."""
        ended = self.out.wait_for(lambda line: line.startswith("Stop with Ctrl-C")) is None
        assert not ended, f"it did not start:\n{self.err.text}"
        return self

    @property
    def ports(self) -> Mapping[str, tuple[int, int]]:
        """The HTTP and the gRPC port of `Job API`, `Worker` and `Control plane`."""
        rows = filter(None, map(_ROW.match, self.out.text.splitlines()))
        return {row[1]: (int(row[2]), int(row[3])) for row in rows}
