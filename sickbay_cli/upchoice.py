"""Which handlers `sickbay up` runs if none are named: the demo's, unless the jobs may be real ones."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from sickbay.domain.program import WorkStream
from sickbay.runtime.settings import Settings
from worker.choice import DEMO, is_demo_alone, missing

ASK: Final = f"--handlers {DEMO}"
_CONFIG: Final = "--config "
"""How the note begins in a folder whose handlers are those of a settings file."""


def choose_handlers(settings: Settings, *, has_others: bool = False) -> str:
    """The modules to load; MissingSetting if the demo would simulate the jobs of a RabbitMQ that others may use, too.

    `has_others`: the settings file has handlers, or programs bring theirs, so there is no demo unless it is named.
    """
    if has_others:
        return settings.job_handlers
    if not settings.job_handlers and settings.rabbitmq_url is not None:
        raise missing("with RABBITMQ_URL, jobs may be real ones, and JOB_HANDLERS is not set", ASK)
    return settings.job_handlers or DEMO


def record_handlers(settings: Settings, folder: Path | None, *, has_others: bool = False) -> None:
    """Record in the data folder, which this process has locked, which handlers its jobs are for; nothing is recorded for the demo.

    Raises MissingSetting if no handlers are named and others than the demo's have run there: those jobs are real.
    """
    if folder is None:
        return
    known = _known(folder)
    if not settings.job_handlers and not has_others and known and settings.work_stream is WorkStream.OFF:
        whose = f"of the settings file ({known})" if known.startswith(_CONFIG) else f"{known} (--handlers {known})"
        raise missing(f"the jobs in {folder} belong to the handlers {whose}, and JOB_HANDLERS is not set", ASK)
    named = settings.job_handlers if not is_demo_alone(settings.job_handlers) else ""
    if named or has_others:
        with contextlib.suppress(OSError):  # the queue reports a disk that is full or read-only
            _note(folder).write_text(f"{named or f'{_CONFIG}{settings.sickbay_config}'}\n")
            _note(folder).chmod(0o600)


def _known(folder: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return _note(folder).read_text().strip()
    return ""


def _note(folder: Path) -> Path:
    return folder / "handlers"
