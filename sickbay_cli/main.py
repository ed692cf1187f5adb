"""Entry point of the `sickbay` command: Ctrl-C prints no traceback, neither before modules are loaded nor at the end."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line of this process."""
    handles_sigint = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not if it is ignored, as with `nohup` and `&`
    if handles_sigint:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sickbay_cli.exit_codes import INTERRUPTED  # noqa: PLC0415 - takes a moment, in which Ctrl-C would print a traceback
    from sickbay_cli.program import cli  # noqa: PLC0415 - the same

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
