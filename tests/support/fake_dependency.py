"""The test's side of `clinic_handlers.py`: switch dependencies, open gates, and read which runs there were."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HANDLERS = Path(__file__).with_name("clinic_handlers.py")


@dataclass(frozen=True, slots=True)
class Run:
    """One line of the handlers' log; `at` in ms since the epoch, `what` is begin or done."""

    at: int
    pid: int
    job: str
    type: str
    generation: int
    attempt: int
    priority: str
    what: str


class Clinic:
    """A folder with the handlers in it, from which the product is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(HANDLERS, folder / HANDLERS.name)

    def break_down(self, job_type: str, code: str = "API_TIMEOUT") -> None:
        """Every run of the type fails with this code from now on."""
        (self.folder / f"{job_type}.down").write_text(code)

    def repair(self, job_type: str) -> None:
        """The type's dependency works again."""
        (self.folder / f"{job_type}.down").unlink()

    def make_gate(self, name: str) -> str:
        """What to write into a payload so that its run waits for `open_gate`."""
        os.mkfifo(self.folder / name)
        (self.folder / name).chmod(0o666)  # the handlers may run as another user
        return f"hold:{name}"

    def open_gate(self, name: str) -> None:
        """Let every run that waits there pass, and every later one."""
        (self.folder / f"{name}.open").touch()
        try:
            pipe = os.open(self.folder / name, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody waits
            return
        os.write(pipe, b"x")
        os.close(pipe)

    def runs(self, *, job_type: str = "", job_id: str = "", what: str = "begin") -> list[Run]:
        """The runs so far, in the order in which they began (or were done)."""
        log = self.folder / "runs.log"
        lines = [Run(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
        return [run for run in lines if run.what == what and job_type in {"", run.type} and job_id in {"", run.job}]

    def count(self, job_type: str) -> Counter[str]:
        """How often each job of a type ran."""
        return Counter(run.job for run in self.runs(job_type=job_type))
