"""The health of deployments by itself: who is told of a change, what a new config keeps, and what a key gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.events import HealthChange
from konstruct_mcp.routing.health import Health, MemoryHealthStore
from konstruct_mcp.routing.outcomes import Fault, FaultKind
from konstruct_mcp.routing.routes import fingerprint

ONE = Deployment(id="a/1", group="a", name="openai/x", model="openai/x", params={"model": "openai/x"}, cooldown_s=30)
TWIN = replace(ONE, id="b/1", group="b")
DOWN = Fault(FaultKind.CONNECTION, "refused", sent=False)
MAYBE_OWN = Fault(FaultKind.SERVER_ERROR, "HTTP 500")


ENTRIES = ("a/1", "b/1")  # which have the same parameters, and so the same health


class World:
    def __init__(self, store: MemoryHealthStore | None = None, deployments: Sequence[Deployment] = (ONE, TWIN)) -> None:
        self.now = 1000.0
        self.changes: list[HealthChange] = []
        self.store = store or MemoryHealthStore()
        self.health = Health(
            {one.id: fingerprint(one.params) for one in deployments},
            clock=lambda: self.now,
            allowed_fails=1,
            store=self.store,
            on_change=self.changes.append,
        )

    def fail(self, fault: Fault, times: int = 2, tenant: str | None = None) -> None:
        for _ in range(times):
            self.health.failed(ONE, fault, tenant)


def test_a_change_is_told_once_and_so_is_its_end() -> None:
    world = World()
    world.fail(DOWN, times=5)
    world.now += 31
    world.fail(DOWN)
    assert world.changes == [HealthChange("a/1", ENTRIES, "a", "cooling_down", "connection failed (refused)", 30, None)]
    world.health.answered(TWIN)  # which is the same model with the same parameters
    world.health.answered(ONE)
    assert world.changes[1:] == [HealthChange("b/1", ENTRIES, "b", "ready", "connection failed (refused)", None, None)]


def test_what_held_for_one_tenant_is_told_again_when_it_holds_for_all() -> None:
    world = World()
    world.fail(MAYBE_OWN, tenant="one")
    world.fail(MAYBE_OWN, tenant="one")
    world.fail(MAYBE_OWN, times=1, tenant="other")
    assert [(change.state, change.tenant) for change in world.changes] == [
        ("cooling_down", "one"),
        ("cooling_down", None),
    ]
    world.health.answered(ONE)
    assert [(change.state, change.tenant) for change in world.changes[2:]] == [("ready", None)]


def test_one_that_fails_less_than_that_changes_nothing() -> None:
    world = World()
    world.fail(DOWN, times=1)
    world.health.answered(ONE)
    assert world.changes == []


def test_a_new_config_keeps_the_records_of_what_it_keeps() -> None:
    before = World()
    before.fail(DOWN)
    after = World(before.store.of_these([fingerprint(ONE.params)]), [replace(ONE, id="new/7")])
    assert after.health.cooling(replace(ONE, id="new/7")) == 30
    before.health.answered(ONE)  # by a call that was under way
    assert after.health.cooling(replace(ONE, id="new/7")) <= 0
    assert World(before.store.of_these([]), [ONE]).health.last_fault(ONE) == ""


class TestAProbe:
    def test_tells_those_who_wait_for_it_once_however_it_ends(self) -> None:
        world, told = World(), list[str]()
        world.health.begin_probe(ONE)
        world.health.when_probe_ends(TWIN, lambda: told.append("first"))
        take_back = world.health.when_probe_ends(ONE, lambda: told.append("second"))
        take_back()
        assert told == []
        world.health.end_probe(ONE, None)
        world.health.begin_probe(ONE)
        world.health.end_probe(ONE, DOWN)
        take_back()
        assert told == ["first"]

    def test_that_nobody_makes_is_over_already(self) -> None:
        told: list[str] = []
        World().health.when_probe_ends(ONE, lambda: told.append("over"))
        assert told == ["over"]


PARAMS: dict[str, Any] = {"model": "openai/x", "api_key": "sk-very-secret", "temperature": 1, "stop": ["a", "b"]}


class TestAFingerprint:
    def test_is_the_same_for_what_is_asked_alike(self) -> None:
        alike = dict(reversed(PARAMS.items())) | {"temperature": 1.0, "stop": ("a", "b")}
        assert fingerprint(alike) == fingerprint(PARAMS)

    @pytest.mark.parametrize(
        "other",
        [
            {"api_key": "sk-another"},
            {"temperature": 0.5},
            {"stop": ["b", "a"]},
            {"stop": "ab"},
            {"extra": None},
            {"n": 1},
        ],
        ids=str,
    )
    def test_is_another_for_what_is_not(self, other: dict[str, Any]) -> None:
        assert fingerprint(PARAMS | other) != fingerprint(PARAMS)

    def test_shows_no_secret(self) -> None:
        shown = fingerprint(PARAMS)
        assert len(shown) == 64
        assert set(shown) <= set("0123456789abcdef")

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one, max_size=3)))
    def test_tells_any_two_values_apart(self, value: Any) -> None:
        assert fingerprint({"a": value}) != fingerprint({"a": [value]})
        assert fingerprint({"a": value}) == fingerprint({"a": value})
