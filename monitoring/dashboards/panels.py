"""The kinds of panels that the dashboards are made of; knows no metric.

Every panel has a title, a description, a unit, and reads the data source that the variable
`$datasource` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus
from grafana_foundation_sdk.builders import stat as stats
from grafana_foundation_sdk.builders import statetimeline as timelines
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.builders import timeseries as series
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models import prometheus as p

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"
SOURCE = d.DataSourceRef(type_val="prometheus", uid="${datasource}")
SAYS_ALARM = {0: ("quiet", GREEN), 1: ("warning", ORANGE), 2: ("alarm", RED)}

P = TypeVar("P", series.Panel, stats.Panel, timelines.Panel, tables.Panel)


class Query(NamedTuple):
    """What is asked, and how its series are called: Grafana's `{{label}}`."""

    expr: str
    legend: str = ""


class Steps(NamedTuple):
    """From which values on a number is orange and red; `down`: below them."""

    orange: float
    red: float
    down: bool = False


Said = Mapping[int, tuple[str, str]]
"""By value, a word and its colour."""


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    span: int = 8,
    height: int = 8,
    steps: Steps | None = None,
    lowest: float | None = 0,
    stacked: bool = False,
    log2: bool = False,
    points: bool = False,
) -> series.Panel:
    """Series over time; `steps` draws its limits as lines."""
    panel = _named(series.Panel(), title, description, unit, span, height, steps)
    panel = panel.line_width(2).fill_opacity(25 if stacked else 0)
    panel = panel.legend(
        common.VizLegendOptions()
        .display_mode(c.LegendDisplayMode.LIST)
        .placement(c.LegendPlacement.BOTTOM)
        .show_legend(True)
    ).tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI))
    if lowest is not None:
        panel = panel.min(lowest)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL))
    if log2:
        scale = common.ScaleDistributionConfig().type(c.ScaleDistribution.LOG).log(2)
        panel = panel.scale_distribution(scale)
    if points:
        panel = panel.show_points(c.VisibilityMode.ALWAYS)
    if steps is not None:
        style = common.GraphThresholdsStyleConfig().mode(c.GraphTresholdsStyleMode.DASHED)
        panel = panel.thresholds_style(style)
    for number, query in enumerate(queries):
        panel = panel.with_target(_target(query, number))
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    span: int = 4,
    height: int = 4,
    steps: Steps | None = None,
    says: Said | None = None,
    named: bool = False,
    decimals: int | None = None,
) -> stats.Panel:
    """The latest value, large; `named` shows the series' name in its place."""
    panel = _named(stats.Panel(), title, description, unit, span, height, steps)
    panel = panel.color_mode(c.BigValueColorMode.VALUE).graph_mode(c.BigValueGraphMode.NONE)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    mode = c.BigValueTextMode.NAME if named else c.BigValueTextMode.AUTO
    panel = panel.text_mode(mode)
    if says is not None:
        panel = panel.mappings([_mapping(says)])
    if decimals is not None:
        panel = panel.decimals(decimals)
    for at, query in enumerate(queries):
        panel = panel.with_target(_target(query, at).instant())
    return panel


def states(
    title: str,
    description: str,
    says: Said,
    *queries: Query,
    span: int = 12,
    height: int = 6,
) -> timelines.Panel:
    """Bands of colour over time, one for each series."""
    panel = _named(timelines.Panel(), title, description, "none", span, height, None)
    panel = panel.mappings([_mapping(says)]).merge_values(True).row_height(0.8).fill_opacity(80)
    panel = panel.show_value(c.VisibilityMode.AUTO)
    panel = panel.legend(common.VizLegendOptions().show_legend(False))
    for at, query in enumerate(queries):
        panel = panel.with_target(_target(query, at))
    return panel


class Column(NamedTuple):
    """A label or, by its query's letter, `Value #A`; what it is called, and its unit."""

    field: str
    title: str
    unit: str | None = None


def table(
    title: str,
    description: str,
    columns: Sequence[Column],
    *queries: Query,
    span: int = 12,
    height: int = 10,
    sort_by: str | None = None,
) -> tables.Panel:
    """The latest values, a row for each set of labels; only the columns that are named."""
    panel = _named(tables.Panel(), title, description, "none", span, height, None)
    panel = panel.show_header(True)
    panel = panel.with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
    order: dict[str, Any] = {column.field: at for at, column in enumerate(columns)}
    names = {column.field: column.title for column in columns}
    shown = {"include": {"names": list(order)}}
    panel = panel.with_transformation(
        d.DataTransformerConfig(id_val="filterFieldsByName", options=shown)
    )
    panel = panel.with_transformation(
        d.DataTransformerConfig(
            id_val="organize", options={"indexByName": order, "renameByName": names}
        )
    )
    for column in columns:
        if column.unit is not None:
            unit = [d.DynamicConfigValue(id_val="unit", value=column.unit)]
            panel = panel.override_by_name(column.title, unit)
    if sort_by is not None:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort_by).desc(True)])
    for at, query in enumerate(queries):
        target = _target(query, at).instant().format(p.PromQueryFormat.TABLE)
        panel = panel.with_target(target)
    return panel


def board(title: str, uid: str, description: str, variable: tuple[str, str]) -> dashboard.Dashboard:
    """An empty dashboard; `variable` is the label that it can be narrowed to, and of what."""
    label, metric = variable
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["koine"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Koine")
            .type(d.DashboardLinkType.DASHBOARDS)
            .tags(["koine"])
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable(label)
            .label(label.title())
            .datasource(SOURCE)
            .query(f"label_values({metric}, {label})")
            .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(d.VariableOption(text="All", value="$__all", selected=True))
        )
    )


def _named(
    panel: P,
    title: str,
    description: str,
    unit: str,
    span: int,
    height: int,
    steps: Steps | None,
) -> P:
    panel = panel.title(title).description(description).unit(unit).datasource(SOURCE)
    return panel.span(span).height(height).thresholds(_thresholds(steps))


def _thresholds(steps: Steps | None) -> dashboard.ThresholdsConfig:
    if steps is None:
        colours: list[tuple[float | None, str]] = [(None, BLUE)]
    elif steps.down:
        colours = [(None, RED), (steps.red, ORANGE), (steps.orange, GREEN)]
    else:
        colours = [(None, GREEN), (steps.orange, ORANGE), (steps.red, RED)]
    made = [d.Threshold(value=value, color=colour) for value, colour in colours]
    return dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(made)


def _mapping(says: Said) -> d.ValueMap:
    return d.ValueMap(
        options={
            str(value): d.ValueMappingResult(text=word, color=colour, index=at)
            for at, (value, (word, colour)) in enumerate(says.items())
        }
    )


def _target(query: Query, at: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + at)).datasource(SOURCE)
    return target.legend_format(query.legend) if query.legend else target
