"""What is deployed on Kubernetes: the files of k8s/ as they lie there, and every overlay of deploy/kubernetes as kustomize renders it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "k8s"
OVERLAYS = ROOT / "deploy" / "kubernetes"
NAMES = ("local", "production", "external")
"""The overlays; each is looked at with and without the KEDA component."""


def files() -> dict[str, str]:
    """The text of each file that `kubectl apply -f k8s/` would read."""
    return {path.name: path.read_text() for path in sorted(FILES.glob("*.y*ml"))}


def rendered() -> dict[str, str]:
    """The base, each overlay, and each with KEDA."""
    texts = {"base": kustomize(FILES), "ingress": (OVERLAYS / "ingress" / "ingress.yaml").read_text()}
    for name in NAMES:
        texts[name] = kustomize(OVERLAYS / name)
        texts[f"{name}+keda"] = _with_keda(name)
    return texts


def kustomize(folder: Path) -> str:
    """What plain `kubectl kustomize FOLDER` prints; kubectl is the one beside this Python. SystemExit with its words if it refuses."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise SystemExit(f"kubectl kustomize {folder}: {done.stderr}")
    return done.stdout


def _with_keda(name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        away = os.path.relpath(OVERLAYS, Path(folder).resolve())
        lines = ["namespace: sickbay", f"resources: [{away}/{name}]", f"components: [{away}/keda]"]
        Path(folder, "kustomization.yaml").write_text("\n".join(lines))
        return kustomize(Path(folder))
