"""A usage report as one HTML page with charts. It asks no network, and follows the reader's light or dark mode.

The charts are plotly's (the extra `charts`), and their figures stand in plain tables too. Names from outside (tenants,
groups, models) pass `_text`, in a chart as well: plotly reads HTML in its labels.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import date
from hashlib import sha256
from html import escape
from typing import Any

from konstruct_mcp.core.budgets import BudgetState
from konstruct_mcp.core.money import NUSD, dollars
from konstruct_mcp.core.spending import Dimension, Spend, UsageReport, summed
from konstruct_mcp.core.text import cut

_MOST = 9  # values of a dimension that a chart tells apart: the costliest
# One for each of them and one for all others; told apart on white, on black and by the colour-blind.
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


def page(report: UsageReport) -> str:
    """The whole document.

    Raises:
        ImportError: plotly is not installed.
    """
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped,import-not-found,unused-ignore]

    plotly, cards = get_plotlyjs(), "\n".join(_cards(report))
    whose = f"tenant {_text(report.tenant)}" if report.tenant else "all tenants"
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy([plotly, *_SCRIPT.findall(cards)])}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>konstruct-mcp usage</title>
<style>{_STYLE}</style>
<script>{plotly}</script>
</head>
<body>
<header>
<h1>konstruct-mcp usage</h1>
<p>{_span(report)}, {whose}</p>
</header>
<main>
{_headline(report.lines)}
<noscript><p>The charts need JavaScript; the tables hold the same figures.</p></noscript>
<div class="cards">
{cards}
</div>
{_tables(report)}
</main>
</body>
</html>
"""


_SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)


def _policy(scripts: Iterable[str]) -> str:
    """No network, and these scripts alone: one that came in by a name is not run."""
    hashes = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _text(text: str, longest: int = _LONGEST) -> str:
    """One line that HTML and plotly show as it is; not for attributes, since plotly knows no `&quot;`.

    Cut in the middle: models of one provider often begin alike, and versions of one model differ at the end.
    """
    if len(text) > longest:
        text = f"{text[: longest // 2]}…{text[len(text) - (longest - 1) // 2 :]}"
    return escape(cut(text, longest), quote=False)


def _renewal(budget: BudgetState) -> str:
    return f"renews {budget.renews_at[:10]}" if budget.renews_at else "does not renew"


def _span(report: UsageReport) -> str:
    match report.since, report.until:
        case None, None:
            return "all days"
        case since, None:
            return f"since {since}"
        case None, until:
            return f"until {until}"
        case since, until:
            return f"{since} to {until}"


def _headline(lines: Sequence[Spend]) -> str:
    [total] = summed(lines) or [Spend("", "", "", "")]
    figures = {
        "cost": _text(total.bounded_cost),
        "calls": f"{total.calls:,}",
        "failed": f"{total.failed:,}",
        **({"of unknown cost": f"{total.unpriced:,}"} if total.unpriced else {}),
        "tokens in": f"{total.input_tokens:,}",
        "cached of these": f"{total.cached_tokens:,}",
        "tokens out": f"{total.output_tokens:,}",
    }
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{figure}</dd></div>' for name, figure in figures.items())}</dl>"


# -- charts ----------------------------------------------------------------------------------------------------------


def _cards(report: UsageReport) -> Iterable[str]:
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


def _card(name: str, title: str, figure: _Figure, legend: _Legend = ()) -> str:
    """A chart under its title. The legend is HTML, which wraps on a phone."""
    from plotly.io import to_html  # type: ignore[import-untyped,import-not-found,unused-ignore]

    config = {"displaylogo": False, "displayModeBar": False, "responsive": True, "typesetMath": False}
    chart = to_html(figure, config, full_html=False, include_plotlyjs=False, validate=False, div_id=f"chart-{name}")
    items = "".join(f'<li><i style="background: {colour}"></i>{_text(of)}</li>' for of, colour in legend)
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
    parts = [(_name(value), of[value]) for value in values[:_MOST]]
    if others := values[_MOST:]:
        parts.append((f"other ({len(others)})", [line for value in others for line in of[value]]))
    return parts


def _name(value: str) -> str:
    return value or "(nobody answered)"


def _legend(parts: _Parts) -> _Legend:
    """Of those that a chart of costs shows."""
    for (name, lines), colour in zip(parts, _COLOURS, strict=False):
        if any(line.cost_nusd for line in lines):
            yield name, colour


def _figure(data: list[dict[str, Any]], height: int, **layout: Any) -> _Figure:
    """On the page's own ground, `height` pixels high. Text and lines have their colours from the style sheet."""
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
    """Stacked by model, from the first day that was asked for to the last."""
    asked = [Spend(day, "", "", "") for day in (report.since, report.until) if day]
    totals = summed([*report.lines, *asked], "day")
    ends = [totals[0].day, totals[-1].day]
    first, last = map(date.fromisoformat, ends)
    count = (last - first).days + 1
    # Told its width, a bar does not grow until the next one, over quiet days; of few days it does not fill the chart.
    width = min(0.8, 0.08 * count) * _DAY_MS
    traces: list[dict[str, Any]] = []
    for (name, lines), colour in zip(models, _COLOURS, strict=False):
        days = [line for line in summed(lines, "day") if line.cost_nusd]
        traces.append(_day_trace(days, name) | {"type": "bar", "width": width, "marker": {"color": colour}})
    # Not seen: who points at a day is told the sum, and the axis is as long as what was asked for.
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
        "name": _text(name, _LABEL),
        "x": [line.day for line in days],
        "y": [line.cost_nusd / NUSD for line in days],
        "customdata": [_text(line.cost) for line in days],
        "hovertemplate": "%{customdata}",
    }


def _bars(parts: _Parts, colours: Sequence[str] = (_PLAIN_COLOUR,) * (_MOST + 1)) -> _Figure:
    """One below the other, the name and the cost above each."""
    sums = [sum_ for _, lines in parts for sum_ in summed(lines)]
    texts = []
    for row, ((name, _), line) in enumerate(zip(parts, sums, strict=True)):
        texts += [_label(row, _text(name, _LABEL)), _label(row, _text(line.cost), x=1)]
    trace: dict[str, Any] = {
        "x": [line.cost_nusd / NUSD for line in sums],
        "y": list(range(len(sums))),
        "marker": {"color": colours[: len(sums)]},
        "customdata": [
            f"{_text(name, _LINE)}<br>{line.calls:,} calls, {line.failed:,} failed<br>{_text(line.bounded_cost)}"
            for (name, _), line in zip(parts, sums, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return _rows([trace], texts, count=len(sums), height=44, above=28, widest=max(trace["x"]))


def _budget_bars(budgets: Sequence[BudgetState]) -> _Figure:
    """One below the other, each as wide as the chart: limits may lie a thousandfold apart."""
    texts, shares = [], []
    for row, budget in enumerate(budgets):
        amounts = budget.spent_nusd, budget.held_nusd, budget.reserved_nusd, budget.left_nusd
        spent, held, reserved, left = (_text(dollars(nusd)) for nusd in amounts)
        of_tries = f"{held} held, " if budget.held_nusd else ""
        shares.append([nusd / (sum(amounts) or 1) for nusd in amounts])
        texts += [
            _label(row, f"{_text(budget.tenant, _LINE)}<br>{_text(budget.name, _LINE)}"),
            _label(row, f"{spent} spent, {of_tries}{reserved} reserved<br>{left} left, {_renewal(budget)}", below=True),
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

    Axes are not seen, since each bar has its figures beside it.
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


# -- tables ----------------------------------------------------------------------------------------------------------


def _tables(report: UsageReport) -> str:
    days: dict[str, list[Spend]] = {}
    for line in report.lines:
        days.setdefault(line.day, []).append(line)
    spends = [(day, line) for day in sorted(days) for line in summed(days[day], "model")]
    return _table(
        "Cost by day and model",
        ("day", "model", "cost", "calls", "failed", "cost unknown", "tokens in", "cached", "tokens out"),
        [
            (
                *(_text(day), _text(_name(line.model)), _text(line.bounded_cost)),
                *(f"{count:,}" for count in (line.calls, line.failed, line.unpriced)),
                *(f"{count:,}" for count in (line.input_tokens, line.cached_tokens, line.output_tokens)),
            )
            for day, line in spends
        ],
    ) + _table(
        "Budgets now",
        ("tenant", "budget", "spent", "held", "reserved", "left", "window"),
        [
            (
                *(_text(budget.tenant), _text(budget.name)),
                *(_text(dollars(nusd)) for nusd in (budget.spent_nusd, budget.held_nusd)),
                *(_text(dollars(nusd)) for nusd in (budget.reserved_nusd, budget.left_nusd)),
                _renewal(budget),
            )
            for budget in report.budgets
        ],
    )


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Of cells that are HTML; nothing when there are no rows."""
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    # Scrolled by itself where it is wider than the page, by the keyboard too.
    return body and (
        f'<section tabindex="0"><table><caption>{title}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></section>\n"
    )


# plotly writes its colours into each element, which only `!important` overrules.
_STYLE = """
:root { --ground: #f4f5f7; --surface: #fff; --text: #1c2026; --faint: #5b636e; --line: #dde1e6 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #101216; --surface: #1a1d23; --text: #e6e8eb; --faint: #a0a8b3; --line: #343a43 }
}
* { box-sizing: border-box }
/* Else charts drawn before the scroll bar appears are wider than the page. */
html { scrollbar-gutter: stable; color-scheme: light dark }
body { margin: 0 auto; padding: 1.5rem 1rem; max-width: 80rem; background: var(--ground); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { margin: 0; font-size: 1.5rem }
h2, caption { margin: 0 0 .5rem; font-size: 1rem; font-weight: 600; text-align: left }
header p { margin: .25rem 0 0; color: var(--faint) }
dl { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 .75rem }
dl div { flex: 1 0 auto; min-width: 7rem }
.cards { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)) }
dl div, section { padding: .75rem; background: var(--surface); border: 1px solid var(--line); border-radius: 8px }
dt { color: var(--faint); font-size: .85rem }
dd { margin: 0; font-size: 1.1rem; font-weight: 600; font-variant-numeric: tabular-nums }
section { min-width: 0; overflow-x: auto }
section p { margin: 0 }
#days { grid-column: 1 / -1 }
ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 0 0 .5rem; padding: 0; font-size: .85rem }
li { list-style: none }
li i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px }
main > section { margin-top: .75rem }
table { width: 100%; border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th { color: var(--faint); font-weight: 500 }
th, td { padding: .3rem .4rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:nth-child(-n+2), td:nth-child(-n+2) { min-width: 5.5rem; text-align: left; white-space: normal }
td:nth-child(2) { min-width: 8rem }
tr > :first-child { padding-left: 0 }
tr > :last-child { padding-right: 0 }
tbody tr:last-child td { border-bottom: 0 }
.js-plotly-plot text { fill: var(--text) !important }
.js-plotly-plot .gridlayer path, .js-plotly-plot .zl { stroke: var(--line) !important }
.hoverlayer .bg, .hoverlayer .hovertext > path { fill: var(--surface) !important; fill-opacity: 1 !important;
  stroke: var(--line) !important }
"""
