"""Writes deploy/kubernetes/monitoring/rules.yaml: deploy/prometheus/alerts.yml, comments and all, for the Prometheus operator."""

from __future__ import annotations

from textwrap import indent
from typing import Final

from scripts.manifests import OVERLAYS, ROOT

RULES: Final = ROOT / "deploy" / "prometheus" / "alerts.yml"
FILE: Final = OVERLAYS / "monitoring" / "rules.yaml"
HEAD: Final = """\
# Made from deploy/prometheus/alerts.yml by `make monitoring`: change that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: sickbay
  labels:
    app.kubernetes.io/part-of: sickbay
spec:
"""


def build() -> str:
    """The resource, as YAML."""
    _, groups = RULES.read_text("utf-8").split("\ngroups:\n")
    return HEAD + indent("groups:\n" + groups, "  ")


if __name__ == "__main__":
    FILE.write_text(build(), "utf-8")
