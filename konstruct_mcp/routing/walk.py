"""Which deployment next: pure code, no I/O, no litellm, and no clock but the one it is given.

A call walks. `Routes.walk` opens a `Walk` for one request; `Walk.tries` is a generator that yields each `Try` in turn
and is sent back how it went: an `Answer` or a `Fault`. Now and then it yields a `Hold` instead: wait until another
call's try has ended. It may be closed at any time, after an answer or when the call is given up. The whole order of
tries is that one function, read from top to bottom:

    for each group, the one asked for first, then its fallbacks:
        for each deployment of it that can be called, lower `order` first:
            the first try, then `num_retries` more for a fault that a retry can cure
    then those that were passed over because they had failed: one try, by one call at a time

A deployment that will not take a request speaks for itself and not for the others. After it only a different model, or
the same on another account, is asked; where such a one refuses the request as wrong too, it is wrong.

What outlives a call is the health of each deployment: recent failures, cooldown, latency. Two entries of the config
that call the same model with the same parameters share one health, and a call asks such a pair once: a dead Ollama
behind two groups is one dead Ollama. It outlives the config too: what a new one leaves as it was keeps its health.
"""

from __future__ import annotations

import asyncio
import enum
import random
import re
import statistics
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from konstruct_mcp.config.model import Config, Deployment, Group
from konstruct_mcp.core.errors import (
    AllFailedError,
    BadRequestError,
    BudgetExceededError,
    ContentPolicyError,
    ContextOverflowError,
    KonstructError,
    UnavailableError,
    UnpricedError,
    UnsupportedError,
)
from konstruct_mcp.core.types import Attempt, DeploymentState

# Failures older than this say nothing about now. LiteLLM counts `allowed_fails` over the same minute.
_FAILURE_WINDOW_S = 60.0
_LIMIT_WINDOW_S = 60.0  # rpm and tpm are per minute
# The median of three: one slow answer does not move calls away, two in a row do.
_LATENCY_SAMPLES = 3
# One call in ten goes to an equal that has not been asked lately, so that a recovered one is found again.
_EXPLORE_EVERY = 10
# Waits between tries of one deployment: short first, since most faults that a retry cures are over at once.
_BACKOFF_FIRST_S, _BACKOFF_MAX_S = 0.25, 8.0
# A retry-after is the provider's word; one longer than an hour is taken for an hour, so that no lie ends a deployment.
_RETRY_AFTER_MAX_S = 3600.0
# Between two looks whether one that is cooling down is back, longer and longer while it is not: an outage costs its
# calls no try each, and its end is seen within a second.
_PROBE_FIRST_S, _PROBE_MAX_S = 0.1, 1.0
_SOON_S = 0.2  # a look that is due within so long is waited for, by a call that has nobody else left
_ROUND_S = 0.25  # between a waiting call's looks at all that may have come back meanwhile
# A look at what used to fail at once, and has not failed for so long, is an answer in the making.
_ANSWERING_S = 1.0
_IMPATIENT_S = 5.0  # who waits less than this finds nothing out about a deployment that may take longer
_MOST_REPORTS, _REPORTS_S = 6, 60.0  # of one deployment in so many seconds, where it comes and goes


class FaultKind(enum.Enum):
    """What went wrong with a try, as far as routing cares."""

    RATE_LIMITED = "rate limited"
    SERVER_ERROR = "server error"
    CONNECTION = "connection failed"
    TIMEOUT = "no answer in time"
    AUTH = "key refused"
    QUOTA = "quota used up"
    NOT_FOUND = "no such model"
    ACCOUNT = "account refused"
    BAD_ANSWER = "unusable answer"
    UNREADY = "cannot start"
    CONTEXT_OVERFLOW = "context too long"
    CONTENT_POLICY = "refused by content policy"
    UNFIT = "cannot do what is asked"
    REFUSED = "request refused"
    BAD_REQUEST = "request is wrong"
    UNMADE = "not asked"
    BUDGET = "not within budget"
    UNPRICED = "unpriced"


_RETRYABLE = frozenset({FaultKind.RATE_LIMITED, FaultKind.SERVER_ERROR, FaultKind.CONNECTION})
_UNFINISHED = frozenset({FaultKind.TIMEOUT, FaultKind.CONNECTION, FaultKind.BAD_ANSWER})
# The deployment does not take the request; another may. UNFIT: it lacks something that is asked. REFUSED: it says that
# the request is wrong, as another may have to confirm. UNMADE: no request to it can be made.
_PASSED_ON = frozenset({FaultKind.UNFIT, FaultKind.REFUSED, FaultKind.UNMADE})
# A budget spoke before the provider was asked.
_UNASKED = frozenset({FaultKind.BUDGET, FaultKind.UNPRICED})
_NOT_TAKEN = _PASSED_ON | {FaultKind.CONTEXT_OVERFLOW}
# The request's own faults say nothing about the health of the deployment that named them.
_REQUEST_FAULTS = (
    _UNASKED | _PASSED_ON | frozenset({FaultKind.CONTEXT_OVERFLOW, FaultKind.CONTENT_POLICY, FaultKind.BAD_REQUEST})
)
# What a request may have brought about, by its length, its patience or what it has the model write: until another
# tenant has met with a failure too, it is known to whoever sent it and to nobody else.
_MAYBE_OWN = frozenset({FaultKind.SERVER_ERROR, FaultKind.TIMEOUT, FaultKind.BAD_ANSWER})
# What lasts until an operator sees to it.
_SET_UP = frozenset({FaultKind.AUTH, FaultKind.QUOTA, FaultKind.NOT_FOUND, FaultKind.ACCOUNT, FaultKind.UNMADE})
# Parameters of a deployment that say on whose account, or where, it is called.
_ACCOUNT = re.compile(
    r"api_(key|base)|organization|project|region_name|(aws|azure|vertex|watsonx)_\w+|(client|tenant)_id"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A try failed.

    Attributes:
        kind: what routing goes by.
        detail: "HTTP 429", "within 120 s": what an operator wants beside the kind; never a provider's text.
        reason: the provider's own reason, cleaned, or the budget's; only for the request's own faults. Of a request
            that was not sent, why not, in our own words.
        retry_after_s: seconds that the provider asks to wait, if it does.
        waited_s: how long an answer was waited for, where the wait itself is the fault.
        sent: whether the request may have reached the provider.
        ran: whether a model may have worked on it, which is billed; None: as the kind says.
        lasting: whether the next try of the deployment will fail in the same way; it is passed over at once.
        only_said: whether that it is no fault of the request is known by words alone, which may be the request's own.
    """

    kind: FaultKind
    detail: str = ""
    reason: str = ""
    retry_after_s: float | None = None
    waited_s: float = 0.0
    sent: bool = True
    ran: bool | None = None
    lasting: bool = False
    only_said: bool = False

    @property
    def was_asked(self) -> bool:
        """Whether anything was tried at all; if not, the deployment has nothing to do with it."""
        return self.sent or self.kind not in _REQUEST_FAULTS

    @property
    def may_be_the_requests(self) -> bool:
        """Whether the request may have brought it about: what breaks a connection that stood is what was sent on it."""
        return self.only_said or self.kind in _MAYBE_OWN or (self.kind is FaultKind.CONNECTION and self.sent)

    @property
    def may_be_billed(self) -> bool:
        """Whether the provider may count it, although no answer has come."""
        return self.sent and (self.kind in _UNFINISHED if self.ran is None else self.ran)

    def __str__(self) -> str:
        if self.kind in _PASSED_ON and not self.sent:
            return f"{FaultKind.UNMADE.value}: {self.reason or self.detail}"
        return f"{self.kind.value} ({self.detail})" if self.detail else self.kind.value


class FaultError(Exception):
    """A try failed before its request was sent, or in a way that no HTTP answer shows: raised with what is known."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Answer:
    """A try was answered: how long it took, and the tokens that count towards `tpm`."""

    latency_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Try:
    """Ask this deployment, in the name of `group`, after waiting `wait_s` seconds, and for `limit_s` at most."""

    deployment: Deployment
    group: str
    wait_s: float
    limit_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait so many seconds, or until another call's try has ended, if that is sooner; nothing is sent."""

    wait_s: float
    ended: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a deployment's model, from the config first and the tables of models second.

    Costs are US dollars per token, the window and the longest answer are in tokens, `retires` is the ISO date on which
    its provider shuts it down; None is unknown. `supports` holds a capability (`tools`,
    `vision`, `structured_output`) only where it is known either way. `free` says that every price is 0, `unboundable`
    why nobody can tell what a call can cost at most, as the end of a sentence; it is empty where that can be told.
    """

    input_cost: float | None = None
    output_cost: float | None = None
    context_window: int | None = None
    longest_answer: int | None = None
    retires: str | None = None
    supports: Mapping[str, bool] = field(default_factory=dict)
    free: bool = False
    unboundable: str = ""

    @property
    def missing_prices(self) -> tuple[str, ...]:
        """The keys of the config that would give them."""
        prices = {"input_cost_per_token": self.input_cost, "output_cost_per_token": self.output_cost}
        return tuple(key for key, price in prices.items() if price is None)

    @property
    def why_no_budget(self) -> str:
        """Why no budget can hold here, as the end of a sentence; empty where one can."""
        if missing := self.missing_prices:
            return f"has no price ({', '.join(missing)}), which a budget needs"
        return "" if self.free else self.unboundable


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a deployment. `tokens` is a rough count of its length, `input_tokens` of what is sent."""

    tools: bool = False
    vision: bool = False
    structured_output: bool = False
    tokens: int = 0
    input_tokens: int = 0

    def missing(self, facts: Facts) -> str | None:
        """What the deployment lacks, or None. A schema must be known to work: one that is ignored in silence breaks
        the caller; the rest is refused only where it is known not to work."""
        if self.structured_output and not facts.supports.get("structured_output", False):
            return "response_format"
        if self.tools and facts.supports.get("tools") is False:
            return "tools"
        if self.vision and facts.supports.get("vision") is False:
            return "images"
        return None


@dataclass(slots=True)
class _Health:
    """What is remembered of one deployment between calls. Times are readings of the injected clock, in seconds."""

    failed_at: deque[tuple[float, str | None]] = field(default_factory=deque)  # and to whom; None: to anybody
    last_fault: str = ""
    cooling_until: float = 0.0
    cooling_for: str | None = None  # the tenant to whom alone it has failed; None: for all
    told_until: float = 0.0  # by the provider itself
    hung: bool = False  # whether that is how it failed last
    reported_down: bool = False
    reports: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_REPORTS))
    probing: asyncio.Event | None = None  # set when the call that asks whether it is back has ended
    probing_since: float = 0.0
    probes_failed: int = 0
    next_probe: float = 0.0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCY_SAMPLES))
    in_flight: int = 0
    passed_by: int = 0
    counts: bool = False  # requests and tokens; else nothing of these is kept
    spent: deque[tuple[float, int, int]] = field(default_factory=deque)  # (when, requests, tokens)
    requests: int = 0  # of `spent`, and
    tokens: int = 0

    @property
    def latency(self) -> float:
        """Recent latency; an unsampled deployment counts as fastest, so that it gets its first sample."""
        return statistics.median(self.latencies) if self.latencies else 0.0

    def spend(self, when: float, requests: int, tokens: int) -> None:
        if self.counts:
            self.spent.append((when, requests, tokens))
            self.requests += requests
            self.tokens += tokens

    def forget(self, before: float) -> None:
        while self.spent and self.spent[0][0] < before:
            _, requests, tokens = self.spent.popleft()
            self.requests -= requests
            self.tokens -= tokens

    def take_back(self, began: float) -> None:
        """A request that was not made after all."""
        if (began, 1, 0) in self.spent:
            self.spent.remove((began, 1, 0))
            self.requests -= 1


class Routes:
    """The deployments of a config and their health, shared by all calls.

    `facts` maps a deployment's id to what is known of its model. `clock` gives seconds from any fixed point. `report`
    is told, in one line, when a deployment goes down and when it is back. `earlier` are the routes of the config before
    this one.
    """

    def __init__(
        self,
        config: Config,
        facts: Mapping[str, Facts],
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        report: Callable[[str], None] = lambda line: None,
        earlier: Routes | None = None,
    ) -> None:
        self._config = config
        self._by_usage = config.routing_strategy in ("usage-based-routing", "usage-based-routing-v2")
        self._facts = facts
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, keeps no secret
        self._report = report
        self._health: dict[str, _Health] = {}
        self._twins: dict[Any, _Health] = {}  # by what they are asked with
        twins = {} if earlier is None else earlier._twins
        for deployment in _deployments(config):
            asked = _frozen(deployment.params)
            health = self._twins.setdefault(asked, twins.get(asked) or _Health())
            self._health[deployment.id] = health
            health.counts |= self._by_usage or deployment.rpm is not None or deployment.tpm is not None

    def walk(
        self,
        group: str,
        needs: Needs,
        deadline: float,
        allowed: Collection[str] | None = None,
        tell: Callable[[str], None] = lambda line: None,
        tenant: str | None = None,
    ) -> Walk:
        """Open the walk of one request. `deadline` is a reading of the clock; `allowed` are the groups that the tenant
        may use, None for all; `tell` is told in one line what is being waited for, whenever that changes; `tenant` is
        whose request it is, None for anybody's."""
        return Walk(self, self._config.groups[group], needs, deadline, allowed, tell, tenant)

    def state(self, deployment: Deployment, tenant: str | None = None) -> tuple[DeploymentState, str | None]:
        """The state that a tenant sees, or who looks after all of them, and its reason unless it is `ready`."""
        if deployment.unavailable is not None:
            return "unavailable", deployment.unavailable
        health = self._health[deployment.id]
        if (left := self.cooling(deployment, tenant)) > 0:
            return "cooling_down", f"{health.last_fault}; tried again in {max(1, round(left))} s"
        if (limit := self.limit_reached(deployment)) is not None:
            return "cooling_down", limit
        return "ready", None

    # -- what Walk asks and tells ------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._clock()

    def cooling(self, deployment: Deployment, tenant: str | None = None) -> float:
        """Seconds for which its failures still have it passed over by a tenant, or by any; 0 or less if they do not."""
        health = self._health[deployment.id]
        if tenant is not None and health.cooling_for not in (None, tenant):
            return 0.0
        return health.cooling_until - self._clock()

    def facts(self, deployment: Deployment) -> Facts:
        return self._facts[deployment.id]

    def groups(self, names: Iterable[str], allowed: Collection[str] | None) -> list[Group]:
        """The groups of these names that are allowed."""
        return [self._config.groups[name] for name in names if allowed is None or name in allowed]

    @property
    def budget_fallback(self) -> tuple[str, ...]:
        """The groups to fall back to where a budget refuses."""
        return () if self._config.budget_fallback is None else (self._config.budget_fallback,)

    def same(self, one: Deployment, other: Deployment) -> bool:
        """Whether a call that has asked one need not ask the other."""
        return self._health[one.id] is self._health[other.id]

    def pick(self, candidates: Sequence[Deployment], tokens: int = 0) -> Deployment:
        """The one to ask among candidates that can all be called: lowest order, then by the routing strategy. `tokens`
        are those that the request will send."""
        if self._by_usage:
            candidates = [one for one in candidates if self._has_room(one, tokens)] or candidates
        lowest = min(map(_order, candidates))
        equals = [deployment for deployment in candidates if _order(deployment) == lowest]
        if len(equals) == 1:
            return equals[0]
        if self._config.routing_strategy == "simple-shuffle":
            return self._rng.choices(equals, _shares(equals))[0]
        health = self._health
        chosen = min(equals, key=lambda one: self._rank(one, health[one.id]))
        if self._config.routing_strategy == "latency-based-routing":
            neglected = max(equals, key=lambda d: health[d.id].passed_by)
            if health[neglected.id].passed_by >= _EXPLORE_EVERY - 1:
                chosen = neglected
        for deployment in equals:
            health[deployment.id].passed_by += 1
        health[chosen.id].passed_by = 0
        return chosen

    def _rank(self, deployment: Deployment, health: _Health) -> tuple[float, ...]:
        """By the routing strategy, less is better; those that it holds for alike take turns."""
        match self._config.routing_strategy:
            case "latency-based-routing":
                return health.latency, health.in_flight
            case "cost-based-routing":
                facts = self._facts[deployment.id]
                prices = (facts.input_cost, facts.output_cost)
                known = [price for price in prices if price is not None]
                unknown = len(prices) - len(known)
                return unknown, sum(known), health.in_flight, -health.passed_by
            case "usage-based-routing" | "usage-based-routing-v2":
                self._forget(health)
                return health.tokens, health.in_flight, -health.passed_by
            case _:  # least-busy
                return health.in_flight, -health.passed_by

    def _has_room(self, deployment: Deployment, tokens: int) -> bool:
        """Whether a request of so many tokens stays within the operator's own limit."""
        health = self._health[deployment.id]
        self._forget(health)
        return deployment.tpm is None or health.tokens + tokens <= deployment.tpm

    def _forget(self, health: _Health) -> None:
        health.forget(self._clock() - _LIMIT_WINDOW_S)

    def began(self, deployment: Deployment) -> float:
        """When, for `ended`."""
        health, now = self._health[deployment.id], self._clock()
        health.in_flight += 1
        health.spend(now, 1, 0)
        return now

    def ended(
        self, deployment: Deployment, outcome: Answer | Fault | None, began: float, tenant: str | None = None
    ) -> None:
        """Take note of how a tenant's try went; None when it was given up from outside (cancelled, deadline)."""
        health = self._health[deployment.id]
        health.in_flight -= 1
        if isinstance(outcome, Answer):
            health.failed_at.clear()
            health.cooling_until = health.told_until = 0.0
            health.probes_failed = 0
            if health.reported_down and self._may_report(health):
                health.reported_down = False
                self._report(f"{deployment.name} ({deployment.group}): answers again")
            health.latencies.append(outcome.latency_s)
            health.spend(self._clock(), 0, outcome.tokens)
        elif outcome is not None and outcome.kind not in _REQUEST_FAULTS:
            self._failed(deployment, health, outcome, tenant)
        elif outcome is not None and not outcome.was_asked:
            health.take_back(began)  # so that it does not count towards `rpm`

    def _failed(self, deployment: Deployment, health: _Health, fault: Fault, tenant: str | None) -> None:
        now = self._clock()
        if fault.kind is FaultKind.TIMEOUT:
            health.latencies.append(max(fault.waited_s, health.latency))
            if 0 < fault.waited_s < min(deployment.timeout_s, _IMPATIENT_S):
                return
        health.last_fault = str(fault)
        health.hung = fault.kind is FaultKind.TIMEOUT
        health.failed_at.append((now, tenant if fault.may_be_the_requests else None))
        while health.failed_at[0][0] < now - _FAILURE_WINDOW_S:
            health.failed_at.popleft()
        whose = {one for _, one in health.failed_at}
        # One that hung for its whole time-out has cost its caller most of all, and would cost the next one as much.
        hung = fault.kind is FaultKind.TIMEOUT and fault.waited_s >= deployment.timeout_s
        if hung or fault.lasting or len(health.failed_at) > self._config.allowed_fails:
            self.cool(deployment, deployment.cooldown_s, only_for=whose.pop() if len(whose) == 1 else None)

    def cool(self, deployment: Deployment, seconds: float, *, told: bool = False, only_for: str | None = None) -> None:
        """Have this deployment passed over for so long, by one tenant or by all; `told`: at its provider's own word."""
        health, now = self._health[deployment.id], self._clock()
        is_same = health.cooling_until <= now or health.cooling_for == only_for
        health.cooling_for = only_for if is_same else None
        if not is_same:  # for how long, one tenant's request does not say for the others
            health.cooling_until = health.told_until = 0.0
        until = now + min(seconds, _RETRY_AFTER_MAX_S)
        health.cooling_until = max(health.cooling_until, until)
        if told:
            health.told_until = until
        left = self.cooling(deployment)
        # Once, however long it lasts: who reads the log sees changes.
        if left > 0 and not health.reported_down and self._may_report(health):
            health.reported_down = True
            self._report(
                f"{deployment.name} ({deployment.group}): {health.last_fault}; passed over for {max(1, round(left))} s "
                "or until it is back"
            )

    def _may_report(self, health: _Health) -> bool:
        """Whether a change is news; what comes and goes all the time is told now and then."""
        now = self._clock()
        if len(health.reports) == _MOST_REPORTS and now - health.reports[0] < _REPORTS_S:
            return False
        health.reports.append(now)
        return True

    def is_known_down(self, deployment: Deployment, own: int, tenant: str | None) -> bool:
        """Whether a tenant passes it over, and would without so many failures of the call's own."""
        others = len(self._health[deployment.id].failed_at) - own
        return self.cooling(deployment, tenant) > 0 and others > self._config.allowed_fails

    def probing(self, deployment: Deployment) -> asyncio.Event | None:
        """What ends when the call that is asking whether it is back has ended; None where nobody asks."""
        return self._health[deployment.id].probing

    def seems_to_answer(self, deployment: Deployment) -> bool:
        """Whether the call that is asking it waits for longer than it took to fail."""
        health = self._health[deployment.id]
        return not health.hung and self._clock() >= health.probing_since + _ANSWERING_S

    def told_to_wait(self, deployment: Deployment) -> bool:
        """Whether its provider has said when to come back."""
        return self._health[deployment.id].told_until > self._clock()

    def until_probe(self, deployment: Deployment) -> float:
        """Seconds until it is time to look again whether it is back; 0 or less when it is."""
        health = self._health[deployment.id]
        return max(health.next_probe, health.told_until) - self._clock()

    def begin_probe(self, deployment: Deployment) -> None:
        health = self._health[deployment.id]
        health.probing, health.probing_since = asyncio.Event(), self._clock()

    def end_probe(self, deployment: Deployment, outcome: Answer | Fault | None) -> None:
        health = self._health[deployment.id]
        if health.probing is not None:
            health.probing.set()
            health.probing = None
        if isinstance(outcome, Fault) and outcome.kind not in _REQUEST_FAULTS:
            pause = min(_PROBE_MAX_S, _PROBE_FIRST_S * 2.0**health.probes_failed)
            health.probes_failed = min(health.probes_failed + 1, 10)  # what a float can hold
            health.next_probe = self._clock() + pause

    def no_outage(self, deployments: Iterable[Deployment]) -> None:
        """One of these has answered. So the others need not be spared: whoever needs one may look again soon."""
        soon = self._clock() + _PROBE_FIRST_S
        for deployment in deployments:
            health = self._health[deployment.id]
            health.probes_failed = 0
            health.next_probe = min(health.next_probe, soon)

    def backoff(self, retries: int) -> float:
        """Seconds to wait before the next try of the same deployment: exponential, with jitter so that calls that
        failed together do not come back together."""
        return min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0**retries) * self._rng.uniform(0.5, 1.0)

    def limit_reached(self, deployment: Deployment) -> str | None:
        """Which of the operator's own limits keeps it from being asked now, or None."""
        health = self._health[deployment.id]
        self._forget(health)
        if deployment.rpm is not None and health.requests >= deployment.rpm:
            return f"at its limit of {deployment.rpm} requests per minute"
        if deployment.tpm is not None and health.tokens >= deployment.tpm:
            return f"at its limit of {deployment.tpm} tokens per minute"
        return None


def _deployments(config: Config) -> Iterator[Deployment]:
    for group in config.groups.values():
        yield from group.deployments


def _frozen(value: Any) -> Any:
    """The same in a form that can be looked up."""
    if isinstance(value, Mapping):
        return frozenset((key, _frozen(one)) for key, one in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _order(deployment: Deployment) -> float:
    return float("inf") if deployment.order is None else deployment.order


def _shares(equals: Sequence[Deployment]) -> list[float]:
    """How many of the calls each gets of those that are shuffled, as in LiteLLM: by weight where one of them gives it,
    else by rpm, else by tpm; whoever does not give what another gives has none."""
    for given in (
        [deployment.weight for deployment in equals],
        [deployment.rpm for deployment in equals],
        [deployment.tpm for deployment in equals],
    ):
        if any(given):
            return [(share or 0) * deployment.copies for share, deployment in zip(given, equals, strict=True)]
    return [deployment.copies for deployment in equals]


def _differ(one: Deployment, other: Deployment) -> bool:
    """Whether they are different models, or on different accounts: one may take what the other does not."""

    def account(deployment: Deployment) -> dict[str, Any]:
        return {key: value for key, value in deployment.params.items() if _ACCOUNT.fullmatch(key)}

    return one.model != other.model or account(one) != account(other)


@dataclass(frozen=True, slots=True)
class _Stop:
    """A group on the way; `free_only`: only what costs nothing may answer there."""

    group: Group
    free_only: bool = False


class Walk:
    """One request's way through the deployments.

    Attributes:
        attempts: the failed tries so far, in order.
        waiting_for: one phrase saying what is being waited for, for the deadline's error.
    """

    def __init__(
        self,
        routes: Routes,
        group: Group,
        needs: Needs,
        deadline: float,
        allowed: Collection[str] | None,
        tell: Callable[[str], None],
        tenant: str | None,
    ) -> None:
        self._routes = routes
        self._tenant = tenant
        self._group = group
        self._needs = needs
        self._deadline = deadline
        self._allowed = allowed
        self._tell = tell
        self._ahead: list[_Stop] = [_Stop(group)]
        self._passed: list[_Stop] = []
        self._asked: list[Deployment] = []
        self._faults: list[Fault] = []
        self._last: dict[str, tuple[str, Fault]] = {}  # how each deployment failed last, by its id, with its name
        self._refused: list[Deployment] = []  # those after which only a different one is asked
        self._window_needed = 0
        self.attempts: list[Attempt] = []
        self.waiting_for = ""

    def wait_for(self, what: str, *, trying: bool = False) -> None:
        """Take note of what is being waited for; `trying`: a deployment that is being asked."""
        self.waiting_for = what
        line = f"trying {what}" if trying else f"waiting for {what}"
        if self.attempts:
            failed = self.attempts[-1]
            line = f"{failed.deployment}: {failed.error}, {line.replace(failed.deployment, 'it')}"
        self._tell(line)

    def tries(self) -> Generator[Try | Hold, Answer | Fault | None, None]:
        """Yields each try and is sent its outcome; ends after an answer or when nothing is left to try."""
        visited: set[str] = set()
        while True:
            while self._ahead:
                stop = self._ahead.pop(0)
                if stop.group.name in visited:
                    continue
                visited.add(stop.group.name)
                self._passed.append(stop)
                kinds: set[FaultKind] = set()
                while FaultKind.CONTENT_POLICY not in kinds and (candidates := self._candidates(stop)):
                    deployment = self._routes.pick(candidates, self._needs.input_tokens)
                    outcome = yield from self._ask(deployment, stop.group, deployment.num_retries)
                    if self._is_final(outcome):
                        return
                    if isinstance(outcome, Fault):
                        kinds.add(outcome.kind)
                self._go_on(stop, kinds)
            looked = yield from self._look_again()
            if looked is None or self._is_final(looked[1]):
                return
            stop, found = looked
            if isinstance(found, Fault):
                self._go_on(stop, {found.kind})

    def _go_on(self, stop: _Stop, kinds: Collection[FaultKind]) -> None:
        """Settle which groups are next, and who of those that were passed by may still be asked."""
        group = stop.group
        behind = group.fallbacks
        if FaultKind.CONTENT_POLICY in kinds:
            self._ahead, self._passed, behind = [], [], group.content_policy_fallbacks
        elif any(fault.kind in _UNASKED for fault in self._faults):
            # Others of the group may have cost less. What is behind it is another matter: a tenant whose money has run
            # out is told so, unless the operator has said what may answer for nothing instead.
            self._ahead = [
                _Stop(free, free_only=True) for free in self._routes.groups(self._routes.budget_fallback, self._allowed)
            ]
            self._passed = [one for one in self._passed if one is stop or one.free_only]
            return
        elif FaultKind.CONTEXT_OVERFLOW in kinds:
            behind = (*group.context_window_fallbacks, *group.fallbacks)
        self._ahead[:0] = [_Stop(one) for one in self._routes.groups(behind, self._allowed)]

    def _is_final(self, outcome: Answer | Fault) -> bool:
        """Whether nobody else is to be asked; notes what the others must have."""
        if isinstance(outcome, Fault) and outcome.kind is FaultKind.CONTEXT_OVERFLOW:
            # From here on only a larger window will do, wherever it is.
            window = self._routes.facts(self._asked[-1]).context_window
            needed = window + 1 if window is not None else self._needs.tokens
            self._window_needed = max(self._window_needed, needed)
        if isinstance(outcome, Answer):
            self._routes.no_outage(deployment for group in self._chain() for deployment in group.deployments)
            return True
        if outcome.kind in _PASSED_ON or outcome.lasting:
            self._refused.append(self._asked[-1])
        return outcome.kind is FaultKind.BAD_REQUEST or self._is_confirmed()

    def _is_confirmed(self) -> bool:
        """Whether two that differ have refused the request as wrong: the others would as well."""
        return sum(fault.kind is FaultKind.REFUSED and fault.sent for fault in self._faults) > 1

    def _ask(
        self, deployment: Deployment, group: Group, retries: int, *, behind: bool | None = None
    ) -> Generator[Try | Hold, Answer | Fault | None, Answer | Fault]:
        """All tries of one deployment; the outcome of the last. `behind`: whether somebody else could still answer."""
        self._asked.append(deployment)
        outcome = yield from self._once(deployment, group, 0.0, behind)
        own = 1
        for retry in range(retries):
            if isinstance(outcome, Answer) or outcome.kind not in _RETRYABLE or outcome.lasting:
                return outcome
            wait = self._routes.backoff(retry) if outcome.retry_after_s is None else outcome.retry_after_s
            too_late = self._routes.now() + wait >= self._deadline
            down = self._routes.is_known_down(deployment, own, self._tenant)
            if too_late or self._routes.limit_reached(deployment) or (down and self._is_anybody_behind()):
                break
            self.wait_for(f"another try of {deployment.name}")
            if down:  # as all who are waiting for a retry know: one of them tries it, for all
                yield Hold(wait)
                while (probing := self._routes.probing(deployment)) and not self._routes.seems_to_answer(deployment):
                    yield Hold(_ROUND_S, probing)
                if probing is not None or self._cooling(deployment) <= 0:
                    outcome = yield from self._once(deployment, group, 0.0, behind)
                    own += 1
                elif self._routes.until_probe(deployment) <= 0:
                    outcome = yield from self._probe(deployment, group, behind)
                    own += 1
            else:
                outcome = yield from self._once(deployment, group, wait, behind)
                own += 1
        if isinstance(outcome, Fault) and outcome.kind in _RETRYABLE and outcome.retry_after_s is not None:
            only_for = self._tenant if outcome.only_said else None
            self._routes.cool(deployment, outcome.retry_after_s, told=True, only_for=only_for)
        return outcome

    def _once(
        self, deployment: Deployment, group: Group, wait: float, behind: bool | None
    ) -> Generator[Try | Hold, Answer | Fault | None, Answer | Fault]:
        # Booked before it is made, so that calls that choose at the same moment see each other.
        began = self._routes.began(deployment)
        outcome: Answer | Fault | None = None
        try:
            outcome = yield Try(deployment, group.name, wait, self._limit(deployment, wait, behind))
        finally:
            self._routes.ended(deployment, outcome, began, self._tenant)
        assert outcome is not None  # noqa: S101  # a try is sent back how it went
        if isinstance(outcome, Fault):
            self._faults.append(outcome)
            self._last[deployment.id] = deployment.name, outcome
        return outcome

    def _probe(
        self, deployment: Deployment, group: Group, behind: bool | None
    ) -> Generator[Try | Hold, Answer | Fault | None, Answer | Fault]:
        """One try of one that is cooling down, on behalf of all who wait for what it finds."""
        outcome: Answer | Fault | None = None
        self._routes.begin_probe(deployment)
        try:
            outcome = yield from self._once(deployment, group, 0.0, behind)
        finally:
            self._routes.end_probe(deployment, outcome)
        return outcome

    def _look_again(
        self,
    ) -> Generator[Try | Hold, Answer | Fault | None, tuple[_Stop, Answer | Fault] | None]:
        """Nobody else is left: what was passed over because it had failed may be back. One call at a time asks it,
        once, and the others wait for what it finds; for a moment after that nobody does, so that an outage costs
        little. What came of asking one of them, and where; None when there is nothing to ask."""
        while True:
            busy: list[tuple[Deployment, asyncio.Event]] = []
            waits: list[float] = []
            is_due_soon = False
            left = self._left()
            for deployment, stop in left:
                group, others = stop.group, len(left) > 1
                if self._is_ready(deployment):  # as another call has found
                    return stop, (yield from self._ask(deployment, group, deployment.num_retries, behind=others))
                if self._cooling(deployment) <= 0:
                    continue  # at a limit of its own
                wait = self._routes.until_probe(deployment)
                if (probing := self._routes.probing(deployment)) is not None:
                    if self._routes.seems_to_answer(deployment):
                        return stop, (yield from self._ask(deployment, group, 0, behind=others))
                    busy.append((deployment, probing))
                elif wait <= 0:
                    self._asked.append(deployment)
                    return stop, (yield from self._probe(deployment, group, others))
                else:
                    waits.append(wait)
                    in_time = self._routes.now() + wait < self._deadline
                    is_due_soon |= in_time and (wait <= _SOON_S or self._routes.told_to_wait(deployment))
            if busy:
                deployment, probing = busy[0]
                self.wait_for(f"word from {deployment.name}, which is cooling down")
                yield Hold(min((_ROUND_S, *waits)), probing)
            elif is_due_soon:
                self.wait_for("the next look at what is cooling down")
                yield Hold(min(waits))
            else:
                return None

    def _left(self) -> list[tuple[Deployment, _Stop]]:
        """What was passed by without being asked and could answer, if it were in health: nearest first."""
        return [
            (deployment, stop)
            for stop in self._passed
            for deployment in sorted(stop.group.deployments, key=_order)
            if deployment.unavailable is None and self._fits(deployment, stop) and not self._was_asked(deployment)
        ]

    def _limit(self, deployment: Deployment, wait: float, behind: bool | None) -> float:
        """Seconds for one try. While there is somebody behind it, a hang may take half of what is left at most, so that
        the others are asked within the deadline."""
        left = self._deadline - self._routes.now() - wait
        if behind is None:
            behind = self._is_anybody_behind()
        return min(deployment.timeout_s, left / 2) if behind else deployment.timeout_s

    def _is_anybody_behind(self) -> bool:
        return any(self._candidates(stop) for stop in (*self._passed, *self._ahead, *map(_Stop, self._chain())))

    def _candidates(self, stop: _Stop) -> list[Deployment]:
        return [
            deployment
            for deployment in stop.group.deployments
            if self._is_ready(deployment) and self._fits(deployment, stop) and not self._was_asked(deployment)
        ]

    def _is_ready(self, deployment: Deployment) -> bool:
        return self._routes.state(deployment, self._tenant)[0] == "ready"

    def _cooling(self, deployment: Deployment) -> float:
        return self._routes.cooling(deployment, self._tenant)

    def _was_asked(self, deployment: Deployment) -> bool:
        return any(self._routes.same(deployment, asked) for asked in self._asked)

    def _fits(self, deployment: Deployment, stop: _Stop) -> bool:
        facts = self._routes.facts(deployment)
        if self._needs.missing(facts) is not None:
            return False
        if stop.free_only and not facts.free:
            return False
        if not all(_differ(deployment, refused) for refused in self._refused):
            return False
        return not self._window_needed or (facts.context_window or 0) >= self._window_needed

    def _chain(self) -> list[Group]:
        """The group asked for and every fallback behind it, nearest first."""
        chain = [self._group]
        for group in chain:
            behind = [name for name in group.fallbacks if all(g.name != name for g in chain)]
            chain += self._routes.groups(behind, self._allowed)
        return chain

    def failure(self) -> KonstructError:
        """The error of a walk that ended without an answer."""
        name = self._group.name
        if not self._faults:
            return self._nothing_to_ask()
        last = self._faults[-1]
        who = self._asked[-1].name
        if last.kind is FaultKind.BAD_REQUEST:
            return BadRequestError(f"{who} refused the request: {last.reason or last.detail}")
        if last.kind in _UNASKED:
            return self._refusal()
        if last.kind is FaultKind.CONTENT_POLICY:
            return ContentPolicyError(f"{who} refused the content under its content policy; rephrase it")
        if all(fault.kind is FaultKind.CONTEXT_OVERFLOW for fault in self._faults):
            asked = " and ".join(dict.fromkeys(deployment.name for deployment in self._asked))
            return ContextOverflowError(
                f'the conversation is too long for {asked}, and "{name}" has no deployment with a larger context window'
                " behind it; shorten the conversation or use a group with a larger one"
            )
        if self._is_confirmed() or all(fault.kind in _NOT_TAKEN for fault in self._faults):
            return self._not_taken()
        lasts = all(fault.kind in _SET_UP for fault in self._faults)
        advice = "use another group, or have it set up" if lasts else "try again later or use another group"
        return AllFailedError(
            f'no deployment of "{name}" or its fallbacks answered: {self._tried()}; {advice}',
            self.attempts,
        )

    def _not_taken(self) -> KonstructError:
        """The error of a walk on which nobody took the request."""
        refused = [
            f"{who} refused the request: {fault.reason or fault.detail}" if fault.sent else f"{who}: {fault}"
            for who, fault in self._last.values()
            if fault.kind is FaultKind.REFUSED
        ]
        if refused:
            return BadRequestError("; ".join(dict.fromkeys(refused)))
        name, tried = self._group.name, self._tried()
        if any(fault.kind is not FaultKind.UNMADE for fault in self._faults):
            return UnsupportedError(f'no deployment of "{name}" takes what is asked: {tried}; use another group')
        return UnavailableError(
            f'nothing in "{name}" or its fallbacks can be called now: {tried}; use another group, or have it set up',
            self.attempts,
        )

    def _refusal(self) -> KonstructError:
        """The error of a walk that ended at a budget: its own words, and then what had failed for another reason."""
        unaffordable = [fault.reason for fault in self._faults if fault.kind is FaultKind.BUDGET]
        unpriced = [fault.reason for fault in self._faults if fault.kind is FaultKind.UNPRICED]
        others = [str(fault) for fault in self._faults if fault.kind not in _UNASKED]
        advice = (
            [] if unaffordable else ["use another group, or have `konstruct-mcp check` say what to add to the config"]
        )
        reasons = "; ".join([*dict.fromkeys(unaffordable + unpriced), *dict.fromkeys(others), *advice])
        return (BudgetExceededError if unaffordable else UnpricedError)(reasons, self.attempts)

    def _tried(self) -> str:
        """Each deployment that was tried and why it failed, once each, then those that were passed over."""
        reasons: dict[str, list[str]] = {}
        for attempt in self.attempts:
            reasons.setdefault(attempt.deployment, []).append(attempt.error)
        lines = []
        for deployment, errors in reasons.items():
            why = dict.fromkeys(
                fault.reason
                for who, fault in self._last.values()
                if who == deployment and fault.kind in _PASSED_ON and fault.sent and fault.reason
            )
            tries = f", {len(errors)} tries" if len(errors) > 1 else ""
            lines.append(": ".join(filter(None, (f"{deployment}: {errors[-1]}{tries}", "; ".join(why)))))
        return "; ".join(lines + self._passed_over(exclude=reasons))

    def _passed_over(self, exclude: Mapping[str, object]) -> list[str]:
        lines: dict[str, str] = {}
        for group in self._chain():
            for deployment in group.deployments:
                if deployment.name not in exclude and not self._was_asked(deployment):
                    missing = self._needs.missing(self._routes.facts(deployment))
                    state, reason = self._routes.state(deployment, self._tenant)
                    why = reason if state == "unavailable" else f"does not support {missing}" if missing else reason
                    if why is not None:
                        lines.setdefault(deployment.name, f"{deployment.name}: not tried, {why}")
        return list(lines.values())

    def _nothing_to_ask(self) -> KonstructError:
        name = self._group.name
        reasons = "; ".join(self._passed_over(exclude={}))
        deployments = [d for group in self._chain() for d in group.deployments if d.unavailable is None]
        missing = {self._needs.missing(self._routes.facts(d)) for d in deployments}
        if deployments and None not in missing:
            lacking = ", ".join(sorted(filter(None, missing)))
            return UnsupportedError(f'no deployment of "{name}" supports {lacking}: {reasons}; use another group')
        advice = "try again later or use another group" if deployments else "use another group, or have it set up"
        return UnavailableError(f'nothing in "{name}" or its fallbacks can be called now: {reasons}; {advice}')
