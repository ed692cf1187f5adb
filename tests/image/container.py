"""One container of the image, seen through the engine: started as a careful operator would, without any right that it does not need."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from scripts import engine

PATIENCE_S: Final = 60.0
TAG: Final = "localhost/sickbay:test"
CONFINED: Final = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "host")
"""Nothing may be written, not even in /tmp; the host's network, because there the test servers are."""


class Container:
    """Running from the beginning; `remove` ends it."""

    def __init__(self, *words: str, image: str = TAG, env: Mapping[str, str] | None = None, options: Sequence[str] = ()) -> None:
        self.name = f"sickbay-test-{uuid.uuid4().hex[:8]}"
        variables = [word for key, value in (env or {}).items() for word in ("--env", f"{key}={value}")]
        engine.run("run", "--detach", "--name", self.name, *CONFINED, *nothing_writable(), *variables, *options, image, *words)

    def health(self) -> tuple[int, str]:
        """Exit code and words of the image's own health check, run as the engine runs it."""
        done = engine.run("exec", self.name, *health_check(), check=False)
        return done.returncode, done.stdout.strip()

    def healthy(self) -> Self:
        """Wait until it is."""
        deadline = time.monotonic() + PATIENCE_S
        while self.health()[0] != 0:
            assert time.monotonic() < deadline, f"{self.health()}\n{self.logs}"
            time.sleep(0.2)  # nothing announces it
        return self

    @property
    def logs(self) -> str:
        """Both of its streams."""
        done = engine.run("logs", self.name)
        return done.stdout + done.stderr

    def signal(self, name: str) -> None:
        """As `docker kill --signal`."""
        engine.run("kill", "--signal", name, self.name)

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return int(engine.run("wait", self.name, timeout=PATIENCE_S).stdout)

    def stop(self) -> int:
        """As `docker stop` with the grace that our files give; its exit code."""
        engine.run("stop", "--time", "50", self.name)
        return self.wait()

    def remove(self) -> None:
        """Whatever state it is in."""
        engine.run("rm", "--force", "--volumes", self.name)


def build() -> str:
    """The image of this tree under TAG, or the one that SICKBAY_IMAGE names."""
    given = os.environ.get("SICKBAY_IMAGE")
    if given:
        engine.run("tag", given, TAG)
    else:
        engine.build(TAG, arguments=("--build-arg", f"PYTHON_IMAGE={engine.base()}", "--build-arg", "VERSION=0.0.0-test"))
    return TAG


def nothing_writable() -> Sequence[str]:
    """Podman puts a writable /tmp into a read-only container unless it is told not to."""
    return ("--read-only-tmpfs=false",) if engine.name() == "podman" else ()


def inspect(image: str = TAG) -> dict[str, Any]:
    """The image's configuration."""
    (found,) = json.loads(engine.run("image", "inspect", image).stdout)
    configuration: dict[str, Any] = found
    return configuration


def health_check() -> list[str]:
    """The command of HEALTHCHECK."""
    told = inspect()
    test = (told.get("Healthcheck") or told["Config"]["Healthcheck"])["Test"]
    assert test[0] == "CMD"
    return list(test[1:])
