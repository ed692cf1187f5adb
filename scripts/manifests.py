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
"""The overlays; each is looked at as it is, and with each of the components."""
COMPONENTS = ("keda", "monitoring", "monitoring-with-key", "pool", "settings-file", "tls")


def files() -> dict[str, str]:
    """The text of each file that `kubectl apply -f k8s/` would read."""
    return {path.name: path.read_text() for path in sorted(FILES.glob("*.y*ml"))}


def rendered() -> dict[str, str]:
    """The base, each overlay, and each with every component."""
    texts = {"base": kustomize(FILES), "ingress": (OVERLAYS / "ingress" / "ingress.yaml").read_text()}
    for name in NAMES:
        texts[name] = kustomize(OVERLAYS / name)
        texts |= {f"{name}+{component}": with_component(name, component) for component in COMPONENTS}
    return texts


def kustomize(folder: Path) -> str:
    """What plain `kubectl kustomize FOLDER` prints; kubectl is the one beside this Python. SystemExit with its words if it refuses."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise SystemExit(f"kubectl kustomize {folder}: {done.stderr}")
    return done.stdout


def with_component(name: str, component: str) -> str:
    """An overlay, and a component on top of it as a copy of the overlay would name it."""
    with tempfile.TemporaryDirectory() as folder:
        away = os.path.relpath(OVERLAYS, Path(folder).resolve())
        lines = ["namespace: sickbay", f"resources: [{away}/{name}]", f"components: [{away}/{component}]"]
        Path(folder, "kustomization.yaml").write_text("\n".join(lines))
        return kustomize(Path(folder))
