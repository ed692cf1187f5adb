"""Entry point of the `sickbay` command: Ctrl-C prints no traceback, neither before modules are loaded nor at the end."""

from __future__ import annotations

import signal
import sys
from typing import Final

OURS: Final = ("sickbay", "sickbay_cli", "jobapi", "worker", "controlplane")


def what_to_install(error: ModuleNotFoundError) -> str:
    """What to install for a module that is missing; raises the error again if it is one of ours."""
    name = (error.name or "").partition(".")[0]
    if name in OURS:
        raise error
    return f"the `sickbay` command and the services need more than the client library ({name} is missing): pip install 'sickbay[server]'"


def main() -> None:
    """Run the command line of this process."""
    handles_sigint = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not if it is ignored, as with `nohup` and `&`
    if handles_sigint:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from sickbay_cli.exit_codes import INTERRUPTED  # noqa: PLC0415 - takes a moment, in which Ctrl-C would print a traceback
        from sickbay_cli.program import cli  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        sys.exit(f"Error: {what_to_install(error)}")

    code: int | str | None = INTERRUPTED
    try:
        if handles_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        cli(prog_name="sickbay")
    except KeyboardInterrupt:  # while a module was being loaded
        pass
    except SystemExit as end:
        code = end.code
    if handles_sigint:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)
