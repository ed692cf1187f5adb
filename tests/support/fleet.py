"""The distributed form: `python -m jobapi | worker | controlplane`, any number of each, as processes of their own on a corner."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from tests.support.process import Process

NAMES: Final = {"jobapi": "Job API", "worker": "Worker", "controlplane": "Control plane"}
_READY: Final = re.compile(r"ready: HTTP on port (\d+), gRPC on port (\d+)")


class Service(Process):
    """One process of one service on free ports, logging JSON."""

    def __init__(self, module: str, folder: Path, env: Mapping[str, str]) -> None:
        """Launch it; nothing is waited for."""
        self.module = module
        super().__init__([module], folder, {"LOG_FORMAT": "json", "PORT": "0", "GRPC_PORT": "0", "BIND_HOST": "127.0.0.1"} | dict(env))

    def ready(self) -> Self:
        """Wait until its servers have answered and it serves."""
        assert self.logged("ready: HTTP on port"), f"{self.module} did not start:\n{self.err.text}"
        return self

    @property
    def ports(self) -> tuple[int, int]:
        """HTTP and gRPC."""
        found = _READY.search(self.err.text)
        assert found, f"{self.module} is not ready:\n{self.err.text}"
        return int(found[1]), int(found[2])


class Fleet:
    """Services that share `env` (a corner's three URLs and whatever else) and `folder` (the handlers' home)."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        """Nothing is started yet."""
        self.folder = folder
        self.env = dict(env)
        self.services: dict[str, list[Service]] = defaultdict(list)

    def launch(self, module: str, count: int = 1, **env: str) -> list[Service]:
        """Start so many more of `jobapi`, `worker` or `controlplane`, with these variables on top; nothing is waited for."""
        new = [Service(module, self.folder, self.env | env) for _ in range(count)]
        self.services[module] += new
        return new

    def launch_all(self, *, workers: int, **env: str) -> Self:
        """A Job API, a control plane and so many workers, with these variables on top."""
        self.launch("controlplane", **env)
        self.launch("jobapi", **env)
        self.launch("worker", workers, **env)
        return self

    def ready(self) -> Self:
        """Wait until all of them serve."""
        for service in self._all:
            service.ready()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        """`stop`; whatever still runs then, or when the test has failed, is killed."""
        try:
            if failure is None:
                self.stop()
        finally:
            for service in self._all:
                if service.process.returncode is None:
                    service.kill()

    @property
    def workers(self) -> list[Service]:
        """The workers, in the order of their start."""
        return self.services["worker"]

    @property
    def ports(self) -> Mapping[str, tuple[int, int]]:
        """The HTTP and the gRPC port of the newest of each service, as `clients.Clients` wants them."""
        return {NAMES[module]: services[-1].ports for module, services in self.services.items() if services}

    def retire(self, service: Service) -> int:
        """It ended, or does now because it is killed: forget it; its exit code."""
        self.services[service.module].remove(service)
        if service.process.returncode is None:
            service.kill()
        service.close()
        return int(service.process.returncode)

    def stop(self) -> None:
        """The end of a test: all stop when asked, with exit code 0 and without having logged a fault."""
        for service in self._all:
            service.terminate()
        troubles = []
        for service in self._all:
            try:
                service.end_well()
            except (AssertionError, subprocess.TimeoutExpired) as error:
                told = json.dumps(service.faults) if service.faults else error
                troubles.append(f"{service.module} ended with {service.process.returncode}: {told}")
        assert not troubles, "\n".join(troubles)

    @property
    def _all(self) -> list[Service]:
        return [service for services in self.services.values() for service in services]
