"""Stand-ins for what GitHub's runners have and this machine may not: the actions of others, and the programs that workflows call.

An action that is not known here does nothing but say so. Programs that would reach a registry, a cluster or GitHub note what they were
asked, and refuse what nobody could answer; `sudo` and `pipx` really run their command.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
ACTIONS: Final = {
    "actions/setup-python": ("python-version", 'test -x "$TOOLS/python-$INPUT/python3" && echo "$TOOLS/python-$INPUT" >>"$GITHUB_PATH"'),
    "docker/build-push-action": ("tags", '"$SICKBAY_PYTHON" -m scripts.engine build "$INPUT"'),
    "aquasecurity/trivy-action": ("output", 'echo "{}" >"$INPUT"'),
}
"""What the real ones leave behind for the steps after them: one input, one command."""
PROGRAMS: Final = {
    "sudo": 'test "$1" = -E && shift; exec "$@"',
    "pipx": """test "$1 $2" = "run --spec" || exit 1
"$SICKBAY_PYTHON" -m venv "$TOOLS/pipx" && "$TOOLS/pipx/bin/pip" install --quiet "$3" || exit 1
shift 3; program=$1; shift; exec "$TOOLS/pipx/bin/$program" "$@" """,
    "docker": 'case $1 in tag | push) echo "docker $*" >>"$TOOLS/asked" ;; *) exit 1 ;; esac',
    "gh": """echo "gh $*" >>"$TOOLS/asked"
for word in "$@"; do case $word in *.whl | *.md) test -s "$word" || exit 1 ;; esac; done""",
    "kubectl": """test -s "$KUBECONFIG" || exit 1
echo "kubectl $*" >>"$TOOLS/asked"
for word in "$@"; do case $word in *.yaml)
  test -s "$word" || exit 1
  if grep -nE "CHANGE_ME|YOUR_" "$word"; then exit 1; fi ;;
esac; done
case "$*" in
  "create secret"*) touch "$TOOLS/seed" ;;
  "get secret"*) test -f "$TOOLS/seed" && echo c2VlZA== ;;
  "port-forward svc/job-api 3000:3000") exec "$(dirname "$SICKBAY_PYTHON")/sickbay" up --ephemeral ;;
  port-forward*) exec sleep 120 ;;
esac""",
}
"""By name, a script; the cluster's services are a Sickbay of this machine, for as long as somebody forwards to the Job API."""
IF_MISSING: Final = ("sudo", "pipx")


def actions(folder: Path, used: Mapping[str, set[str]]) -> list[str]:
    """Options that make act use stand-ins for `used`: repository and commit, with the folders in it that are actions."""
    options = []
    for number, (repository, parts) in enumerate(sorted(used.items())):
        wanted, command = ACTIONS.get(repository.partition("@")[0], ("", "true"))
        for part in parts:
            made = folder / str(number) / part / "action.yml"
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(json.dumps(_action(repository.partition("@")[0], wanted, command)))
        options += ["--local-repository", f"{repository}={folder / str(number)}"]
    return options


def _action(name: str, wanted: str, command: str) -> Mapping[str, object]:
    """A composite action; JSON is YAML, too."""
    environment = {"INPUT": f"${{{{ inputs.{wanted} }}}}"} if wanted else {}
    step = {"shell": "bash", "run": f"echo 'stand-in for {name}'\n{command}", "env": environment}
    inputs = {wanted: {"description": "the one that matters here", "required": True}} if wanted else {}
    return {"name": name, "description": "stand-in", "inputs": inputs, "runs": {"using": "composite", "steps": [step]}}


def programs(folder: Path) -> None:
    """The programs, and a folder for each Python that this machine has."""
    for name, script in PROGRAMS.items():
        if name not in IF_MISSING or shutil.which(name) is None:
            made = folder / "bin" / name
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(f"#!/bin/sh\n{script}\n")
            made.chmod(0o755)
    for version in ("3.11", "3.12", "3.13"):
        if found := _python(version):
            links = folder / f"python-{version}"
            links.mkdir()
            (links / "python3").symlink_to(found)
            (links / "python").symlink_to(found)
            print(f"workflows: Python {version} is {found}", flush=True)
        else:
            print(f"workflows: there is no Python {version} here, so jobs that want it fail", flush=True)


def _python(version: str) -> Path | None:
    """Where a Python of this version is, also one that pyenv keeps; a command that is there may be pyenv's and refuse to run."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for command in (sys.executable, f"python{version}", *map(str, kept)):
        asked = [command, "-c", "import sys; print(sys._base_executable, '%d.%d' % sys.version_info[:2])"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        path, _, found = done.stdout.strip().rpartition(" ")
        if done.returncode == 0 and found == version:
            return Path(path)
    return None
