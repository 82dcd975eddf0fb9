"""What one call costs, try by try."""

from __future__ import annotations

from fractions import Fraction

import pytest

from konstruct_mcp.config.model import Deployment, Tenant
from konstruct_mcp.core.budgets import BudgetState, Grant, Quote
from konstruct_mcp.core.money import NUSD
from konstruct_mcp.core.results import Usage
from konstruct_mcp.gateway.account import Account
from konstruct_mcp.gateway.budget_refusals import budget_refusal
from konstruct_mcp.providers.tried import Reply, Tried
from konstruct_mcp.routing.outcomes import Answer, Fault, FaultKind
from konstruct_mcp.routing.walk import Try

PAID = Deployment(id="paid/1", group="paid", name="openai/x", model="openai/x", params={"model": "openai/x"})
ATTEMPT = Try(PAID, "paid", 0, 1)
ANSWERED = Tried(Answer(0.1, 18), Reply("well", (), "stop"), Usage(11, 7, 3), 0.000025)
BROKEN = Tried(Fault(FaultKind.TIMEOUT, "within 1 s"))
REFUSED = Tried(Fault(FaultKind.SERVER_ERROR, "HTTP 500"))


def account() -> Account:
    return Account(Tenant("acme", ("paid",)), "asked")


def add(
    to: Account, tried: Tried | None, *, free: bool = False, grant: Grant | None = None, bound: int | None = None
) -> None:
    to.add(ATTEMPT, tried, free=free, grant=grant, bound=lambda: bound)


def test_an_answer_is_charged_what_its_provider_counted() -> None:
    made = account()
    add(made, ANSWERED)
    row = made.closed()
    assert (row.tenant, row.group_asked, row.group_served, row.model) == ("acme", "asked", "paid", "openai/x")
    assert (row.cost_nusd, row.attempts, row.outcome, row.reserved) == (25_000, 1, "ok", False)
    assert [(charge.input_tokens, charge.output_tokens, charge.cached_tokens) for charge in row.charges] == [(11, 7, 3)]


@pytest.mark.parametrize("tried", [None, REFUSED], ids=["never begun", "refused"])
def test_a_try_that_nobody_bills_is_counted_and_costs_nothing(tried: Tried | None) -> None:
    made = account()
    add(made, tried)
    row = made.closed()
    assert (row.attempts, row.charges, row.cost_nusd) == (1, (), 0)


def test_a_try_that_may_be_billed_makes_the_cost_unknown_up_to_its_bound() -> None:
    made = account()
    add(made, BROKEN, bound=40_000)
    add(made, ANSWERED)
    row = made.closed()
    assert (row.cost_nusd, row.most_nusd, row.attempts) == (None, 65_000, 2)


def test_nothing_is_known_of_the_most_where_one_try_has_no_bound() -> None:
    made = account()
    add(made, BROKEN, bound=None)
    add(made, ANSWERED)
    assert made.closed().most_nusd is None


def test_what_costs_nothing_costs_nothing_however_it_ends() -> None:
    made = account()
    add(made, BROKEN, free=True)
    add(made, ANSWERED, free=True)
    assert made.closed().cost_nusd == 0


def test_a_count_beyond_what_was_reserved_is_not_believed() -> None:
    made = account()
    add(made, ANSWERED, grant=Grant(20_000, 5, 20))
    row = made.closed()
    assert (row.cost_nusd, row.most_nusd) == (None, 20_000)
    completion = made.completion(ANSWERED.reply or Reply("", (), "stop"), ANSWERED, ATTEMPT, ())
    assert completion.cost_usd is None
    assert completion.at_most_usd == 20_000 / NUSD
    assert completion.notes == ("usage unknown: openai/x has counted more than was reserved for it",)


def test_a_reservation_replaces_those_of_earlier_tries_but_for_what_was_counted() -> None:
    made, quote = account(), Quote(20, Fraction(1), Fraction(1), 100, fixed=False)
    first = made.reservation(ATTEMPT, quote, (), 5)
    add(made, REFUSED, grant=Grant(1, 1, 1))
    second = made.reservation(ATTEMPT, quote, (), 5)
    add(made, ANSWERED, grant=Grant(30_000, 50, 20))
    third = made.reservation(ATTEMPT, quote, (), 5)
    assert [(one.attempt, one.kept) for one in (first, second, third)] == [(1, ()), (2, ()), (3, (2,))]
    assert first.call_id == third.call_id


class TestARefusalByABudget:
    QUOTE = Quote(10, Fraction(100), Fraction(50), 100, fixed=False)

    def said(self, spent_nusd: int, *, limit_nusd: int = 1_000_000, renews_at: str | None = "2026-12-01") -> str:
        state = BudgetState("acme", limit_nusd, "day", (), spent_nusd, 0, renews_at)
        return budget_refusal(PAID, self.QUOTE, state, 40)

    def test_says_how_long_an_answer_it_affords_and_when_it_renews(self) -> None:
        said = self.said(1_000_000 - 600)
        assert "does not afford openai/x: with 40 tokens of an answer" in said
        assert said.endswith("it renews at 2026-12-01; ask for max_tokens of 10 or less")

    def test_says_where_the_whole_of_it_would_not_do(self) -> None:
        said = self.said(0, limit_nusd=1_000)
        assert said.endswith("not even the whole of it would; ask for max_tokens of 18 or less")

    def test_says_that_it_does_not_renew(self) -> None:
        assert self.said(1_000_000, renews_at=None).endswith("left $0; it does not renew")
