"""The order of tries, as plain code: no network, no litellm, and a clock that the test turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from konstruct_mcp.config.model import Config, Deployment, Group, LedgerPlace, RoutingStrategy
from konstruct_mcp.core import errors
from konstruct_mcp.core.budgets import Shortfall
from konstruct_mcp.core.results import Attempt
from konstruct_mcp.routing.facts import Facts, Needs
from konstruct_mcp.routing.outcomes import Answer, Fault, FaultKind, TryResult
from konstruct_mcp.routing.routes import Routes
from konstruct_mcp.routing.walk import Hold, Try, Walk

K = FaultKind
Outcome = Answer | Fault
OK = Answer(latency_s=0.1, tokens=10)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def dep(group: str, n: int, **fields: object) -> Deployment:
    model = f"openai/{group}-{n}"
    made = Deployment(id=f"{group}/{n}", group=group, name=model, model=model, params={"model": model}, order=n)
    return replace(made, **fields)  # type: ignore[arg-type]  # the fields of a Deployment, by name


def conf(groups: Sequence[Group], **fields: object) -> Config:
    made = Config(
        source="a test",
        file=None,
        groups={group.name: group for group in groups},
        default_group=groups[0].name,
        default_tenant="default",
        known_tenant=None,
        tenants={},
        allow_unknown=True,
        budgets=(),
        budget_fallback=None,
        min_answer_tokens=256,
        ledger=LedgerPlace("sqlite:////dev/null/none", Path("/dev/null/none")),
        timeout_s=300,
        max_concurrency=200,
        max_queue=1000,
        max_result_chars=100_000,
        max_response_bytes=64_000_000,
        allowed_fails=2,
        routing_strategy="latency-based-routing",
        warnings=(),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


class World:
    """Routes over a config, and a way to walk them: `answers` says how each deployment's tries go."""

    def __init__(self, config: Config, facts: Mapping[str, Facts] | None = None) -> None:
        self.config = config
        self.clock = Clock()
        ids = [d.id for group in config.groups.values() for d in group.deployments]
        self.routes = Routes(
            config,
            {i: (facts or {}).get(i, Facts()) for i in ids},
            clock=self.clock,
            rng=random.Random(7),
            report=lambda line: self.reports.append(line),
        )
        self.reports: list[str] = []
        self.asked: list[str] = []
        self.waits: list[float] = []
        self.limits: list[float] = []

    def walk(
        self,
        group: str,
        answers: Mapping[str, Outcome | Callable[[], Outcome]],
        needs: Needs = Needs(),  # frozen
        timeout: float = 300,
        tenant: str | None = None,
        preferred: str | None = None,
    ) -> Walk | str:
        """Walk to the end: the id of the deployment that answered, or the walk if none did."""
        walk = Walk(self.routes, group, needs, self.clock.now + timeout, tenant=tenant, preferred=preferred)
        tries = walk.tries()
        self.asked, self.waits, self.limits = [], [], []
        outcome: Outcome | None = None
        while True:
            try:
                attempt = tries.send(result(outcome))
            except StopIteration:
                return self.asked[-1] if isinstance(outcome, Answer) else walk
            self.clock.now += attempt.wait_s
            if isinstance(attempt, Hold):
                assert attempt.probed is None  # there is no other call
                outcome = None
                continue
            deployment = attempt.deployment
            self.asked.append(deployment.id)
            self.waits.append(attempt.wait_s)
            answer = answers.get(deployment.id, OK)
            self.limits.append(attempt.limit_s)
            outcome = answer() if callable(answer) else answer


Steps = Generator[Try | Hold, TryResult | None, None]


def result(outcome: Outcome | None) -> TryResult | None:
    """What a driver sends back for a try that took a millisecond, or for a hold."""
    return None if outcome is None else TryResult(outcome, 0.001)


def step(tries: Steps, outcome: Outcome | None = None) -> str:
    """The id of the deployment that is to be asked next."""
    attempt = tries.send(result(outcome))
    assert isinstance(attempt, Try)
    return attempt.deployment.id


class Waiting:
    """A driver that waits for the probe of a hold, and is told when it is over."""

    def __init__(self, routes: Routes, hold: Try | Hold) -> None:
        assert isinstance(hold, Hold)
        assert hold.probed is not None
        self.is_over = False
        routes.health.when_probe_ends(hold.probed, self.end)

    def end(self) -> None:
        self.is_over = True


def quality_and_fast(**fields: object) -> Config:
    return conf(
        [
            Group("quality", "", (dep("quality", 1), dep("quality", 2)), fallbacks=("fast",)),
            Group("fast", "", (dep("fast", 1),)),
        ],
        **fields,
    )


def test_the_lowest_order_answers_every_time_even_if_another_is_faster() -> None:
    world = World(quality_and_fast())
    slow = Answer(latency_s=9, tokens=1)
    assert [world.walk("quality", {"quality/1": slow}) for _ in range(30)] == ["quality/1"] * 30


@pytest.mark.parametrize("kind", [K.RATE_LIMITED, K.SERVER_ERROR, K.CONNECTION])
def test_what_a_retry_can_cure_gets_all_its_tries_before_the_next_deployment(kind: FaultKind) -> None:
    world = World(quality_and_fast())
    assert world.walk("quality", {"quality/1": Fault(kind)}) == "quality/2"
    assert world.asked == ["quality/1"] * 3 + ["quality/2"]


@pytest.mark.parametrize("kind", [K.TIMEOUT, K.AUTH, K.QUOTA, K.NOT_FOUND, K.BAD_ANSWER, K.UNREADY])
def test_what_a_retry_cannot_cure_moves_on_at_once(kind: FaultKind) -> None:
    world = World(quality_and_fast())
    assert world.walk("quality", {"quality/1": Fault(kind)}) == "quality/2"
    assert world.asked == ["quality/1", "quality/2"]


def test_the_waits_between_tries_grow_and_are_jittered() -> None:
    world = World(quality_and_fast())
    world.walk("quality", {"quality/1": Fault(K.SERVER_ERROR)})
    first, second = world.waits[1:3]
    assert world.waits[0] == 0 == world.waits[3]
    assert 0.125 <= first <= 0.25 <= second <= 0.5


def test_fallback_groups_come_last_and_transitively() -> None:
    groups = [
        Group("a", "", (dep("a", 1),), fallbacks=("b",)),
        Group("b", "", (dep("b", 1),), fallbacks=("c",)),
        Group("c", "", (dep("c", 1),)),
    ]
    world = World(conf(groups))
    down = Fault(K.TIMEOUT)
    assert world.walk("a", {"a/1": down, "b/1": down}) == "c/1"


def test_the_same_model_at_the_same_address_is_asked_once_a_call() -> None:
    twin = {"model": "ollama/x", "api_base": "http://a"}
    groups = [
        Group("a", "", (dep("a", 1, params=twin),), fallbacks=("b",)),
        Group("b", "", (dep("b", 1, params=twin), dep("b", 2))),
    ]
    world = World(conf(groups))
    assert world.walk("a", {"a/1": Fault(K.CONNECTION)}) == "b/2"
    assert world.asked == ["a/1"] * 3 + ["b/2"]
    assert world.routes.state(groups[1].deployments[0])[0] == "cooling_down"


def test_when_all_fail_the_error_names_each_and_why() -> None:
    world = World(quality_and_fast())
    walk = world.walk(
        "quality",
        {
            "quality/1": Fault(K.SERVER_ERROR, "HTTP 500"),
            "quality/2": Fault(K.AUTH, "HTTP 401"),
            "fast/1": Fault(K.TIMEOUT),
        },
    )
    assert isinstance(walk, Walk)
    error = walk.failure()
    assert isinstance(error, errors.AllFailedError)
    assert str(error) == (
        'all_failed: no deployment of "quality" or its fallbacks answered: openai/quality-1: server error (HTTP 500), '
        "3 tries; openai/quality-2: key refused (HTTP 401); openai/fast-1: no answer in time; "
        "try again later or use another group"
    )
    assert len(error.attempts) == 5


def test_a_walk_records_each_failed_try_and_how_long_it_took() -> None:
    world = World(quality_and_fast())
    walk = Walk(world.routes, "quality", Needs(), world.clock.now + 300)
    tries = walk.tries()
    step(tries)
    tries.send(TryResult(Fault(K.SERVER_ERROR, "HTTP 500"), 0.2504))
    tries.send(TryResult(Fault(K.AUTH), 2))
    assert walk.attempts == (
        Attempt("openai/quality-1", "server error (HTTP 500)", 250),
        Attempt("openai/quality-1", "key refused", 2000),
    )


def test_a_bad_request_goes_nowhere_else() -> None:
    world = World(quality_and_fast())
    walk = world.walk("quality", {"quality/1": Fault(K.BAD_REQUEST, "HTTP 400", reason="temperature is too high")})
    assert isinstance(walk, Walk)
    assert world.asked == ["quality/1"]
    assert str(walk.failure()) == "bad_request: openai/quality-1 refused the request: temperature is too high"


def test_a_requests_own_fault_does_not_cool_a_deployment() -> None:
    world = World(quality_and_fast())
    for _ in range(9):
        world.walk("quality", {"quality/1": Fault(K.BAD_REQUEST)})
    assert world.routes.state(world.config.groups["quality"].deployments[0]) == ("ready", None)


class TestCooldown:
    def test_it_is_passed_over_after_too_many_failed_tries_and_found_again_afterwards(self) -> None:
        world = World(quality_and_fast())
        down = {"quality/1": Fault(K.CONNECTION)}
        world.walk("quality", down)  # three failed tries, one more than allowed
        assert world.walk("quality", down) == "quality/2"
        assert world.asked == ["quality/2"]
        world.clock.now += 31
        assert world.walk("quality", {}) == "quality/1"

    def test_a_success_wipes_the_slate(self) -> None:
        world = World(quality_and_fast())
        for _ in range(5):
            world.walk("quality", {"quality/1": Fault(K.BAD_ANSWER)})
            world.walk("quality", {})
        assert world.walk("quality", {}) == "quality/1"

    def test_failures_older_than_a_minute_do_not_count(self) -> None:
        world = World(quality_and_fast())
        for _ in range(9):
            assert world.walk("quality", {"quality/1": Fault(K.TIMEOUT)}) == "quality/2"
            assert world.asked[0] == "quality/1"
            world.clock.now += 35

    def test_one_failure_after_a_cooldown_cools_again(self) -> None:
        world = World(quality_and_fast())
        world.walk("quality", {"quality/1": Fault(K.CONNECTION)})
        world.clock.now += 31
        world.walk("quality", {"quality/1": Fault(K.TIMEOUT)})
        assert world.walk("quality", {}) == "quality/2"

    def test_its_state_says_why_and_how_long(self) -> None:
        world = World(quality_and_fast())
        world.walk("quality", {"quality/1": Fault(K.RATE_LIMITED, "HTTP 429")})
        assert world.routes.state(world.config.groups["quality"].deployments[0]) == (
            "cooling_down",
            "rate limited (HTTP 429); tried again in 30 s",
        )

    def test_it_is_reported_once_and_so_is_its_end(self) -> None:
        world = World(quality_and_fast())
        for _ in range(5):
            world.walk("quality", {"quality/1": Fault(K.SERVER_ERROR, "HTTP 500")})
            world.clock.now += 31
        assert world.reports == [
            "openai/quality-1 (quality): server error (HTTP 500); passed over for 30 s or until it is back"
        ]
        world.walk("quality", {})
        world.walk("quality", {})
        assert world.reports[1:] == ["openai/quality-1 (quality): answers again"]

    def test_one_that_comes_and_goes_all_the_time_is_reported_now_and_then(self) -> None:
        world = World(conf([Group("a", "", (dep("a", 1, cooldown_s=0.1),))]))
        down = {"a/1": Fault(K.SERVER_ERROR)}
        for _ in range(20):
            world.walk("a", down)
            world.clock.now += 0.1
            world.walk("a", {})
        assert len(world.reports) == 6
        world.clock.now += 61
        world.walk("a", down)
        assert len(world.reports) == 7

    def test_an_impatient_caller_finds_nothing_out_about_it(self) -> None:
        world = World(quality_and_fast())
        for _ in range(5):
            world.walk("quality", {"quality/1": Fault(K.TIMEOUT, waited_s=0.05)})
        assert world.walk("quality", {}) == "quality/1"

    def test_calls_under_way_take_the_word_of_others_while_somebody_else_is_left(self) -> None:
        world = World(quality_and_fast())
        down = Fault(K.SERVER_ERROR)
        calls = [Walk(world.routes, "quality", Needs(), world.clock.now + 300).tries() for _ in range(10)]
        assert [step(call) for call in calls] == ["quality/1"] * 10
        assert [step(call, down) for call in calls] == ["quality/1"] * 3 + ["quality/2"] * 7
        assert [step(call, down) for call in calls[:3]] == ["quality/2"] * 3

    async def test_where_nobody_else_is_left_they_share_their_retries(self) -> None:
        world = World(conf([Group("a", "", (dep("a", 1),))]))
        down = Fault(K.SERVER_ERROR)
        calls = [Walk(world.routes, "a", Needs(), world.clock.now + 300).tries() for _ in range(10)]
        assert [step(call) for call in calls] == ["a/1"] * 10
        waiting = [call.send(result(down)) for call in calls]
        assert [isinstance(one, Hold) for one in waiting] == [False] * 3 + [True] * 7
        world.clock.now += 1
        assert step(calls[3]) == "a/1"  # for them all
        held = [call.send(None) for call in calls[4:]]
        assert all(isinstance(one, Hold) and one.probed is not None for one in held)
        with pytest.raises(StopIteration):
            calls[3].send(result(OK))
        assert [step(call) for call in calls[4:]] == ["a/1"] * 6

    async def test_a_shared_retry_that_is_given_up_is_taken_up_by_one_of_the_others(self) -> None:
        world = World(conf([Group("a", "", (dep("a", 1),))]))
        calls = [Walk(world.routes, "a", Needs(), world.clock.now + 300).tries() for _ in range(7)]
        assert [step(call) for call in calls] == ["a/1"] * 7
        for call in calls:
            call.send(result(Fault(K.SERVER_ERROR)))
        world.clock.now += 1
        first, second, *others = calls[3:]
        assert step(first) == "a/1"
        assert all(isinstance(call.send(None), Hold) for call in (second, *others))
        first.close()
        assert step(second) == "a/1"
        waiting = [Waiting(world.routes, call.send(None)) for call in others]
        with pytest.raises(StopIteration):
            second.send(result(OK))
        assert all(one.is_over for one in waiting)

    def test_a_config_that_keeps_a_deployment_keeps_its_health(self) -> None:
        world = World(quality_and_fast())
        world.walk("quality", {"quality/1": Fault(K.AUTH, "HTTP 401")})
        world.walk("quality", {"quality/1": Fault(K.AUTH, "HTTP 401")})
        world.walk("quality", {"quality/1": Fault(K.AUTH, "HTTP 401")})
        moved = conf([Group("new", "", (dep("new", 1), dep("quality", 1)))])
        routes = Routes(moved, {"new/1": Facts(), "quality/1": Facts()}, clock=world.clock, earlier=world.routes)
        assert [routes.state(one)[0] for one in moved.groups["new"].deployments] == ["ready", "cooling_down"]


class TestLookingAgain:
    """Everything that could answer has failed and is cooling down; it may be back."""

    DOWN = Fault(K.CONNECTION)

    def world(self, size: int = 2) -> World:
        world = World(conf([Group("a", "", tuple(dep("a", n + 1) for n in range(size)))]))
        world.walk("a", {f"a/{n + 1}": self.DOWN for n in range(size)})
        assert {world.routes.state(one)[0] for one in world.config.groups["a"].deployments} == {"cooling_down"}
        return world

    def call(self, world: World) -> Steps:
        return Walk(world.routes, "a", Needs(), world.clock.now + 300).tries()

    def test_a_call_asks_each_once_in_order_and_the_first_that_is_back_answers(self) -> None:
        world = self.world(3)
        assert world.walk("a", {"a/1": self.DOWN}) == "a/2"
        assert world.asked == ["a/1", "a/2"]

    def test_so_does_one_that_has_seen_the_rest_fail(self) -> None:
        world = World(quality_and_fast())
        world.walk("quality", {"quality/1": self.DOWN})
        down = {"quality/2": self.DOWN, "fast/1": self.DOWN}
        assert world.walk("quality", down) == "quality/1"
        assert world.asked == ["quality/2"] * 3 + ["fast/1"] * 3 + ["quality/1"]

    def test_two_calls_ask_different_ones(self) -> None:
        world = self.world()
        calls = [self.call(world) for _ in range(2)]
        assert [step(call) for call in calls] == ["a/1", "a/2"]

    async def test_the_others_wait_for_what_it_finds_and_go_on_by_that(self) -> None:
        world = self.world(1)
        asking, waiting, third = (self.call(world) for _ in range(3))
        assert step(asking) == "a/1"
        holds = [Waiting(world.routes, call.send(None)) for call in (waiting, third)]
        assert [hold.is_over for hold in holds] == [False, False]
        with pytest.raises(StopIteration):
            asking.send(result(OK))
        assert [hold.is_over for hold in holds] == [True, True]
        assert [step(waiting), step(third)] == ["a/1", "a/1"]

    async def test_where_it_is_still_down_they_wait_for_a_look_that_is_due_soon_and_are_told_so(self) -> None:
        world = self.world(1)
        walk = Walk(world.routes, "a", Needs(), world.clock.now + 300)
        asking, waiting = self.call(world), walk.tries()
        step(asking)
        assert isinstance(next(waiting), Hold)
        with pytest.raises(StopIteration):
            asking.send(result(self.DOWN))
        due = waiting.send(None)
        assert isinstance(due, Hold)
        assert due.wait_s == pytest.approx(0.1)
        world.clock.now += due.wait_s
        assert step(waiting) == "a/1"
        with pytest.raises(StopIteration):
            waiting.send(result(self.DOWN))
        assert str(walk.failure()).startswith('all_failed: no deployment of "a" or its fallbacks answered: ')
        world.walk("a", {"a/1": self.DOWN})  # 0.2 s later
        other = Walk(world.routes, "a", Needs(), world.clock.now + 300)
        assert list(other.tries()) == []
        assert str(other.failure()) == (
            'unavailable: nothing in "a" or its fallbacks can be called now: openai/a-1: not tried, connection failed; '
            "tried again in 30 s; try again later or use another group"
        )

    async def test_a_call_that_is_given_up_leaves_it_to_the_next(self) -> None:
        world = self.world(1)
        asking, waiting = self.call(world), self.call(world)
        step(asking)
        assert isinstance(next(waiting), Hold)
        asking.close()
        assert step(waiting) == "a/1"

    def test_an_outage_costs_fewer_and_fewer_tries_and_its_end_is_seen_within_a_second(self) -> None:
        world = self.world(1)
        tries = []
        for tenth in range(100):
            world.walk("a", {"a/1": self.DOWN})
            if world.asked:
                tries.append(tenth)
            world.clock.now += 0.1
        assert tries[:5] == [0, 1, 2, 4, 10]
        assert len(tries) < 20
        world.clock.now += 1
        assert world.walk("a", {}) == "a/1"

    async def test_one_that_is_ready_again_is_not_kept_waiting_for_by_a_look_that_hangs(self) -> None:
        world = self.world(2)
        hanging, finding, waiting = (self.call(world) for _ in range(3))
        assert [step(hanging), step(finding)] == ["a/1", "a/2"]
        assert isinstance(waiting.send(None), Hold)
        with pytest.raises(StopIteration):
            finding.send(result(OK))
        assert step(waiting) == "a/2"

    async def test_a_look_that_takes_longer_than_a_failure_did_keeps_nobody_waiting(self) -> None:
        world = self.world(1)
        asking, waiting = self.call(world), self.call(world)
        step(asking)
        hold = waiting.send(None)
        assert isinstance(hold, Hold)
        world.clock.now += 1
        assert step(waiting) == "a/1"

    async def test_but_where_it_used_to_hang_the_others_wait(self) -> None:
        world = World(conf([Group("a", "", (dep("a", 1),))]))
        world.walk("a", {"a/1": Fault(K.TIMEOUT, waited_s=120)})
        asking, waiting = self.call(world), self.call(world)
        step(asking)
        for _ in range(40):
            hold = waiting.send(None)
            assert isinstance(hold, Hold)
            world.clock.now += hold.wait_s
        assert world.clock.now > 1009

    def test_a_providers_own_word_is_waited_for_and_not_asked_against(self) -> None:
        world = World(conf([Group("a", "", (dep("a", 1),))]))
        world.walk("a", {"a/1": Fault(K.RATE_LIMITED, retry_after_s=20)}, timeout=10)
        began = world.clock.now
        assert isinstance(world.walk("a", {}, timeout=10), Walk)
        assert world.asked == []
        assert world.walk("a", {}, timeout=60) == "a/1"
        assert world.clock.now - began >= 20

    @pytest.mark.parametrize(
        ("kind", "fallbacks", "facts"),
        [
            (K.CONTENT_POLICY, "content_policy_fallbacks", {}),
            (K.CONTEXT_OVERFLOW, "context_window_fallbacks", {"other/1": Facts(context_window=10**9)}),
            (K.BUDGET, "budget_fallback", {"other/1": Facts(free=True)}),
        ],
    )
    @pytest.mark.parametrize("cooling", [["a/1"], ["other/1"], ["a/1", "other/1"], []])
    def test_what_it_finds_leads_on_as_it_would_have_before(
        self, kind: FaultKind, fallbacks: str, facts: dict[str, Facts], cooling: list[str]
    ) -> None:
        behind: dict[str, Any] = {} if fallbacks == "budget_fallback" else {fallbacks: ("other",)}
        more = {"budget_fallback": "other"} if not behind else {}
        groups = [replace(Group("a", "", (dep("a", 1),)), **behind), Group("other", "", (dep("other", 1),))]
        world = World(conf(groups, **more), {"a/1": Facts(context_window=100), **facts})
        for name in cooling:
            world.walk(name.partition("/")[0], {name: self.DOWN, "a/1": self.DOWN})
        assert world.walk("a", {"a/1": Fault(kind)}) == "other/1"
        assert world.asked == ["a/1", "other/1"]

    def test_others_of_the_group_may_cost_less_also_when_they_are_cooling(self) -> None:
        world = self.world(2)
        assert world.walk("a", {"a/1": Fault(K.BUDGET)}) == "a/2"

    def test_it_ends_with_what_is_the_requests_own_fault(self) -> None:
        world = self.world()
        refused = world.walk("a", {"a/1": Fault(K.BAD_REQUEST, reason="no")})
        assert isinstance(refused, Walk)
        assert world.asked == ["a/1"]
        assert isinstance(refused.failure(), errors.BadRequestError)


class TestRetryAfter:
    def test_it_is_honoured_when_it_fits_the_deadline(self) -> None:
        world = World(quality_and_fast())
        outcomes: Iterator[Outcome] = iter([Fault(K.RATE_LIMITED, retry_after_s=20), OK])
        assert world.walk("quality", {"quality/1": lambda: next(outcomes)}) == "quality/1"
        assert world.waits == [0, 20]

    def test_the_next_deployment_is_asked_when_it_does_not_fit(self) -> None:
        world = World(quality_and_fast())
        limited = Fault(K.RATE_LIMITED, retry_after_s=400)
        assert world.walk("quality", {"quality/1": limited}) == "quality/2"
        assert world.waits == [0, 0]
        world.clock.now += 399  # and is left alone until then
        assert world.walk("quality", {}) == "quality/2"
        world.clock.now += 2
        assert world.walk("quality", {}) == "quality/1"

    def test_a_lie_does_not_end_a_deployment(self) -> None:
        world = World(quality_and_fast())
        world.walk("quality", {"quality/1": Fault(K.RATE_LIMITED, retry_after_s=1e12)})
        world.clock.now += 3601
        assert world.walk("quality", {}) == "quality/1"

    def test_no_retry_is_waited_for_past_the_deadline(self) -> None:
        world = World(quality_and_fast())
        assert world.walk("quality", {"quality/1": Fault(K.SERVER_ERROR)}, timeout=0.1) == "quality/2"
        assert world.asked == ["quality/1", "quality/2"]


class TestContextOverflow:
    FACTS = {
        "quality/1": Facts(context_window=200_000),
        "quality/2": Facts(context_window=128_000),
        "fast/1": Facts(context_window=1_000_000),
    }

    def test_it_moves_only_to_a_larger_window(self) -> None:
        world = World(quality_and_fast(), self.FACTS)
        assert world.walk("quality", {"quality/1": Fault(K.CONTEXT_OVERFLOW)}) == "fast/1"
        assert world.asked == ["quality/1", "fast/1"]

    def test_it_is_a_clear_refusal_where_there_is_none(self) -> None:
        world = World(quality_and_fast(), {"quality/1": Facts(context_window=200_000)})
        walk = world.walk("quality", {"quality/1": Fault(K.CONTEXT_OVERFLOW)})
        assert isinstance(walk, Walk)
        assert world.asked == ["quality/1"]
        assert isinstance(walk.failure(), errors.ContextOverflowError)

    def test_its_own_fallbacks_come_before_the_others(self) -> None:
        quality = Group("quality", "", (dep("quality", 1),), ("fast",), context_window_fallbacks=("long",))
        groups = [quality, Group("fast", "", (dep("fast", 1),)), Group("long", "", (dep("long", 1),))]
        world = World(conf(groups), self.FACTS | {"long/1": Facts(context_window=500_000)})
        assert world.walk("quality", {"quality/1": Fault(K.CONTEXT_OVERFLOW)}) == "long/1"

    def test_where_the_window_is_unknown_the_length_of_the_request_decides(self) -> None:
        world = World(quality_and_fast(), {"quality/2": Facts(context_window=128_000), "fast/1": Facts()})
        overflow = {"quality/1": Fault(K.CONTEXT_OVERFLOW)}
        assert world.walk("quality", overflow, Needs(tokens=100_000)) == "quality/2"
        assert isinstance(world.walk("quality", overflow, Needs(tokens=150_000)), Walk)
        assert world.asked == ["quality/1"]


def test_a_content_policy_refusal_moves_only_where_the_config_says() -> None:
    world = World(quality_and_fast())
    refused = {"quality/1": Fault(K.CONTENT_POLICY)}
    walk = world.walk("quality", refused)
    assert isinstance(walk, Walk)
    assert world.asked == ["quality/1"]
    assert isinstance(walk.failure(), errors.ContentPolicyError)
    quality = replace(world.config.groups["quality"], content_policy_fallbacks=("fast",))
    world = World(conf([quality, world.config.groups["fast"]]))
    assert world.walk("quality", refused) == "fast/1"
    assert world.asked == ["quality/1", "fast/1"]


class TestNeeds:
    def test_a_schema_goes_only_where_it_is_known_to_work(self) -> None:
        world = World(quality_and_fast(), {"quality/2": Facts(supports={"structured_output": True})})
        assert world.walk("quality", {}, Needs(structured_output=True)) == "quality/2"

    def test_tools_and_images_go_where_they_are_not_known_to_fail(self) -> None:
        world = World(quality_and_fast(), {"quality/1": Facts(supports={"tools": False, "vision": False})})
        assert world.walk("quality", {}, Needs(tools=True)) == "quality/2"
        assert world.walk("quality", {}, Needs(vision=True)) == "quality/2"

    def test_a_refusal_says_what_none_supports(self) -> None:
        world = World(conf([Group("a", "", (dep("a", 1),))]))
        walk = world.walk("a", {}, Needs(structured_output=True))
        assert isinstance(walk, Walk)
        assert str(walk.failure()) == (
            'unsupported: no deployment of "a" supports response_format: openai/a-1: not tried, does not support '
            "response_format; use another group"
        )


def test_without_a_key_the_next_answers_without_a_try() -> None:
    quality = Group("quality", "", (dep("quality", 1, unavailable="ANTHROPIC_API_KEY is not set"), dep("quality", 2)))
    world = World(conf([quality]))
    assert world.walk("quality", {}) == "quality/2"
    assert world.asked == ["quality/2"]


def test_nothing_to_call_is_said_with_each_reason() -> None:
    world = World(conf([Group("a", "", (dep("a", 1, unavailable="X_KEY is not set"),))]))
    walk = world.walk("a", {})
    assert isinstance(walk, Walk)
    assert str(walk.failure()) == (
        'unavailable: nothing in "a" or its fallbacks can be called now: openai/a-1: not tried, X_KEY is not set; '
        "use another group, or have it set up"
    )


def test_a_limit_holds_for_calls_at_once_and_for_retries() -> None:
    world = World(conf([Group("a", "", (dep("a", 1, rpm=1),))]))
    assert step(Walk(world.routes, "a", Needs(), world.clock.now + 9).tries()) == "a/1"
    world = World(conf([Group("a", "", (dep("a", 1, rpm=2),))]))
    held = [Walk(world.routes, "a", Needs(), world.clock.now + 9).tries() for _ in range(3)]
    assert [next(tries, None) is not None for tries in held] == [True, True, False]
    world = World(conf([Group("a", "", (dep("a", 1, rpm=2),))]))
    world.walk("a", {"a/1": Fault(K.SERVER_ERROR)})
    assert world.asked == ["a/1", "a/1"]


def test_limits_pass_a_deployment_over_until_the_minute_is_over() -> None:
    world = World(conf([Group("a", "", (dep("a", 1, rpm=2), dep("a", 2, tpm=15)))]))
    assert [world.walk("a", {}) for _ in range(4)] == ["a/1", "a/1", "a/2", "a/2"]
    walk = world.walk("a", {})
    assert isinstance(walk, Walk)
    assert "at its limit of 2 requests per minute" in str(walk.failure())
    assert "at its limit of 15 tokens per minute" in str(walk.failure())
    world.clock.now += 61
    assert world.walk("a", {}) == "a/1"


class TestLatencyBasedRouting:
    def world(self) -> World:
        return World(conf([Group("a", "", (dep("a", 1, order=None), dep("a", 2, order=None)))]))

    def count(self, world: World, latencies: Mapping[str, float], calls: int) -> dict[str, int]:
        answers = {name: Answer(latency_s=s, tokens=1) for name, s in latencies.items()}
        served = [world.walk("a", answers) for _ in range(calls)]
        return {name: served.count(name) for name in latencies}

    def test_the_faster_gets_most_and_the_other_now_and_then(self) -> None:
        counts = self.count(self.world(), {"a/1": 0.5, "a/2": 0.1}, 100)
        assert counts["a/2"] >= 85
        assert counts["a/1"] >= 5

    def test_one_that_slows_down_loses_its_calls_within_a_few(self) -> None:
        world = self.world()
        self.count(world, {"a/1": 0.5, "a/2": 0.1}, 20)
        self.count(world, {"a/1": 0.5, "a/2": 2.0}, 5)
        assert self.count(world, {"a/1": 0.5, "a/2": 2.0}, 20)["a/1"] >= 17

    def test_one_that_recovers_gets_them_back(self) -> None:
        world = self.world()
        self.count(world, {"a/1": 0.5, "a/2": 2.0}, 20)
        self.count(world, {"a/1": 0.5, "a/2": 0.1}, 25)
        assert self.count(world, {"a/1": 0.5, "a/2": 0.1}, 20)["a/2"] >= 17

    def test_a_time_out_counts_as_slow(self) -> None:
        world = self.world()
        self.count(world, {"a/1": 0.1, "a/2": 0.5}, 5)
        world.walk("a", {"a/1": Fault(K.TIMEOUT, waited_s=20)})
        world.walk("a", {"a/1": Fault(K.TIMEOUT, waited_s=20)})
        assert self.count(world, {"a/1": 0.1, "a/2": 0.5}, 5)["a/2"] == 5

    def test_calls_at_once_spread_while_nothing_is_known(self) -> None:
        world = self.world()
        walks = [Walk(world.routes, "a", Needs(), world.clock.now + 9).tries() for _ in range(2)]
        asked = set()
        for tries in walks:
            asked.add(step(tries))
        assert asked == {"a/1", "a/2"}


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ({"weight": 9.0}, {"weight": 1.0}, 0.9),
        ({"rpm": 9000}, {"rpm": 1000}, 0.9),
        ({"tpm": 10**6}, {"tpm": 10**7}, 0.09),
        ({"weight": 1.0, "rpm": 90_000}, {"weight": 9.0, "rpm": 10_000}, 0.1),
        ({"weight": 1.0}, {}, 1),  # whoever says nothing of it, where another does
        ({}, {"rpm": 9000}, 0),
        ({"weight": 0.0}, {"weight": 0.0}, 0.5),
        ({"copies": 9}, {}, 0.9),
        ({"copies": 9, "rpm": 1000}, {"rpm": 9000}, 0.5),
    ],
    ids=str,
)
def test_simple_shuffle_follows_weights_or_else_limits(
    first: dict[str, Any], second: dict[str, Any], share: float
) -> None:
    group = Group("a", "", (dep("a", 1, order=1, **first), dep("a", 2, order=1, **second)))
    world = World(conf([group], routing_strategy="simple-shuffle"))
    served = [world.walk("a", {}) for _ in range(200)].count("a/1")
    allowed = 30 if 0 < share < 1 else 0
    assert abs(served - share * 200) <= allowed


class TestLeastBusy:
    def test_it_asks_whoever_has_the_fewest_calls_under_way(self) -> None:
        world = strategy("least-busy", dep("a", 1, order=1), dep("a", 2, order=1))
        first, second, third = (Walk(world.routes, "a", Needs(), world.clock.now + 9).tries() for _ in range(3))
        assert [step(first), step(second)] == ["a/1", "a/2"]
        with pytest.raises(StopIteration):
            second.send(result(Answer(latency_s=99, tokens=1)))  # however long it took
        assert step(third) == "a/2"

    def test_those_that_are_as_busy_take_turns(self) -> None:
        world = strategy("least-busy", *(dep("a", n, order=1) for n in (1, 2, 3)))
        assert [world.walk("a", {}) for _ in range(6)] == ["a/1", "a/2", "a/3"] * 2


@pytest.mark.parametrize("name", ["usage-based-routing", "usage-based-routing-v2"])
class TestUsageBasedRouting:
    def test_it_asks_whoever_has_had_the_fewest_tokens_this_minute(self, name: RoutingStrategy) -> None:
        world = strategy(name, dep("a", 1, order=1), dep("a", 2, order=1))
        tokens = {"a/1": Answer(0.1, 100), "a/2": Answer(0.1, 30)}
        assert [world.walk("a", tokens) for _ in range(6)] == ["a/1", "a/2", "a/2", "a/2", "a/2", "a/1"]
        world.clock.now += 61
        world.walk("a", {"a/2": Answer(0.1, 1000)})  # whichever is first
        assert len({world.walk("a", tokens) for _ in range(2)}) == 1

    def test_it_passes_over_one_whose_limit_the_request_would_exceed(self, name: RoutingStrategy) -> None:
        world = strategy(name, dep("a", 1, order=1, tpm=1000), dep("a", 2, order=1), dep("a", 3, order=2))
        world.walk("a", {"a/1": Answer(0.1, 300)})
        world.walk("a", {"a/2": Answer(0.1, 5000)})
        assert world.walk("a", {"a/1": Answer(0.1, 0)}, Needs(input_tokens=700)) == "a/1"
        assert world.walk("a", {"a/2": Answer(0.1, 0)}, Needs(input_tokens=701)) == "a/2"

    def test_it_goes_to_a_later_order_before_it_exceeds_one(self, name: RoutingStrategy) -> None:
        world = strategy(name, dep("a", 1, order=1, tpm=1000), dep("a", 2, order=2))
        assert world.walk("a", {}, Needs(input_tokens=1001)) == "a/2"
        assert world.walk("a", {}, Needs(input_tokens=10)) == "a/1"

    def test_where_all_would_exceed_theirs_the_provider_decides(self, name: RoutingStrategy) -> None:
        world = strategy(name, dep("a", 1, order=1, tpm=1000))
        assert world.walk("a", {}, Needs(input_tokens=1001)) == "a/1"


class TestCostBasedRouting:
    def test_it_asks_the_cheapest_and_those_without_a_price_last(self) -> None:
        facts = {
            "a/1": Facts(),
            "a/2": Facts(input_cost=2e-6, output_cost=1e-6),
            "a/3": Facts(input_cost=0, output_cost=2e-6),
            "a/4": Facts(input_cost=1e-7),
        }
        world = strategy("cost-based-routing", *(dep("a", n, order=1) for n in (1, 2, 3, 4)), facts=facts)
        down = Fault(K.TIMEOUT)
        assert isinstance(world.walk("a", dict.fromkeys(facts, down)), Walk)
        assert world.asked == ["a/3", "a/2", "a/4", "a/1"]

    def test_order_comes_before_the_price(self) -> None:
        facts = {"a/1": Facts(input_cost=9e-6, output_cost=9e-6), "a/2": Facts(input_cost=0, output_cost=0)}
        world = strategy("cost-based-routing", dep("a", 1), dep("a", 2), facts=facts)
        assert world.walk("a", {}) == "a/1"


def strategy(name: RoutingStrategy, *deployments: Deployment, facts: Mapping[str, Facts] | None = None) -> World:
    return World(conf([Group("a", "", deployments)], routing_strategy=name), facts)


class TestOneThatDoesNotTakeTheRequest:
    def trio(self) -> World:
        return World(conf([Group("a", "", (dep("a", 1), dep("a", 2), dep("a", 3)))]))

    @pytest.mark.parametrize("kind", [K.UNFIT, K.REFUSED, K.UNMADE])
    def test_speaks_for_itself_and_keeps_its_health(self, kind: FaultKind) -> None:
        world = self.trio()
        for _ in range(9):
            assert world.walk("a", {"a/1": Fault(kind)}) == "a/2"
            assert world.asked == ["a/1", "a/2"]
        assert world.routes.state(world.config.groups["a"].deployments[0]) == ("ready", None)

    def test_a_refusal_that_another_confirms_is_asked_of_nobody_else(self) -> None:
        world = self.trio()
        refused = Fault(K.REFUSED, "HTTP 400", "no")
        walk = world.walk("a", {"a/1": refused, "a/2": Fault(K.SERVER_ERROR), "a/3": refused})
        assert isinstance(walk, Walk)
        assert world.asked == ["a/1", "a/2", "a/2", "a/2", "a/3"]
        assert str(walk.failure()) == (
            "bad_request: openai/a-1 refused the request: no; openai/a-3 refused the request: no"
        )
        world = self.trio()
        assert isinstance(world.walk("a", {"a/1": refused, "a/2": refused}), Walk)
        assert world.asked == ["a/1", "a/2"]

    def test_a_refusal_of_our_own_confirms_nothing_and_costs_nothing(self) -> None:
        world = self.trio()
        unasked = Fault(K.REFUSED, reason="no JSON", sent=False)
        assert world.walk("a", {"a/1": unasked, "a/2": unasked}) == "a/3"
        walk = world.walk("a", {"a/1": unasked, "a/2": unasked, "a/3": unasked})
        assert isinstance(walk, Walk)
        assert str(walk.failure()) == "bad_request: " + "; ".join(
            f"openai/a-{n}: not asked: no JSON" for n in (1, 2, 3)
        )
        assert not any(fault.may_be_billed for fault in (unasked, Fault(K.UNMADE, sent=False)))

    def test_the_same_model_on_the_same_account_is_not_asked_after_it(self) -> None:
        params = {"model": "openai/x", "api_key": "one"}
        group = Group(
            "a",
            "",
            (
                dep("a", 1, model="openai/x", params=params),
                dep("a", 2, model="openai/x", params=params | {"temperature": 1}),
                dep("a", 3, model="openai/x", params=params | {"api_key": "another"}),
            ),
        )
        world = World(conf([group]))
        assert world.walk("a", {"a/1": Fault(K.UNFIT)}) == "a/3"
        assert world.asked == ["a/1", "a/3"]

    def test_nobody_left_is_unsupported_where_something_is_lacking(self) -> None:
        world = self.trio()
        lacks = Fault(K.UNFIT, "HTTP 400", "does not support tools")
        walk = world.walk(
            "a", {f"a/{n}": lacks for n in (1, 2)} | {"a/3": Fault(K.UNMADE, reason="needs x", sent=False)}
        )
        assert isinstance(walk, Walk)
        error = walk.failure()
        assert isinstance(error, errors.UnsupportedError)
        assert "openai/a-1: cannot do what is asked (HTTP 400): does not support tools" in error.message
        assert "openai/a-3: not asked: needs x" in error.message

    def test_nobody_left_is_unavailable_where_nobody_could_be_asked(self) -> None:
        world = World(conf([Group("a", "", (dep("a", 1, rpm=1),))]))
        for _ in range(3):  # nothing was asked, so the limit stands where it was
            walk = world.walk("a", {"a/1": Fault(K.UNMADE, reason="needs boto3", sent=False)})
            assert isinstance(walk, Walk)
            assert isinstance(walk.failure(), errors.UnavailableError)
            assert "openai/a-1: not asked: needs boto3" in str(walk.failure())

    @pytest.mark.parametrize("kind", [K.ACCOUNT, K.QUOTA, K.RATE_LIMITED, K.NOT_FOUND])
    def test_what_lasts_is_tried_once_and_cools_it_at_once(self, kind: FaultKind) -> None:
        world = self.trio()
        assert world.walk("a", {"a/1": Fault(kind, lasting=True)}) == "a/2"
        assert world.asked == ["a/1", "a/2"]
        assert world.routes.state(world.config.groups["a"].deployments[0])[0] == "cooling_down"


def test_a_try_given_up_from_outside_leaves_no_trace() -> None:
    world = World(quality_and_fast())
    deployment = world.config.groups["quality"].deployments[0]
    for _ in range(9):
        tries = Walk(world.routes, "quality", Needs(), world.clock.now + 9).tries()
        assert step(tries) == deployment.id
        tries.close()
    assert world.routes.state(deployment) == ("ready", None)


class TestAFailureOfOneTenants:
    """A request may bring it about, by its length, its patience or what it has the model write."""

    OWN = (
        Fault(K.SERVER_ERROR, "HTTP 500"),
        Fault(K.BAD_ANSWER, "nothing in it"),
        Fault(K.TIMEOUT, "within 6 s", waited_s=6),
        Fault(K.TIMEOUT, "within 120 s", waited_s=120),
        Fault(K.CONNECTION, "dropped"),
    )

    @pytest.mark.parametrize("fault", OWN, ids=str)
    def test_has_it_passed_over_for_that_tenant_alone(self, fault: Fault) -> None:
        world = World(quality_and_fast())
        for _ in range(4):
            world.walk("quality", {"quality/1": fault}, tenant="one")
        [first, _] = world.config.groups["quality"].deployments
        assert world.routes.state(first, "one")[0] == world.routes.state(first)[0] == "cooling_down"
        assert world.routes.state(first, "other") == ("ready", None)
        world.walk("quality", {}, tenant="one")
        assert world.asked == ["quality/2"]
        assert world.walk("quality", {}, tenant="other") == "quality/1"
        assert world.walk("quality", {}, tenant="one") == "quality/1"  # the other's answer has shown that it is back

    @pytest.mark.parametrize("fault", OWN, ids=str)
    def test_is_everybodys_once_another_tenant_has_met_with_one(self, fault: Fault) -> None:
        world = World(quality_and_fast())
        for tenant in ("one", "one", "one", "one", "other"):
            world.walk("quality", {"quality/1": fault}, tenant=tenant)
        assert world.asked[0] == "quality/1"
        for tenant in ("one", "other", "third"):
            world.walk("quality", {}, tenant=tenant)
            assert world.asked == ["quality/2"]

    @pytest.mark.parametrize("kind", [K.CONNECTION, K.RATE_LIMITED, K.AUTH])
    def test_is_everybodys_at_once_where_it_is_the_providers_for_sure(self, kind: FaultKind) -> None:
        world = World(quality_and_fast())
        for _ in range(4):
            world.walk("quality", {"quality/1": Fault(kind, sent=kind is not K.CONNECTION)}, tenant="one")
        world.walk("quality", {}, tenant="other")
        assert world.asked == ["quality/2"]

    def test_says_for_how_long_to_nobody_else(self) -> None:
        world = World(quality_and_fast())
        lie = Fault(K.RATE_LIMITED, "HTTP 400", retry_after_s=3000, only_said=True)
        world.walk("quality", {"quality/1": lie}, tenant="one", timeout=100)
        for _ in range(3):
            world.walk("quality", {"quality/1": Fault(K.SERVER_ERROR)}, tenant="other")
        world.walk("quality", {}, tenant="other")
        assert world.asked == ["quality/2"]
        world.clock.now += 61
        assert world.walk("quality", {}, tenant="other") == "quality/1"

    def test_and_its_providers_word_when_to_come_back_is_everybodys(self) -> None:
        world = World(quality_and_fast())
        world.walk("quality", {"quality/1": Fault(K.SERVER_ERROR, retry_after_s=400)}, tenant="one")
        world.walk("quality", {}, tenant="other")
        assert world.asked == ["quality/2"]


def test_a_hang_leaves_time_for_those_behind_it() -> None:
    world = World(quality_and_fast())
    world.walk("quality", {"quality/1": Fault(K.TIMEOUT), "quality/2": Fault(K.TIMEOUT)}, timeout=50)
    assert world.limits == [25, 25, 120]  # the clock stands still here; the last has nobody behind it
    world = World(quality_and_fast())
    world.walk("quality", {}, timeout=300)
    assert world.limits == [120]


def test_one_that_hung_for_its_whole_time_out_is_passed_over_at_once() -> None:
    world = World(quality_and_fast())
    world.walk("quality", {"quality/1": Fault(K.TIMEOUT, waited_s=120)})
    assert world.walk("quality", {}) == "quality/2"
    world.walk("fast", {"fast/1": Fault(K.TIMEOUT, waited_s=20)})
    assert world.walk("fast", {}) == "fast/1"


outcomes = st.one_of(
    st.just(OK),
    st.builds(
        Fault,
        st.sampled_from([kind for kind in FaultKind if kind is not FaultKind.BUDGET]),
        retry_after_s=st.none() | st.floats(0, 1e6),
    ),
    # A budget that refuses says what is left of it.
    st.builds(
        Fault,
        st.just(FaultKind.BUDGET),
        shortfall=st.builds(Shortfall, st.integers(0, 10**12), st.none() | st.just("2026-11-30T00:00:00+00:00")),
    ),
)


@given(st.lists(st.dictionaries(st.sampled_from(["quality/1", "quality/2", "fast/1"]), outcomes), max_size=8))
def test_any_walk_ends_within_its_tries_and_in_an_answer_or_one_error(days: Iterable[Mapping[str, Outcome]]) -> None:
    world = World(quality_and_fast())
    for answers in days:
        result = world.walk("quality", answers, timeout=1e9)
        assert all(world.asked.count(one) <= 3 for one in world.asked)
        if isinstance(result, Walk):
            message = str(result.failure())
            assert "\n" not in message
            # While something healthy is in the chain, only the request's own fault ends a call without an answer.
            if isinstance(result.failure(), errors.CompletionError):
                assert not any(answers.get(one, OK) is OK and one in world.asked for one in world.asked)
        world.clock.now += 5


class TestThePreferredOne:
    """The deployment that a thread's last answer came from, which may have most of the conversation in its cache."""

    @given(
        orders=st.lists(st.sampled_from([1, 2, None]), min_size=1, max_size=5),
        behind=st.lists(st.sampled_from([1, None]), max_size=2),
        away=st.sets(st.integers(1, 5)),
        preferred=st.integers(0, 7),
    )
    def test_comes_first_among_its_order_and_nothing_else_changes(
        self, orders: list[int | None], behind: list[int | None], away: set[int], preferred: int
    ) -> None:
        def group(name: str, orders: list[int | None], **fields: Any) -> Group:
            made = (
                dep(name, n, order=order, unavailable="away" if name == "a" and n in away else None)
                for n, order in enumerate(orders, 1)
            )
            return Group(name, "", tuple(made), **fields)

        groups = [group("a", orders, fallbacks=("b",)), group("b", behind)]
        price = {d.id: Facts(input_cost=n, output_cost=n) for g in groups for n, d in enumerate(g.deployments)}
        world = World(conf(groups, routing_strategy="cost-based-routing"), price)
        fails = {d.id: Fault(K.NOT_FOUND) for g in groups for d in g.deployments}
        world.walk("a", fails)
        before = world.asked
        world = World(world.config, price)
        there_are = {d.id: d for g in groups for d in g.deployments}
        wanted = there_are.get(f"a/{preferred}")
        world.walk("a", fails, preferred="another's key" if wanted is None else world.routes.key(wanted))

        expected = list(before)
        if wanted is not None and wanted.id in before:
            expected.remove(wanted.id)
            same = [
                place for place, one in enumerate(expected) if one[0] == "a" and there_are[one].order == wanted.order
            ]
            expected.insert(min([before.index(wanted.id), *same]), wanted.id)
        assert world.asked == expected

    def test_is_passed_over_while_it_cools_down_or_is_at_its_limit(self) -> None:
        first, second = dep("a", 1, order=None, rpm=1), dep("a", 2, order=None)
        world = World(conf([Group("a", "", (first, second))]))
        key = world.routes.key(first)
        assert [world.walk("a", {}, preferred=key) for _ in range(3)] == ["a/1", "a/2", "a/2"]
        world.clock.now += 61
        for _ in range(3):
            world.walk("a", {"a/1": Fault(K.SERVER_ERROR)}, preferred=key)
        assert world.walk("a", {}, preferred=key) == "a/2"

    def test_is_the_same_one_in_another_group(self) -> None:
        same = {"model": "openai/same"}
        one = dep("a", 1, params=same)
        groups = [
            Group("a", "", (one,)),
            Group("b", "", (dep("b", 1, order=None), dep("b", 2, order=None, params=same))),
        ]
        world = World(conf(groups))
        assert [world.walk("b", {}, preferred=world.routes.key(one)) for _ in range(5)] == ["b/2"] * 5
