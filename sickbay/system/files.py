"""How many files (and so connections) this process may open at a time: as many as the system lets us raise the limit to."""

from __future__ import annotations

import contextlib
import logging
import resource
from typing import Final

ENOUGH: Final = 65_536
"""More is never used, and a program that a handler starts may close every file it could have, one by one."""
LOW: Final = 4_096

log = logging.getLogger("sickbay")


def raise_file_limit() -> int:
    """Raise the soft limit to the hard one, at most to `ENOUGH`, and tell what may be open now; a low limit is said in the log."""
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
