"""Ask kubernetes-validate, checkov and yamllint about everything that is deployed on Kubernetes; exit 1 if one of them complains."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import kubernetes_validate.utils
import yaml
from checkov.main import Checkov
from manifests import COMPONENTS, FILES, NAMES, OVERLAYS, ROOT, files, rendered

VERSIONS = [f"1.{minor}" for minor in range(27, 38)]
OPERATORS = {"Certificate", "RabbitmqCluster", "ScaledObject", "TriggerAuthentication", "PrometheusRule", "PodMonitor"}
"""Kinds that Kubernetes does not know by itself; tests/deploy looks at these."""
SKIPPED = {
    "CKV_K8S_35": "the documented variables are how the services are told, and the servers' images know no other way",
    "CKV_K8S_43": "a digest is known once the image was pushed; who deploys sets it with kustomize's `images`",
}
SKIPPED_FILES = SKIPPED | {
    "CKV_K8S_14": "`:latest` is the documented name; overlays for more than a first look set a version",
    "CKV_K8S_21": "the documented commands use the current namespace; every overlay makes its own",
}
SKIPPED_LOCAL = SKIPPED | {"CKV_K8S_15": "an image that was loaded into kind or minikube cannot be pulled"}


def main() -> int:
    """Check all, tell all."""
    texts = {f"k8s/{name}": text for name, text in files().items()} | rendered()
    complaints = schema_complaints(texts)
    for complaint in complaints:
        print(complaint)
    print(f"kubernetes-validate: {len(texts)} manifests, Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}, {len(complaints)} complaints")
    bad = [name for name in ("k8s/", *(f"{name}+{one}" for name in NAMES for one in COMPONENTS)) if not checkov(name, texts)]
    print(f"checkov: the files and {len(NAMES)} overlays with components, {len(bad)} with complaints")
    linted = [FILES, FILES / "Kustomization", OVERLAYS, ROOT / "deploy" / "prometheus" / "alerts.yml", ROOT / "deploy" / "grafana"]
    lint = subprocess.run([_tool("yamllint"), "--strict", *linted], cwd=ROOT, check=False).returncode
    print("yamllint:", "complaints" if lint else "no complaints")
    return bool(complaints or bad or lint)


def schema_complaints(texts: Mapping[str, str]) -> list[str]:
    """What is not as the schema of each version of Kubernetes wants it; each of the many equal resources is asked about once."""
    documents = ((name, one) for name, text in texts.items() for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one)
    resources = {json.dumps(one): (name, one) for name, one in documents}
    complaints = []
    kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)  # it parses a megabyte for each resource
    for version, (name, resource) in itertools.product(VERSIONS, resources.values()):
        if resource["kind"] in OPERATORS:
            continue
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            complaints.append(f"{name}: {resource['kind']} {resource['metadata']['name']} on {version}: {str(error).splitlines()[0]}")
    return complaints


def checkov(name: str, texts: Mapping[str, str]) -> bool:
    """Whether checkov has no complaint but those that are skipped above; "k8s/" are the files together, as they are applied."""
    skipped = SKIPPED_FILES if name == "k8s/" else SKIPPED_LOCAL if name.startswith("local") else SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "manifests.yaml")
        path.write_text("\n---\n".join(text for other, text in texts.items() if other.startswith(name)))
        words = ["--file", path, "--framework", "kubernetes", "--compact", "--quiet", "--skip-download", "--skip-check", ",".join(skipped)]
        told = Path(folder, "told")
        process = get_context("fork").Process(target=_run_checkov, args=([*map(str, words)], told))  # it takes three seconds to import
        process.start()
        process.join()
        if process.exitcode:
            print(f"checkov on {name}:\n{told.read_text()}")
    return process.exitcode == 0


def _run_checkov(words: list[str], told: Path) -> None:
    """What the command `checkov` does, with what it prints in a file; exits as it does."""
    with told.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.exit(Checkov(words).run())


def _tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


if __name__ == "__main__":
    sys.exit(main())
