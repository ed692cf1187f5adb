"""Which handlers `sickbay up` runs if none are named: the demo's, unless the jobs may be real ones."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from sickbay.domain.program import WorkStream
from sickbay.runtime.settings import Settings
from worker.choice import DEMO, is_demo_alone, missing

ASK: Final = f"--handlers {DEMO}"


def choose_handlers(settings: Settings) -> str:
    """The modules to load, none if programs bring the handlers.

    MissingSetting if the demo would simulate the jobs of a RabbitMQ that others may use, too.
    """
    if settings.work_stream is not WorkStream.OFF:
        return settings.job_handlers
    if not settings.job_handlers and settings.rabbitmq_url is not None:
        raise missing("with RABBITMQ_URL, jobs may be real ones, and JOB_HANDLERS is not set", ASK)
    return settings.job_handlers or DEMO


def record_handlers(settings: Settings, folder: Path | None) -> None:
    """Record in the data folder, which this process has locked, which handlers its jobs are for; nothing is recorded for the demo.

    Raises MissingSetting if no handlers are named and others than the demo's have run there: those jobs are real.
    """
    if folder is None:
        return
    known = _known(folder)
    if not settings.job_handlers and known and settings.work_stream is WorkStream.OFF:
        raise missing(f"the jobs in {folder} belong to the handlers {known} (--handlers {known}), and JOB_HANDLERS is not set", ASK)
    if settings.job_handlers and not is_demo_alone(settings.job_handlers):
        with contextlib.suppress(OSError):  # the queue reports a disk that is full or read-only
            _note(folder).write_text(f"{settings.job_handlers}\n")
            _note(folder).chmod(0o600)


def _known(folder: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return _note(folder).read_text().strip()
    return ""


def _note(folder: Path) -> Path:
    return folder / "handlers"
