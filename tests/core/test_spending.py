"""Money and what was spent: unknown is never shown as nothing, and rounding never adds to a budget."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from konstruct_mcp.core.budgets import Budget, Per, Quote
from konstruct_mcp.core.money import MOST_NUSD, NUSD, dollars, to_nusd
from konstruct_mcp.core.spending import Call, Charge, Spend, read_call, summed


@pytest.mark.parametrize(
    ("nusd", "shown"),
    [
        (0, "$0"),
        (1, "<$0.000001"),
        (1_000, "$0.000001"),
        (163_000, "$0.000163"),
        (250_000_000, "$0.25"),
        (5 * NUSD, "$5"),
        (1_234_500_000_000, "$1,234.50"),
    ],
)
def test_dollars_are_written_to_the_micro_dollar(nusd: int, shown: str) -> None:
    assert dollars(nusd) == shown


def test_a_price_is_taken_as_it_was_written() -> None:
    assert to_nusd(0.1) * 3 == to_nusd(0.3)


@given(st.integers(0, 10**9), st.integers(1, 10**4), st.integers(0, 10**9), st.integers(1, 10**6))
def test_the_longest_affordable_answer_is_within_what_is_left(left: int, a_token: int, request: int, most: int) -> None:
    quote = Quote(10, Fraction(request, 7), Fraction(a_token, 3), most, fixed=False)
    tokens = quote.affordable(left)
    if tokens < 0:
        assert quote.most_nusd(0) > left
    else:
        assert quote.most_nusd(tokens) <= left
        assert tokens == most or quote.most_nusd(tokens + 1) > left


@pytest.mark.parametrize(
    ("per", "days", "renews_at"),
    [
        ("day", ("2026-12-31", "2027-01-01"), "2027-01-01T00:00:00+00:00"),
        ("month", ("2026-12-01", "2027-01-01"), "2027-01-01T00:00:00+00:00"),
        ("total", ("0001-01-01", "9999-12-31"), None),
    ],
)
def test_a_budgets_window_is_of_the_utc_calendar(per: Per, days: tuple[str, str], renews_at: str | None) -> None:
    now = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    budget = Budget(NUSD, per, ("a",), formerly=("b",))
    assert (budget.days(now), budget.renews_at(now)) == (days, renews_at)
    assert budget.counted == ("a", "b")
    assert (budget.covers("a"), budget.covers("b")) == (True, False)
    state = budget.state("t", NUSD // 4, NUSD // 4, NUSD, now)
    assert state.left_nusd == 0
    assert state.name.endswith("for a")


LINE = Spend("2026-01-01", "t", "g", "m", calls=2, cost_nusd=NUSD)


@pytest.mark.parametrize(
    ("fields", "cost", "bounded"),
    [
        ({}, "$1", "$1"),
        ({"unpriced": 1, "held_nusd": NUSD}, "≥ $1", "≥ $1, at most $2"),
        ({"unpriced": 1, "unbounded": 1}, "≥ $1", "≥ $1"),
        ({"unpriced": 1, "unbounded": 1, "cost_nusd": 0}, "unknown", "unknown"),
    ],
)
def test_an_unknown_cost_is_never_nothing(fields: dict[str, int], cost: str, bounded: str) -> None:
    line = replace(LINE, **fields)  # type: ignore[arg-type]  # figures, by name
    assert (line.cost, line.bounded_cost) == (cost, bounded)
    assert (line.as_dict()["cost_usd"] is None) is (cost == "unknown")


def test_lines_are_summed_by_a_dimension_and_in_all() -> None:
    lines = [LINE, replace(LINE, day="2026-01-02", model="n", cost_nusd=3 * NUSD)]
    [total] = summed(lines)
    assert (total.calls, total.cost_nusd, total.model) == (4, 4 * NUSD, "")
    assert [line.model for line in summed(lines, "model")] == ["n", "m"]
    assert [line.day for line in summed(lines, "day")] == ["2026-01-01", "2026-01-02"]
    assert summed([]) == []


CALL = Call(
    id="1",
    time="2026-01-31T10:00:00.000001Z",
    tenant="t",
    group_asked="g",
    group_served=None,
    model=None,
    charges=(Charge("g", "m", 1, 2, 0, None, most_nusd=5),),
    cost_nusd=None,
    duration_ms=3,
    outcome="cancelled",
    attempts=1,
)


def test_a_call_comes_back_from_its_json_form() -> None:
    assert read_call(json.dumps(asdict(CALL)).encode()) == CALL


@pytest.mark.parametrize(
    "fields",
    [
        {"duration_ms": -1},
        {"cost_nusd": MOST_NUSD + 1},
        {"model": "a\0b"},
        {"tenant": "no such tenant"},
        {"time": "yesterday"},
        {"time": "20260131T100000"},
        {"unknown": 1},
    ],
)
def test_what_cannot_have_been_a_call_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        read_call(json.dumps(asdict(CALL) | fields).encode())
