"""The few kinds of panel that the dashboard is made of, each with the same look, on Grafana's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import dashboard as dashboards
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.promql import of_fleets

SOURCE: Final = dashboards.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT: Final = 8

Panel: TypeAlias = stat.Panel | timeseries.Panel | statetimeline.Panel | heatmap.Panel | table.Panel
Steps: TypeAlias = Sequence[tuple[float, str]]
"""From which value on something has which colour."""
Codes: TypeAlias = Sequence[tuple[str, str]]
"""What the values 0, 1, 2 ... mean, and the colour of each."""


def query(expression: str, legend: str, *, at: int = 0) -> prometheus.Dataquery:
    """One line, or as many as the expression has series; `legend` may name labels as `{{label}}`, `at` counts a panel's queries."""
    asked = prometheus.Dataquery().expr(of_fleets(expression)).ref_id(chr(ord("A") + at)).datasource(SOURCE)
    return asked.legend_format(legend).range()


def number(title: str, text: str, expression: str, *, unit: str = "short", alarm: Steps = ()) -> stat.Panel:
    """One number and its recent past, green below `alarm`."""
    panel = stat.Panel().title(title).description(text).datasource(SOURCE).span(3).height(4).unit(unit)
    panel.thresholds(_thresholds("green", alarm)).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.graph_mode(models.BigValueGraphMode.AREA).color_mode(models.BigValueColorMode.VALUE)
    return panel.with_target(query(expression, title))


def lines(title: str, text: str, *queries: tuple[str, str], unit: str = "short", width: int = 8, stacked: bool = False) -> timeseries.Panel:
    """Lines over time, from pairs of an expression and a legend."""
    panel = timeseries.Panel().title(title).description(text).datasource(SOURCE).span(width).height(HEIGHT).unit(unit).axis_soft_min(0)
    panel.legend(_legend(shown=True)).show_points(models.VisibilityMode.NEVER).fill_opacity(30 if stacked else 10)
    panel.tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.DESCENDING))
    if stacked:
        panel.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL))
    for at, (expression, legend) in enumerate(queries):
        panel.with_target(query(expression, legend, at=at))
    return panel


def states(title: str, text: str, expression: str, legend: str, codes: Codes, *, width: int = 24) -> statetimeline.Panel:
    """What each series was when; its values are numbers that `codes` names."""
    named = {str(code): dashboards.ValueMappingResult(text=name, color=color, index=code) for code, (name, color) in enumerate(codes)}
    panel = statetimeline.Panel().title(title).description(text).datasource(SOURCE).span(width).height(HEIGHT)
    panel.mappings([dashboards.ValueMap(options=named)]).thresholds(_thresholds("text", ()))
    panel.color_scheme(dashboard.FieldColor().mode(dashboards.FieldColorModeId.THRESHOLDS))
    panel.merge_values(True).show_value(models.VisibilityMode.AUTO).row_height(0.9).fill_opacity(80).line_width(0)
    panel.tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.SINGLE).sort(models.SortOrder.NONE))
    return panel.legend(_legend(shown=False)).with_target(query(expression, legend))


def buckets(title: str, text: str, expression: str, *, width: int = 8) -> heatmap.Panel:
    """How many were how long: an expression of a histogram's buckets by `le`, in seconds."""
    panel = heatmap.Panel().title(title).description(text).datasource(SOURCE).span(width).height(HEIGHT)
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit("s").axis_placement(models.AxisPlacement.LEFT)).cell_gap(1)
    panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").fill("dark-orange").exponent(0.5).steps(64))
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(models.HeatmapCellLayout.AUTO))
    return panel.with_target(query(expression, "{{le}}").format(PromQueryFormat.HEATMAP))


def rows(title: str, text: str, expression: str, *, hidden: Sequence[str] = (), width: int = 8) -> table.Panel:
    """One row for each series as it is now, with its labels as columns but for those that are hidden."""
    unseen = dict.fromkeys(("Time", "Value", *hidden), True)
    panel = table.Panel().title(title).description(text).datasource(SOURCE).span(width).height(HEIGHT)
    panel.with_transformation(dashboards.DataTransformerConfig(id_val="organize", options={"excludeByName": unseen}))
    return panel.with_target(query(expression, "").instant().format(PromQueryFormat.TABLE))


def _thresholds(lowest: str, steps: Steps) -> dashboard.ThresholdsConfig:
    """Which colour from which value on."""
    below = dashboards.Threshold(color=lowest)
    above = [dashboards.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(dashboards.ThresholdsMode.ABSOLUTE).steps([below, *above])


def _legend(*, shown: bool) -> common.VizLegendOptions:
    """Names below the panel, or none."""
    below = common.VizLegendOptions().display_mode(models.LegendDisplayMode.LIST).placement(models.LegendPlacement.BOTTOM)
    return below.show_legend(shown).calcs([])
