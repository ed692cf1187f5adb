"""The limit of open files (and thus connections) of this process, raised as far as the system permits."""

from __future__ import annotations

import contextlib
import logging
import resource
from typing import Final

ENOUGH: Final = 65_536
"""More is never used, and programs started by handlers may close every possible descriptor, one by one."""
LOW: Final = 4_096

log = logging.getLogger("sickbay")


def raise_file_limit() -> int:
    """Raise the soft limit to the hard one, at most to `ENOUGH`, and return the new limit; logs a warning if it is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    wanted = ENOUGH if hard == infinite else min(hard, ENOUGH)
    if soft != infinite and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    files = ENOUGH if soft == infinite else soft
    if files < LOW:
        log.warning(
            "the limit of open files is %d, so the ports accept few connections; raise the hard limit (ulimit -Hn) to %d", files, LOW
        )
    return files
