"""Findings: what becomes a fault, what a warning, and in which words."""

from __future__ import annotations

import pytest

from konstruct_mcp.config.findings import Findings, is_nothing, suggestion
from konstruct_mcp.config.sections import BudgetSettings, KonstructSettings, RouterSettings
from konstruct_mcp.core.budgets import Budget
from konstruct_mcp.core.money import NUSD


def test_a_flaw_is_a_fault_in_a_needed_key_and_a_loss_elsewhere() -> None:
    findings = Findings()
    section = {"usd": "much", "per": "day"}

    assert findings.parse(BudgetSettings, section, "budgets[0]") is None
    assert findings.faults == ["budgets[0].usd: should be a number of US dollars"]
    assert findings.lost == []

    read = findings.parse(RouterSettings, {"num_retries": "x", "cooldown_time": 3}, "router_settings", needed=())
    assert read is not None
    assert (read.num_retries, read.cooldown_time) == (None, 3)
    assert len(findings.faults) == 1
    assert findings.lost[0].startswith("router_settings.num_retries: ")
    assert findings.lost[0].endswith("; left out")


def test_a_flaw_names_the_variable_that_the_value_came_from_and_not_the_value() -> None:
    findings = Findings()
    findings.parse(KonstructSettings, {"timeout_s": "SECRET"}, "konstruct", {"timeout_s": "PATIENCE"})
    [fault] = findings.faults
    assert fault.startswith("konstruct.timeout_s (PATIENCE): ")
    assert "SECRET" not in fault


def test_an_unknown_key_of_ours_is_a_fault_with_a_suggestion() -> None:
    findings = Findings()
    findings.parse(KonstructSettings, {"max_quue": 3, "zzz": 1}, "konstruct")
    assert findings.faults == [
        "konstruct.max_quue: unknown key; did you mean max_queue?",
        "konstruct.zzz: unknown key",
    ]


def test_no_more_than_a_hundred_faults_are_kept() -> None:
    findings = Findings()
    for position in range(150):
        findings.fault(f"model_list[{position}]", "wrong")
    assert len(findings.faults) == 100


def test_places_that_have_the_same_in_many_entries_are_one() -> None:
    findings = Findings()
    findings.idle = [f"model_list[{position}].litellm_params.user" for position in range(3)] + ["general_settings"]
    assert findings.warnings({}, {}, ()) == (
        "no effect here: litellm_params.user of 3 entries of model_list, general_settings",
    )


def test_a_spending_limit_that_no_budget_covers_is_the_first_warning_and_named_once() -> None:
    findings = Findings(["something is left out"])
    findings.idle = ["litellm_settings.max_budget", "litellm_settings.budget_duration"]
    document = {"litellm_settings": {"max_budget": 5, "budget_duration": "1d"}}

    limit, lost = findings.warnings(document, {}, ())
    assert "litellm_settings.max_budget" in limit
    assert "konstruct.budgets: [{usd: 5, per: day}]" in limit
    assert lost == "something is left out"

    covered = findings.warnings(document, {}, [Budget(4 * NUSD, "total")])
    assert covered == ("something is left out",)


def test_a_time_out_that_the_whole_call_does_not_reach_is_named() -> None:
    findings = Findings()
    findings.time_outs = [("a.timeout", 10.0), ("b.timeout", 400.0)]
    findings.check_time_outs(300.0)
    assert findings.lost == ["longer than konstruct.timeout_s (300 s), which ends the whole call: b.timeout"]


@pytest.mark.parametrize(
    ("value", "nothing"), [(None, True), (False, True), ("", True), ([], True), ({}, True), (0, False), ("no", False)]
)
def test_what_turns_nothing_on_is_no_loss(value: object, nothing: bool) -> None:
    assert is_nothing(value) is nothing


def test_a_suggestion_has_to_be_like_the_word() -> None:
    assert suggestion("modle_list", ["model_list", "konstruct"]) == "model_list"
    assert suggestion("prices", ["model_list", "konstruct"]) is None
