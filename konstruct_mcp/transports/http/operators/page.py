"""The operators' page as HTML. Whatever comes from outside passes `as_html`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.core.identity import ListedTenant, StoredKey
from konstruct_mcp.core.results import GroupStatus
from konstruct_mcp.core.spending import UsageReport
from konstruct_mcp.pages.charts import as_html
from konstruct_mcp.pages.document import document, table
from konstruct_mcp.pages.usage import charted, headline, tabled

TITLE = "konstruct-mcp operators"
PERIODS = {"1": "today", "7": "7 days", "30": "30 days", "all": "all"}


@dataclass(frozen=True, slots=True)
class Overview:
    """What the page shows.

    Attributes:
        period: a key of `PERIODS`.
        now: figures of this server, by what they are called.
        faults: what is out of order, one line each.
        report, keys, tenants: None where the ledger does not answer.
    """

    period: str
    now: Mapping[str, str]
    faults: Sequence[str]
    report: UsageReport | None
    keys: Sequence[StoredKey] | None
    tenants: Sequence[ListedTenant] | None
    groups: Sequence[GroupStatus]


def overview(shown: Overview, *, chart_script: str | None, may_log_out: bool) -> str:
    """The page. `chart_script` is the path of what draws the charts; None where there are none."""
    links = "\n".join(_period(key, text, shown.period) for key, text in PERIODS.items())
    leave = '<form method="post" action="logout"><button>Log out</button></form>' if may_log_out else ""
    header = f'<h1>{TITLE}</h1>\n<nav aria-label="Period">{links}</nav>\n{leave}'
    faults = "".join(f'<section role="alert"><p>{as_html(fault)}</p></section>' for fault in shown.faults)
    figures = "".join(
        f"<div><dt>{as_html(name)}</dt><dd>{as_html(value)}</dd></div>" for name, value in shown.now.items()
    )
    parts = [faults, "<h2>This server now</h2>", f"<dl>{figures}</dl>", _deployments(shown.groups)]
    if shown.report is not None:
        parts.append("<h2>Usage</h2>")
        if chart_script is None:
            parts += [headline(shown.report.lines), tabled(shown.report)]
        else:
            script = f'<script src="{chart_script}"></script>'
            parts += [script, charted(shown.report), tabled(shown.report)]
    parts += [_keys(shown.keys or ()), _tenants(shown.tenants or ())]
    return document(TITLE, header, "\n".join(parts), posts=True)


def login(refusal: str | None) -> str:
    """The page of somebody who has not logged in; `refusal` says why the last try was none."""
    said = "" if refusal is None else f'<section role="alert"><p>{as_html(refusal)}</p></section>'
    main = f"""\
{said}
<section>
<form method="post" action="login">
<p><label for="token">An operator's key or access token</label></p>
<p><input id="token" name="token" type="password" autocomplete="current-password" required autofocus size="50"></p>
<p><button>Log in</button></p>
</form>
<p>A key is made on a server by <code>konstruct-mcp keys create --tenant … --scope operator</code>.</p>
</section>
"""
    return document(TITLE, f"<h1>{TITLE}</h1>", main, posts=True)


def _period(key: str, text: str, current: str) -> str:
    if key == current:
        return f'<strong aria-current="page">{text}</strong>'
    return f'<a href="?period={key}">{text}</a>'


def _deployments(groups: Sequence[GroupStatus]) -> str:
    return table(
        "Deployments",
        ("group", "model", "state", "why"),
        [
            _cells(group.name, one.model, one.state.replace("_", " "), one.reason or "")
            for group in groups
            if group.alias_of is None
            for one in group.deployments
        ],
    )


def _keys(keys: Sequence[StoredKey]) -> str:
    return table(
        "Keys",
        ("key", "tenant", "scopes", "note", "made", "last used", "expires", "state"),
        [
            _cells(
                f"{key.prefix}…",
                key.tenant,
                " ".join(key.scopes),
                key.note or "",
                key.created,
                key.used or "never",
                key.expires or "never",
                key.flaw_now() or "good",
            )
            for key in keys
        ],
    )


def _tenants(tenants: Sequence[ListedTenant]) -> str:
    return table(
        "Tenants",
        ("tenant", "from", "groups", "limits", "note", "state"),
        [
            _cells(
                tenant.id,
                tenant.place,
                " ".join(tenant.settings["groups"]) if tenant.settings.get("groups") is not None else "all",
                _limits(tenant.settings),
                str(tenant.settings.get("note") or ""),
                "disabled" if tenant.disabled else tenant.flaw or "good",
            )
            for tenant in tenants
        ],
    )


def _limits(settings: Mapping[str, Any]) -> str:
    names = ("max_concurrency", "rpm", "tpm", "max_effort")
    budgets = [f"${budget.get('usd')} per {budget.get('per')}" for budget in settings.get("budgets") or ()]
    return ", ".join([*budgets, *(f"{name} {settings[name]}" for name in names if settings.get(name) is not None)])


def _cells(*texts: str) -> Iterable[str]:
    return [as_html(text) for text in texts]
