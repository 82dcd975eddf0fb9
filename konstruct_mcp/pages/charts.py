"""The charts of the usage page, as plotly draws them: costs by day, model, group and tenant, and the budgets.

Names from outside (tenants, groups, models) pass `as_html` here as well: plotly reads HTML in its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from html import escape
from typing import Any

from konstruct_mcp.core.budgets import BudgetState
from konstruct_mcp.core.money import NUSD, dollars
from konstruct_mcp.core.spending import Dimension, Spend, UsageReport, name_of, summed
from konstruct_mcp.core.text import cut

_MOST = 9  # values of a dimension that a chart shows by themselves: the costliest
# One for each of them and one for all others; distinguishable on white, on black and by the colour-blind.
_COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#9080f0", "#d55e00", "#80c090", "#a03070", "#d0a0f0", "#b03020"),
    "#9a9a9a",
)
_BUDGET_COLOURS = {
    "spent": "#0072b2",
    "held for tries of unknown cost": "#d55e00",
    "reserved": "#e69f00",
    "left": "rgba(128, 128, 128, 0.3)",
}
_PLAIN_COLOUR = "#74859b"  # of bars that are no models
_DAY_MS = 86_400_000
_BAR = 14  # pixels: the thickness of a bar with a text above
_LABEL = 28  # characters of a name that has its cost beside it, on a phone
_LINE = 42  # characters of a name that has a line of its own there
_LONGEST = 512  # characters of a name that may wrap
_FONT = {"family": "system-ui, sans-serif", "size": 12}

_Figure = dict[str, Any]  # data and layout, as plotly.js takes them
_Legend = Iterable[tuple[str, str]]  # names and their colours
_Parts = list[tuple[str, list[Spend]]]  # values of a dimension, and the lines of each


def cards(report: UsageReport) -> Iterable[str]:
    """The charts of a report, each as HTML under its title.

    Raises:
        ImportError: plotly is not installed.
    """
    if any(line.cost_nusd for line in report.lines):
        models = _parts(report.lines, "model")
        yield _card("days", "Cost per day (UTC)", _day_bars(report, models), _legend(models))
        yield _card("models", "Cost by model", _bars(models, _COLOURS))
        yield _card("groups", "Cost by group", _bars(_parts(report.lines, "group")))
        if report.tenant is None:
            yield _card("tenants", "Cost by tenant", _bars(_parts(report.lines, "tenant")))
    else:
        yield f"<section><p>{'No costs' if report.lines else 'No calls'}</p></section>"
    if report.budgets:
        yield _card("budgets", "Budgets now", _budget_bars(report.budgets), _BUDGET_COLOURS.items())


def as_html(text: str, longest: int = _LONGEST) -> str:
    """One line that HTML and plotly show as it is; not for attributes, since plotly knows no `&quot;`.

    Cut in the middle: models of one provider often begin alike, and versions of one model differ at the end.
    """
    if len(text) > longest:
        text = f"{text[: longest // 2]}…{text[len(text) - (longest - 1) // 2 :]}"
    return escape(cut(text, longest), quote=False)


def renewal(budget: BudgetState) -> str:
    return f"renews {budget.renews_at[:10]}" if budget.renews_at else "does not renew"


def _card(name: str, title: str, figure: _Figure, legend: _Legend = ()) -> str:
    """A chart under its title. The legend is HTML, which wraps on a phone."""
    from plotly.io import to_html  # type: ignore[import-untyped,import-not-found,unused-ignore]

    config = {"displaylogo": False, "displayModeBar": False, "responsive": True, "typesetMath": False}
    chart = to_html(figure, config, full_html=False, include_plotlyjs=False, validate=False, div_id=f"chart-{name}")
    items = "".join(f'<li><i style="background: {colour}"></i>{as_html(of)}</li>' for of, colour in legend)
    # Hidden from screen readers, which have the tables.
    return (
        f'<section id="{name}"><h2>{title}</h2>{items and f"<ul>{items}</ul>"}\n'
        f'<div aria-hidden="true">{chart}</div></section>'
    )


def _parts(lines: Sequence[Spend], by: Dimension) -> _Parts:
    """The costliest values of a dimension, and after them all others as one."""
    of: dict[str, list[Spend]] = {}
    for line in lines:
        of.setdefault(getattr(line, by), []).append(line)
    values = [getattr(line, by) for line in summed(lines, by)]
    parts = [(name_of(value), of[value]) for value in values[:_MOST]]
    if others := values[_MOST:]:
        parts.append((f"other ({len(others)})", [line for value in others for line in of[value]]))
    return parts


def _legend(parts: _Parts) -> _Legend:
    """The values that cost something, with their colours."""
    for (name, lines), colour in zip(parts, _COLOURS, strict=False):
        if any(line.cost_nusd for line in lines):
            yield name, colour


def _figure(data: list[dict[str, Any]], height: int, **layout: Any) -> _Figure:
    """A chart with a transparent background, `height` pixels high. The style sheet colours its text and lines."""
    common = {
        "height": height,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "barmode": "stack",
        "dragmode": False,
        "showlegend": False,
        "paper_bgcolor": "transparent",
        "plot_bgcolor": "transparent",
        "font": _FONT,
        "hoverlabel": {"font": _FONT, "align": "left", "namelength": -1},
    }
    return {"data": data, "layout": common | layout}


def _day_bars(report: UsageReport, models: _Parts) -> _Figure:
    """One bar for each day, stacked by model, from the first day that was asked for to the last."""
    asked = [Spend(day, "", "", "") for day in (report.since, report.until) if day]
    totals = summed([*report.lines, *asked], "day")
    ends = [totals[0].day, totals[-1].day]
    first, last = map(date.fromisoformat, ends)
    count = (last - first).days + 1
    # With a width of its own a bar does not grow over quiet days until the next one, nor fill a chart of few days.
    width = min(0.8, 0.08 * count) * _DAY_MS
    traces: list[dict[str, Any]] = []
    for (name, lines), colour in zip(models, _COLOURS, strict=False):
        days = [line for line in summed(lines, "day") if line.cost_nusd]
        traces.append(_day_trace(days, name) | {"type": "bar", "width": width, "marker": {"color": colour}})
    # Invisible: the first shows the sum of a day that is pointed at, the second makes the axis span all days asked for.
    traces.append(_day_trace(totals, "total") | {"type": "scatter", "mode": "lines", "line": {"width": 0}})
    traces.append({"type": "bar", "x": ends, "y": [0, 0], "width": _DAY_MS, "hoverinfo": "skip"})
    return _figure(
        traces,
        320,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        hovermode="x unified",
        xaxis={
            "type": "date",
            "automargin": True,
            "fixedrange": True,
            "showgrid": False,
            "showspikes": False,
            "hoverformat": "%Y-%m-%d",
            **({"dtick": _DAY_MS} if count < 8 else {}),  # else plotly names hours
        },
        yaxis={
            "automargin": True,
            "fixedrange": True,
            "rangemode": "tozero",
            "tickprefix": "$",
            "tickformat": ",.6~f",
            "autorangeoptions": {"include": 0.000005},  # else the ticks of less would all read $0
        },
    )


def _day_trace(days: Sequence[Spend], name: str) -> dict[str, Any]:
    return {
        "name": as_html(name, _LABEL),
        "x": [line.day for line in days],
        "y": [line.cost_nusd / NUSD for line in days],
        "customdata": [as_html(line.cost) for line in days],
        "hovertemplate": "%{customdata}",
    }


def _bars(parts: _Parts, colours: Sequence[str] = (_PLAIN_COLOUR,) * (_MOST + 1)) -> _Figure:
    """One bar below the other, with the name and the cost above each."""
    sums = [sum_ for _, lines in parts for sum_ in summed(lines)]
    texts = []
    for row, ((name, _), line) in enumerate(zip(parts, sums, strict=True)):
        texts += [_label(row, as_html(name, _LABEL)), _label(row, as_html(line.cost), x=1)]
    trace: dict[str, Any] = {
        "x": [line.cost_nusd / NUSD for line in sums],
        "y": list(range(len(sums))),
        "marker": {"color": colours[: len(sums)]},
        "customdata": [
            f"{as_html(name, _LINE)}<br>{line.calls:,} calls, {line.failed:,} failed<br>{as_html(line.bounded_cost)}"
            for (name, _), line in zip(parts, sums, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return _rows([trace], texts, count=len(sums), height=44, above=28, widest=max(trace["x"]))


def _budget_bars(budgets: Sequence[BudgetState]) -> _Figure:
    """One bar below the other, each as wide as the chart: limits may lie a thousandfold apart."""
    texts, shares = [], []
    for row, budget in enumerate(budgets):
        amounts = budget.spent_nusd, budget.held_nusd, budget.reserved_nusd, budget.left_nusd
        spent, held, reserved, left = (as_html(dollars(nusd)) for nusd in amounts)
        of_tries = f"{held} held, " if budget.held_nusd else ""
        shares.append([nusd / (sum(amounts) or 1) for nusd in amounts])
        texts += [
            _label(row, f"{as_html(budget.tenant, _LINE)}<br>{as_html(budget.name, _LINE)}"),
            _label(row, f"{spent} spent, {of_tries}{reserved} reserved<br>{left} left, {renewal(budget)}", below=True),
        ]
    traces = [
        {
            "x": list(of_each),
            "y": list(range(len(budgets))),
            "marker": {"color": colour},
            "hoverinfo": "skip",
        }
        for of_each, colour in zip(zip(*shares, strict=True), _BUDGET_COLOURS.values(), strict=True)
    ]
    return _rows(traces, texts, count=len(budgets), height=104, above=46, widest=1)


def _rows(
    traces: list[dict[str, Any]], texts: list[dict[str, Any]], *, count: int, height: int, above: int, widest: float
) -> _Figure:
    """Rows `height` pixels high, with the middle of their bars `above` pixels below the top; `widest` fills the chart.

    The axes are invisible, since each bar has its figures beside it.
    """
    top = above / height
    return _figure(
        [trace | {"type": "bar", "orientation": "h", "width": _BAR / height} for trace in traces],
        height * count,
        annotations=texts,
        xaxis={"visible": False, "fixedrange": True, "range": [0, widest]},
        yaxis={"visible": False, "fixedrange": True, "range": [count - top, -top]},
    )


def _label(row: int, text: str, *, x: int = 0, below: bool = False) -> dict[str, Any]:
    """A text above or below the bar of a row, at the left edge (`x` 0) or the right one (1)."""
    return {
        "text": text,
        "x": x,
        "xref": "paper",
        "xanchor": "right" if x else "left",
        "y": row,
        "yanchor": "top" if below else "bottom",
        "yshift": -_BAR // 2 - 3 if below else _BAR // 2 + 2,
        "align": "left",
        "showarrow": False,
        "borderpad": 0,
        "borderwidth": 0,
    }
