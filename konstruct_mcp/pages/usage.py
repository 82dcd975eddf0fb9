"""A usage report as HTML: one page by itself, or a part of another.

The charts are plotly's (the extra `charts`), and their figures stand in plain tables too. Names from outside (tenants,
groups, models) pass `as_html`.
"""

from __future__ import annotations

from collections.abc import Sequence

from konstruct_mcp.core.money import dollars
from konstruct_mcp.core.spending import Spend, UsageReport, name_of, summed
from konstruct_mcp.pages.charts import as_html, cards, renewal
from konstruct_mcp.pages.document import document, table


def page(report: UsageReport) -> str:
    """The whole document.

    Raises:
        ImportError: plotly is not installed.
    """
    whose = f"tenant {as_html(report.tenant)}" if report.tenant else "all tenants"
    header = f"<h1>konstruct-mcp usage</h1>\n<p>{_span(report)}, {whose}</p>"
    return document("konstruct-mcp usage", header, f"{charted(report)}{tabled(report)}", script=chart_script())


def chart_script() -> str:
    """plotly's JavaScript, which draws the charts.

    Raises:
        ImportError: plotly is not installed.
    """
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped,import-not-found,unused-ignore]

    return str(get_plotlyjs())


def charted(report: UsageReport) -> str:
    """The sums and the charts of a report, which `chart_script` draws.

    Raises:
        ImportError: plotly is not installed.
    """
    charts = "\n".join(cards(report))
    return f"""\
{headline(report.lines)}
<noscript><p>The charts need JavaScript; the tables hold the same figures.</p></noscript>
<div class="cards">
{charts}
</div>
"""


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


def headline(lines: Sequence[Spend]) -> str:
    """The sums of a report."""
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


def tabled(report: UsageReport) -> str:
    """The same figures as tables, and the budgets."""
    days: dict[str, list[Spend]] = {}
    for line in report.lines:
        days.setdefault(line.day, []).append(line)
    spends = [(day, line) for day in sorted(days) for line in summed(days[day], "model")]
    return table(
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
    ) + table(
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
