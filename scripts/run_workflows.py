"""Runs .github/workflows on this machine with act: `run_workflows.py [WORKFLOW...]`, without Docker, GitHub, a registry or a cluster.

Everything is done in clones of the last commit in a temporary folder. Actions of others and programs that reach out are replaced:
`standin_actions.py`. What the workflows run themselves (`make setup`, lint, types, tests, the image, pip-audit, the release's notes and
wheel, the smoke test) runs for real, as root, since the jobs install packages; WORKFLOW_TESTS chooses the tests, by default a few.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import standin_actions
import yaml

ROOT: Final = Path(__file__).parent.parent
WORKFLOWS: Final = ROOT / ".github/workflows"
A_FEW: Final = "-k 'test_locks or test_release or (rabbitmq and test_topology) or test_it_says_what_it_is'"
RUNNER: Final = "ubuntu-24.04=-self-hosted"
MAIN: Final = {"ref": "refs/heads/main"}


@dataclass(frozen=True, slots=True)
class Run:
    """One call of act: a workflow, what happened on GitHub, and options."""

    workflow: str
    event: str
    payload: Mapping[str, Any]
    options: Sequence[str] = ()
    prepare: str = ""
    """What makes the clone the commit that it is about."""


_HUB: Final = ("-s", "DOCKERHUB_USERNAME=somebody", "-s", "DOCKERHUB_TOKEN=secret")
_RELEASE: Final = """
version=$(sed -n 's/^version = "\\(.*\\)"/\\1/p' pyproject.toml)
sed -i "s/^## \\[Unreleased\\]/## [$version] - 2026-01-01/" CHANGELOG.md
git -c user.name=act -c user.email=act commit -qam release
"""
_VERSION: Final = re.compile(r'^version = "(.*)"', re.MULTILINE)
RUNS: Final = (
    Run("ci-job-api", "push", MAIN, (*_HUB, "--matrix", "python:3.13")),
    Run("ci-worker", "pull_request", {}, ("--matrix", "python:3.12")),
    Run("ci-control-plane", "push", MAIN, (*_HUB, "--matrix", "python:3.11")),
    Run("contract", "pull_request", {"pull_request": {"base": {"ref": "main"}, "head": {"ref": "main"}}}),
    Run("release", "push", {"ref": "refs/tags/v" + _VERSION.findall((ROOT / "pyproject.toml").read_text())[0]}, prepare=_RELEASE),
    Run("cd", "workflow_dispatch", {"inputs": {"tag": "v1"}}, (*_HUB, "-s", "KUBECONFIG=a3ViZQ==")),
)


def main() -> int:
    """Run those that are named, else all; 1 if one failed."""
    unknown = set(sys.argv[1:]) - {run.workflow for run in RUNS}
    if unknown:
        sys.exit(f"no such workflow: {', '.join(sorted(unknown))}; there are {', '.join(run.workflow for run in RUNS)}")
    results = {}
    with tempfile.TemporaryDirectory(prefix="sickbay-workflows-", ignore_cleanup_errors=True) as folder:
        tools = Path(folder) / "tools"
        standin_actions.programs(tools)
        options = standin_actions.actions(Path(folder) / "actions", used())
        for run in RUNS:
            if not sys.argv[1:] or run.workflow in sys.argv[1:]:
                results[run.workflow] = act(run, Path(folder) / run.workflow, tools, options)
        if (tools / "asked").exists():
            print("workflows: asked of registry, cluster and GitHub:", (tools / "asked").read_text(), sep="\n", flush=True)
    for workflow, code in results.items():
        print(f"workflows: {workflow} {'failed' if code else 'passed'}", flush=True)
    return int(any(results.values()))


def used() -> Mapping[str, set[str]]:
    """Repository and commit of each action that is used, and the folders in it."""
    found = defaultdict(set)
    for path in WORKFLOWS.glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job.get("steps", ()):
                if "uses" in step:
                    name, _, commit = step["uses"].partition("@")
                    owner, repository, *part = name.split("/")
                    found[f"{owner}/{repository}@{commit}"].add("/".join(part))
    return found


def act(run: Run, folder: Path, tools: Path, options: Sequence[str]) -> int:
    """Run one workflow in a clone; its exit code."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", "-B", "main"], check=True)
    subprocess.run(["sh", "-ec", run.prepare or "true"], cwd=folder, check=True)
    event = tools / f"{run.workflow}.json"
    event.write_text(json.dumps(run.payload))
    told = {
        "TOOLS": str(tools),
        "SICKBAY_PYTHON": str(ROOT / ".venv/bin/python"),
        "PYTEST_ARGS": os.environ.get("WORKFLOW_TESTS", A_FEW),
        "MIN_COVERAGE": "95" if os.environ.get("WORKFLOW_TESTS") == "" else "0",
    }
    command = [str(Path(sys.executable).parent / "act"), run.event, "-W", f".github/workflows/{run.workflow}.yml", "-P", RUNNER]
    command += [
        "--eventpath",
        str(event),
        "-s",
        "GITHUB_TOKEN=none",
        "--concurrent-jobs",
        "1",
        "--no-cache-server",
        "--action-cache-path",
        str(tools / "act"),
    ]
    command += [word for name, value in told.items() for word in ("--env", f"{name}={value}")]
    env = os.environ | {"PATH": f"{tools / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run([*command, *options, *run.options], cwd=folder, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
