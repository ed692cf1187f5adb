"""Runs a command with `prometheus` and its `promtool` on the machine: `promtool.py COMMAND...`; Debian has them, installed if we may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def main() -> int:
    """Provide, then run; the command's exit code."""
    if not (shutil.which("promtool") and shutil.which("prometheus")) and shutil.which("apt-get") and os.geteuid() == 0:
        print("tools: installing prometheus and promtool", file=sys.stderr, flush=True)
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "prometheus"]):
            subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return subprocess.run(sys.argv[1:], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
