"""LiteLLM's spending limits (`max_budget` …), and the budgets that would enforce them here.

LiteLLM's proxy enforces them for itself, its keys, teams, providers and deployments. Here only `konstruct.budgets`
limits what is spent, for each tenant. So a limit that no budget there covers is not enforced, and a warning says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from konstruct_mcp.config.environment import is_reference
from konstruct_mcp.core.budgets import Budget, Per
from konstruct_mcp.core.money import NUSD
from konstruct_mcp.core.text import cut

_MOST_LISTED = 5
_LIMIT = re.compile(r"(?!soft_)(max_(\w+_)?|(\w+_)?)budget(_limit)?\Z")  # a soft one only sends a notice
PERIODS = ("budget_duration", "time_period")
_PERIOD = re.compile(r"(\d{1,6})(s|m|h|d|w|mo)\Z")
_DAYS = {"s": 1 / 86400, "m": 1 / 1440, "h": 1 / 24, "d": 1, "w": 7, "mo": 30}


@dataclass(frozen=True, slots=True)
class Limit:
    """One spending limit: its place, and the budget that would enforce it. None where the amount is not known, or where
    no group of the config would be limited."""

    place: str
    budget: Budget | None


def limits(
    settings: Mapping[str, Mapping[str, Any]],
    deployments: Iterable[tuple[str, str, Mapping[str, Any]]],
    groups_of: Mapping[str, Sequence[str]],
) -> list[Limit]:
    """The spending limits of a config.

    Args:
        settings: its sections by name.
        deployments: the place, the group and the litellm_params of each deployment with a limit.
        groups_of: provider → the groups that ask it.
    """
    found = [limit for name, section in settings.items() for limit in _within(section, name, groups_of)]
    for place, group, params in deployments:
        if params.get("max_budget") is not None:
            found.append(Limit(f"{place}.max_budget", _budget(params, params["max_budget"], (group,))))
    return found


def _within(section: Any, place: str, groups_of: Mapping[str, Sequence[str]]) -> Iterator[Limit]:
    if isinstance(section, list):
        for position, item in enumerate(section):
            yield from _within(item, f"{place}[{position}]", groups_of)
    if not isinstance(section, dict):
        return
    for key, value in section.items():
        here = f"{place}.{cut(key)}"
        if key == "provider_budget_config" and isinstance(value, dict):
            for provider, of_provider in value.items():
                if isinstance(of_provider, dict):
                    amount = of_provider.get("budget_limit", of_provider.get("max_budget"))
                    groups = tuple(groups_of.get(provider, ()))
                    yield Limit(f"{here}.{cut(provider)}", _budget(of_provider, amount, groups) if groups else None)
        elif isinstance(value, dict | list):
            yield from _within(value, here, groups_of)
        elif _LIMIT.fullmatch(key) and (_amount(value) is not None or is_reference(value)):
            yield Limit(here, _budget(section, value, ()))


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= 10**9 else None


def _budget(section: Mapping[str, Any], amount: Any, groups: tuple[str, ...]) -> Budget | None:
    usd = _amount(amount)
    period = next((section[key] for key in PERIODS if section.get(key) is not None), None)
    return None if usd is None else Budget(int(usd * NUSD), _per(period), groups)


def _per(period: Any) -> Per:
    """Our shortest window that is at least as long as LiteLLM's period: what holds in it holds in the period too."""
    found = _PERIOD.match(period) if isinstance(period, str) else None
    if found is None:
        return "total"
    days = int(found[1]) * _DAYS[found[2]]
    return "day" if days <= 1 else "month" if days <= 31 else "total"


def warning(found: Iterable[Limit], budgets: Sequence[Budget]) -> str | None:
    """A line that names the limits which no budget of the config enforces; None where there are none."""
    open_ = [limit for limit in found if limit.budget is None or not any(_holds(b, limit.budget) for b in budgets)]
    if not open_:
        return None
    places = ", ".join(limit.place for limit in open_[:_MOST_LISTED])
    more = f" and {len(open_) - _MOST_LISTED} more" if len(open_) > _MOST_LISTED else ""
    wanted = list(dict.fromkeys(_line(limit.budget) for limit in open_ if limit.budget is not None))[:_MOST_LISTED]
    advice = f"konstruct.budgets: [{', '.join(wanted)}]" if wanted else "konstruct.budgets"
    return f"nobody holds this spending limit here: {places}{more}; what would, for each tenant, is {advice}"


def _holds(budget: Budget, limit: Budget) -> bool:
    longer = {"day": 0, "month": 1, "total": 2}
    covers = not budget.groups or (bool(limit.groups) and set(limit.groups) <= set(budget.groups))
    return covers and budget.limit_nusd <= limit.limit_nusd and longer[budget.per] >= longer[limit.per]


def _line(budget: Budget) -> str:
    usd = f"{Decimal(budget.limit_nusd) / NUSD:f}"
    groups = f", groups: [{', '.join(map(cut, budget.groups))}]" if budget.groups else ""
    return f"{{usd: {usd.rstrip('0').rstrip('.') if '.' in usd else usd}, per: {budget.per}{groups}}}"
