"""A dashboard's panels drawn from Prometheus' data, laid out as its grid: a look without Grafana.

It draws what the dashboards of this folder use, not all that Grafana can.
"""

# pyright: basic
# matplotlib is typed in parts

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any, cast

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

from monitoring.expressions import dashboards, filled, panels
from monitoring.prometheus_api import Prometheus, Series

COLUMNS, COLUMN_IN, ROW_IN = 24, 0.75, 0.42
"""Grafana's grid, and inches of one of its cells."""
MARGIN_IN = 0.35
STEPS = 120
"""Points of a line."""
ABOVE_IN, BELOW_IN, BESIDE_IN = 0.4, 0.8, 0.6
"""Of a panel: for its title, for its axis and legend, for numbers on the left…"""
NAMES_IN = 1.6
"""…and for names in their place."""
MOST_LEGENDS = 8
TABLE_ROW_IN = 0.24
PLAIN = "#33415c"

Panel = dict[str, Any]


def render(prometheus: Prometheus, folder: Path, start: float, end: float) -> list[Path]:
    """One PNG for each dashboard, of the time between; where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_page(board, prometheus, folder, start, end) for board in dashboards()]


def _page(board: Panel, prometheus: Prometheus, folder: Path, start: float, end: float) -> Path:
    rows = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in board["panels"])
    width, height = COLUMNS * COLUMN_IN, rows * ROW_IN + 2 * MARGIN_IN
    figure = Figure((width, height), facecolor="white")
    figure.text(0.01, 1 - 0.2 / height, board["title"], fontsize=16, weight="bold", va="top")
    for row in board["panels"]:
        if row["type"] == "row":
            top = 1 - (row["gridPos"]["y"] * ROW_IN + 2 * MARGIN_IN - 0.05) / height
            figure.text(0.01, top, row["title"], fontsize=12, va="top", color="#666666")
    for panel in panels(board):
        place = panel["gridPos"]
        left = place["x"] / COLUMNS
        bottom = 1 - ((place["y"] + place["h"]) * ROW_IN + 2 * MARGIN_IN) / height
        beside = NAMES_IN if panel["type"] == "state-timeline" else BESIDE_IN
        wide, high = place["w"] * COLUMN_IN - beside - 0.25, _inner_height(panel)
        axes = figure.add_axes(
            (left + beside / width, bottom + BELOW_IN / height, wide / width, high / height)
        )
        shift = (BESIDE_IN - beside) / wide
        axes.set_title(panel["title"], fontsize=10, loc="left", x=shift, weight="bold")
        found = _asked(panel, prometheus, start, end)
        _DRAWN[panel["type"]](axes, panel, found)
        if panel["type"] in ("timeseries", "state-timeline"):
            _over_time(axes, start, end, place["w"])
            if not found:
                axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes)
    path = folder / f"{board['uid']}.png"
    figure.savefig(path, dpi=70)
    return path


def _inner_height(panel: Panel) -> float:
    """Inches between a panel's title and its axis."""
    return panel["gridPos"]["h"] * ROW_IN - ABOVE_IN - BELOW_IN


def _asked(
    panel: Panel, prometheus: Prometheus, start: float, end: float
) -> list[tuple[str, Series]]:
    """Every series with its legend."""
    step = max(1.0, (end - start) / STEPS)
    found: list[tuple[str, Series]] = []
    for target in panel["targets"]:
        span = f"{max(60, int(end - start))}s"
        expr = filled(target["expr"], window="20s", span=span, interval="1s")
        if target.get("instant"):
            given = prometheus.now(expr, end)
        else:
            given = prometheus.over(expr, start, end, step)
        legend = target.get("legendFormat", "")
        found += [(_legend(legend, one) or target["refId"], one) for one in given]
    return found


def _legend(template: str, series: Series) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: series.labels.get(name[1], ""), template)


def _lines(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    stack: dict[float, float] = {}
    for legend, one in found:
        values = [
            value + (stack.get(at, 0.0) if stacked and not math.isnan(value) else 0.0)
            for at, value in zip(one.times, one.values, strict=True)
        ]
        stack |= {
            at: value for at, value in zip(one.times, values, strict=True) if not math.isnan(value)
        }
        dashed = "--" if "reference" in legend else "-"
        # a part of nothing would hide the one below it
        drawn = [
            math.nan if stacked and not part else value
            for part, value in zip(one.values, values, strict=True)
        ]
        [line] = axes.plot(_dates(one.times), drawn, dashed, label=legend, linewidth=1.4)
        if stacked:
            floor = [high - low for high, low in zip(values, one.values, strict=True)]
            axes.fill_between(_dates(one.times), floor, values, color=line.get_color(), alpha=0.25)
    for step in defaults["thresholds"]["steps"][1:]:
        if custom.get("thresholdsStyle"):
            axes.axhline(step["value"], color=_colour(step["color"]), linestyle=":", linewidth=1)
    if custom.get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log", base=2)
    elif defaults.get("min") is not None:
        axes.set_ylim(defaults["min"], 1.05 * axes.get_ylim()[1])
    unit = defaults.get("unit", "none")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _said(value, unit)))
    axes.grid(color="#eeeeee")
    if found:
        place = panel["gridPos"]
        below = -0.25 / _inner_height(panel)
        axes.legend(
            *_shortest(axes), fontsize=7, loc="upper center", bbox_to_anchor=(0.5, below),
            ncols=max(2, place["w"] // 2), frameon=False, columnspacing=1.0, handlelength=1.2,
        )  # fmt: skip


def _shortest(axes: Axes) -> tuple[list[Any], list[Any]]:
    handles, labels = axes.get_legend_handles_labels()
    shown = [str(label)[-34:] for label in labels[:MOST_LEGENDS]]
    if len(labels) > MOST_LEGENDS:
        shown[-1] = f"and {len(labels) - MOST_LEGENDS + 1} more"
    return list(handles[:MOST_LEGENDS]), shown


def _numbers(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    axes.axis("off")
    defaults = panel["fieldConfig"]["defaults"]
    named = panel["options"].get("textMode") == "name"
    for at, (legend, one) in enumerate(found or [("no data", Series({}, (0,), (math.nan,)))]):
        word, colour = _mapped(defaults, one.last)
        text = legend if named or math.isnan(one.last) else word
        if not named and panel["targets"][0].get("legendFormat"):
            text = f"{legend}: {text}"
        height = 0.5 if len(found) < 2 else 1 - (at + 0.5) / len(found)
        size = 22 if len(found) < 2 and len(text) < 12 else 14
        axes.text(0.5, height, text, fontsize=size, color=colour, ha="center", va="center")


def _states(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    ordered = found[::-1]
    for at, (_, one) in enumerate(ordered):
        step = min((b - a for a, b in zip(one.times, one.times[1:], strict=False)), default=1.0)
        begin = 0
        for end in range(1, len(one.times) + 1):
            over = end == len(one.times) or one.values[end] != one.values[begin]
            gap = not over and one.times[end] - one.times[end - 1] > 1.5 * step
            if over or gap:
                word, colour = _mapped(defaults, one.values[begin])
                left = _date(one.times[begin])
                right = _date(one.times[end - 1] + step)
                axes.broken_barh([(left, right - left)], (at - 0.42, 0.84), color=colour)
                if (end - begin) * step > 0.08 * (one.times[-1] - one.times[0] + step):
                    middle = (left + right) / 2
                    axes.text(middle, at, word, fontsize=7, color="white", ha="center", va="center")
                begin = end
    axes.set_yticks(range(len(ordered)), [legend for legend, _ in ordered])
    axes.set_ylim(-0.5, len(ordered) - 0.5)
    axes.xaxis_date()


def _table(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    axes.axis("off")
    organised = panel["transformations"][-1]["options"]
    order: dict[str, int] = organised["indexByName"]
    names = {name: organised["renameByName"][name] for name in sorted(order, key=order.__getitem__)}
    units = {
        one["matcher"]["options"]: one["properties"][0]["value"]
        for one in panel["fieldConfig"]["overrides"]
    }
    several = len(panel["targets"]) > 1
    rows: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for ref, one in found:
        shown = {name: value for name, value in one.labels.items() if name in names}
        row = rows.setdefault(tuple(sorted(shown.items())), dict(shown))
        row[f"Value #{ref}" if several else "Value"] = one.last
    by = panel["options"].get("sortBy") or [{"displayName": None}]
    sort_by = next((name for name, title in names.items() if title == by[0]["displayName"]), None)
    ordered = sorted(rows.values(), key=lambda row: -float(row.get(sort_by or "", 0.0)))
    fits = int((_inner_height(panel) + BELOW_IN / 2) / TABLE_ROW_IN)
    cells = [
        [_cell(row.get(name, ""), units.get(title, "none")) for name, title in names.items()]
        for row in ordered[: fits - 1]
    ]
    if not cells:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=14)
        return
    high = (len(cells) + 1) * TABLE_ROW_IN / _inner_height(panel)
    drawn = axes.table(
        cells,
        colLabels=list(names.values()),
        bbox=Bbox.from_bounds(0, 1 - high, 1, high),
        cellLoc="left",
        colLoc="left",
        edges="horizontal",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    for cell in drawn.get_celld().values():
        cell.set_edgecolor("#dddddd")


def _cell(value: object, unit: str) -> str:
    return _said(value, unit) if isinstance(value, float) else str(value)


def _mapped(defaults: Panel, value: float) -> tuple[str, str]:
    """A value in words, and its colour."""
    for mapping in defaults.get("mappings", ()):
        if not math.isnan(value) and (said := mapping["options"].get(str(int(value)))):
            return said["text"], _colour(said["color"])
    reached = [
        step["color"]
        for step in defaults["thresholds"]["steps"]
        if step["value"] is None or value >= step["value"]
    ]
    unit = defaults.get("unit", "none")
    return _said(value, unit, defaults.get("decimals")), _colour(reached[-1])


def _colour(name: str) -> str:
    return {"green": "#37872d", "orange": "#e08400", "red": "#c4162a", "blue": PLAIN}.get(
        name, name
    )


def _said(value: float, unit: str, decimals: int | None = None) -> str:
    if math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{value:.2%}" if 0 < abs(value) < 0.01 else f"{value:.1%}"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "dateTimeFromNow":
        return f"{time.time() - value / 1000:.0f} s ago"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    after = {"reqps": " req/s", "cps": " /s"}.get(unit, "")
    if decimals is not None:
        return f"{value:.{decimals}f}{after}"
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}") + after


def _over_time(axes: Axes, start: float, end: float, columns: int) -> None:
    ticks = [start + (end - start) * part / columns for part in range(1, columns, 2)]
    axes.set_xlim(_date(start), _date(end))
    axes.set_xticks([_date(tick) for tick in ticks])
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
    axes.tick_params(labelsize=7)


def _dates(times: tuple[float, ...]) -> list[float]:
    return [_date(one) for one in times]


def _date(seconds: float) -> float:
    """Matplotlib's days of a time since 1970."""
    return cast(float, date2num(0) + seconds / 86_400)


_DRAWN = {"timeseries": _lines, "stat": _numbers, "state-timeline": _states, "table": _table}
