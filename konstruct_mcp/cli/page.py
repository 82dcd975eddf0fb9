"""A usage report as one HTML page with charts. It asks no network, and follows the reader's light or dark mode.

The charts are plotly's (the extra `charts`), and their figures stand in plain tables too. Names from outside (tenants,
groups, models) pass `as_html`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256

from konstruct_mcp.cli.charts import as_html, cards, renewal
from konstruct_mcp.cli.output import name_of
from konstruct_mcp.core.money import dollars
from konstruct_mcp.core.spending import Spend, UsageReport, summed


def page(report: UsageReport) -> str:
    """The whole document.

    Raises:
        ImportError: plotly is not installed.
    """
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped,import-not-found,unused-ignore]

    plotly, charts = get_plotlyjs(), "\n".join(cards(report))
    whose = f"tenant {as_html(report.tenant)}" if report.tenant else "all tenants"
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy([plotly, *_SCRIPT.findall(charts)])}">
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
{charts}
</div>
{_tables(report)}
</main>
</body>
</html>
"""


_SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)


def _policy(scripts: Iterable[str]) -> str:
    """A content security policy: no network, and no script but these, so that one in a name is not run."""
    hashes = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


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
        "cost": as_html(total.bounded_cost),
        "calls": f"{total.calls:,}",
        "failed": f"{total.failed:,}",
        **({"of unknown cost": f"{total.unpriced:,}"} if total.unpriced else {}),
        "tokens in": f"{total.input_tokens:,}",
        "cached of these": f"{total.cached_tokens:,}",
        "tokens out": f"{total.output_tokens:,}",
    }
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{figure}</dd></div>' for name, figure in figures.items())}</dl>"


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
                *(as_html(day), as_html(name_of(line.model)), as_html(line.bounded_cost)),
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
                *(as_html(budget.tenant), as_html(budget.name)),
                *(as_html(dollars(nusd)) for nusd in (budget.spent_nusd, budget.held_nusd)),
                *(as_html(dollars(nusd)) for nusd in (budget.reserved_nusd, budget.left_nusd)),
                renewal(budget),
            )
            for budget in report.budgets
        ],
    )


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Of cells that are HTML; nothing when there are no rows."""
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    # A table wider than the page is scrolled by itself, by the keyboard too.
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
