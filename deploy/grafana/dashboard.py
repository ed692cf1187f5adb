"""Writes dashboards/sickbay.json, which Grafana reads: `make monitoring` runs it, as `python -m deploy.grafana.dashboard`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, VariableOption, VariableRefresh, VariableSort

from deploy.grafana.content import ROWS
from deploy.grafana.panels import SOURCE

FILE: Final = Path(__file__).with_name("dashboards") / "sickbay.json"
NARROWED: Final = {
    "namespace": ("Namespace", "label_values(sickbay_build_info, namespace)"),
    "job_type": ("Job type", 'label_values(sickbay_jobs_total{namespace=~"$namespace"}, job_type)'),
    "tenant": (
        "Tenant",
        'label_values({__name__=~"sickbay_breaker_state|sickbay_parked_jobs|sickbay_tenant_jobs_total", namespace=~"$namespace"}, tenant)',
    ),
}
"""What the page can be narrowed to: a label, how it is called, and where its values are."""


def variables() -> Iterator[DatasourceVariable | QueryVariable]:
    """The choices above the page; everything is chosen at first, also what has no such label."""
    yield DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    for name, (label, query) in NARROWED.items():
        variable = QueryVariable(name).label(label).query(query).datasource(SOURCE).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        variable.sort(VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True).all_value(".*")
        yield variable.current(VariableOption(selected=True, text="All", value="$__all"))


def build() -> str:
    """The dashboard as JSON."""
    page = Dashboard("Sickbay").uid("sickbay").tags(["sickbay"]).timezone("browser").refresh("10s").time("now-1h", "now")
    page.description("Jobs, circuits, quarantine and servers of Sickbay.").tooltip(DashboardCursorSync.CROSSHAIR)
    page.variables(list(variables()))
    number = count(1)
    for title, panels in ROWS.items():
        if title:
            page.with_row(Row(title).id(next(number)))
        for panel in panels():
            page.with_panel(panel.id(next(number)))
    return JSONEncoder(indent=1, sort_keys=True).encode(page.build()) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(build(), "utf-8")
