"""Why a budget does not afford a try, in words for whoever called."""

from __future__ import annotations

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.budgets import BudgetState, Quote, Shortfall
from konstruct_mcp.core.money import dollars


def budget_refusal(deployment: Deployment, quote: Quote, budget: BudgetState, min_tokens: int) -> str:
    """Why a budget does not afford a try, and what would help."""
    tokens = _tokens(quote, min_tokens)
    most, affordable = quote.most_nusd(tokens), quote.affordable(budget.left_nusd)
    if most > budget.limit_nusd:
        renews = "; not even the whole of it would"
    else:
        renews = f"; it renews at {budget.renews_at}" if budget.renews_at else "; it does not renew"
    advice = f"; ask for max_tokens of {affordable} or less" if affordable >= 1 else ""
    held = f", held for tries of unknown cost {dollars(budget.held_nusd)}" if budget.held_nusd else ""
    return (
        f"the budget of {budget.name} does not afford {deployment.name}: with {tokens} tokens of an answer the call "
        f"can cost {dollars(most)}; spent {dollars(budget.spent_nusd)}{held}, reserved by calls under way "
        f"{dollars(budget.reserved_nusd)}, left {dollars(budget.left_nusd)}{renews}{advice}"
    )


def shortfall(quote: Quote, budget: BudgetState, min_tokens: int) -> Shortfall:
    """The same in figures."""
    will_do = quote.most_nusd(_tokens(quote, min_tokens)) <= budget.limit_nusd
    return Shortfall(budget.left_nusd, budget.renews_at if will_do else None)


def _tokens(quote: Quote, min_tokens: int) -> int:
    """The shortest answer that would do."""
    return quote.max_tokens if quote.fixed else min(min_tokens, quote.max_tokens)
