"""The deployments of a config as routing sees them: the state of each, and which of several is asked."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from konstruct_mcp.config.model import Config, Deployment, Group
from konstruct_mcp.core.events import HealthChange
from konstruct_mcp.core.results import DeploymentState
from konstruct_mcp.routing.facts import Facts
from konstruct_mcp.routing.health import Health, HealthStore, MemoryHealthStore
from konstruct_mcp.routing.limits import LimitStore, MemoryLimitStore, Used
from konstruct_mcp.routing.outcomes import REQUEST_FAULTS, Answer, Fault, FaultKind, Outcome
from konstruct_mcp.routing.strategies import USAGE_BASED, Load, Strategy

# Waits between tries of one deployment: short first, since most faults that a retry cures are over at once.
_BACKOFF_FIRST_S, _BACKOFF_MAX_S = 0.25, 8.0


class Routes:
    """The deployments of a config, with their health, limits and load, shared by all calls."""

    def __init__(
        self,
        config: Config,
        facts: Mapping[str, Facts],
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        report: Callable[[str], None] = lambda _: None,
        on_change: Callable[[HealthChange], None] = lambda _: None,
        health_store: HealthStore | None = None,
        limit_store: LimitStore | None = None,
        earlier: Routes | None = None,
    ) -> None:
        """
        Args:
            facts: what is known of each deployment's model, by the deployment's id.
            clock: gives seconds from any fixed point.
            report: is given a line for the log when a deployment goes down and when it is back.
            on_change: is given the same as an event, each time.
            health_store, limit_store: where health and use are kept; by default in this process.
            earlier: the routes of the config before this one. Deployments with the same parameters in both keep their
                health, their use and their load.
        """
        self._config = config
        self._facts = facts
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, keeps no secret
        self._by_usage = config.routing_strategy in USAGE_BASED
        self._keys: dict[str, str] = {}
        self._counted: set[str] = set()  # the keys whose requests and tokens are counted
        for id_, deployment in config.deployments.items():
            key = self._keys[id_] = fingerprint(deployment.params)
            if self._by_usage or deployment.rpm is not None or deployment.tpm is not None:
                self._counted.add(key)
        keys = set(self._keys.values())
        loads: Mapping[str, Load] = {} if earlier is None else earlier._loads
        self._loads: dict[str, Load] = {key: loads.get(key) or Load() for key in keys}
        if earlier is not None:
            health_store = health_store or earlier._health_store
            limit_store = limit_store or earlier._limits
        self._health_store: HealthStore = (health_store or MemoryHealthStore()).of_these(keys)
        self._limits: LimitStore = (limit_store or MemoryLimitStore()).of_these(keys)
        self.health = Health(
            self._keys,
            clock=clock,
            allowed_fails=config.allowed_fails,
            store=self._health_store,
            report=report,
            on_change=on_change,
        )
        self._strategy = Strategy(
            config.routing_strategy,
            facts=self.facts,
            load=self._load,
            used_tokens=lambda deployment: self._used(deployment).tokens,
            rng=self._rng,
        )

    @property
    def stores(self) -> tuple[HealthStore, LimitStore]:
        """Where health and use are kept."""
        return self._health_store, self._limits

    def state(self, deployment: Deployment, tenant: str | None = None) -> tuple[DeploymentState, str | None]:
        """The state of a deployment as this tenant sees it, or the operator for None, and the reason unless it is
        `ready`."""
        if deployment.unavailable is not None:
            return "unavailable", deployment.unavailable
        if (left := self.health.cooling(deployment, tenant)) > 0:
            return "cooling_down", f"{self.health.last_fault(deployment)}; tried again in {max(1, round(left))} s"
        if (limit := self.limit_reached(deployment)) is not None:
            return "cooling_down", limit
        return "ready", None

    # -- what a walk asks --------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The clock's reading, in seconds."""
        return self._clock()

    def facts(self, deployment: Deployment) -> Facts:
        """What is known of its model."""
        return self._facts[deployment.id]

    @property
    def ways_on(self) -> str:
        """What to do where nothing at all is set up; "" where something is."""
        return self._config.ways_on

    def group(self, name: str) -> Group:
        """The group of this name."""
        return self._config.groups[name]

    def groups(self, names: Iterable[str], allowed: Collection[str] | None) -> list[Group]:
        """The groups of these names that are allowed; None allows all."""
        return [self._config.groups[name] for name in names if allowed is None or name in allowed]

    @property
    def budget_fallback(self) -> tuple[str, ...]:
        """The groups to fall back to where a budget refuses."""
        return () if self._config.budget_fallback is None else (self._config.budget_fallback,)

    def same(self, one: Deployment, other: Deployment) -> bool:
        """Whether both call the same model with the same parameters, so that a call asks only one of them."""
        return self._keys[one.id] == self._keys[other.id]

    def key(self, deployment: Deployment) -> str:
        """What two deployments have in common that are `same`, in every process."""
        return self._keys[deployment.id]

    def pick(self, candidates: Sequence[Deployment], tokens: int = 0, preferred: str | None = None) -> Deployment:
        """The one to ask among candidates that can all be called: lowest order, then the preferred one, then by the
        routing strategy.

        Args:
            tokens: those that the request will send.
            preferred: the `key` of one that has most of the request in its provider's cache.
        """
        if self._by_usage:
            candidates = [one for one in candidates if self._has_room(one, tokens)] or candidates
        lowest = min(map(order, candidates))
        equals = [deployment for deployment in candidates if order(deployment) == lowest]
        cached = [deployment for deployment in equals if self._keys[deployment.id] == preferred]
        return cached[0] if cached else self._strategy.pick(equals)

    def backoff(self, retries: int) -> float:
        """Seconds to wait before the next try of the same deployment: exponential, with jitter so that calls that
        failed together do not come back together."""
        return min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0**retries) * self._rng.uniform(0.5, 1.0)

    def limit_reached(self, deployment: Deployment) -> str | None:
        """Which of the operator's own limits keeps it from being asked now, or None."""
        if deployment.rpm is None and deployment.tpm is None:
            return None
        limit = self._used(deployment).reached(deployment.rpm, deployment.tpm)
        return None if limit is None else f"at its limit of {limit} per minute"

    async def claim(self, deployment: Deployment) -> Fault | None:
        """Claim one request of its limits from all servers that share them; the fault where they have none left."""
        if deployment.rpm is None and deployment.tpm is None:
            return None
        key = self._keys[deployment.id]
        if await self._limits.claim(key, self._clock(), deployment.rpm, deployment.tpm) is None:
            return None
        limits = ((deployment.rpm, "requests"), (deployment.tpm, "tokens"))
        named = " or ".join(f"{limit} {what}" for limit, what in limits if limit is not None)
        return Fault(FaultKind.AT_LIMIT, f"{named} per minute, on all servers together", sent=False)

    def _has_room(self, deployment: Deployment, tokens: int) -> bool:
        """Whether a request of so many tokens stays within the operator's own limit."""
        return deployment.tpm is None or self._used(deployment).tokens + tokens <= deployment.tpm

    def _used(self, deployment: Deployment) -> Used:
        return self._limits.used(self._keys[deployment.id], self._clock())

    def _load(self, deployment: Deployment) -> Load:
        return self._loads[self._keys[deployment.id]]

    # -- what a walk reports -----------------------------------------------------------------------------------------

    def began(self, deployment: Deployment) -> float:
        """A try begins. Returns the clock's reading, for `ended`."""
        now, key = self._clock(), self._keys[deployment.id]
        self._load(deployment).in_flight += 1
        if key in self._counted:
            self._limits.add(key, now, 1, 0)
        return now

    def ended(self, deployment: Deployment, outcome: Outcome | None, began: float, tenant: str | None = None) -> None:
        """A tenant's try has ended; None when it was given up from outside (cancelled, deadline)."""
        load, key = self._load(deployment), self._keys[deployment.id]
        load.in_flight -= 1
        if outcome is None:
            return
        if isinstance(outcome, Answer):
            load.latencies.append(outcome.latency_s)
            self.health.answered(deployment)
            if key in self._counted:
                self._limits.add(key, self._clock(), 0, outcome.tokens)
        elif outcome.kind not in REQUEST_FAULTS:
            if outcome.kind is FaultKind.TIMEOUT:
                load.latencies.append(max(outcome.waited_s, load.latency))
            self.health.failed(deployment, outcome, tenant)
        elif not outcome.was_asked and key in self._counted:
            self._limits.take_back(key, began)


def order(deployment: Deployment) -> float:
    """The `order` of a deployment; one that has none comes after all that have one."""
    return float("inf") if deployment.order is None else deployment.order


def fingerprint(params: Mapping[str, Any]) -> str:
    """The key under which the health and the limits of a deployment with these parameters are kept.

    - Two entries of a config that call the same model with the same parameters have one, and so one health: a dead
      Ollama behind two groups is one dead Ollama.
    - It is the same in every process, after every reload, and whatever the order of the keys.
    - It shows no secret: it is a hash of all parameters together.
    """
    return hashlib.sha256(repr(_canonical(params)).encode(errors="surrogatepass")).hexdigest()


def _canonical(value: Any) -> Any:
    """The same value in one form of several that are equal, which `repr` writes in one way."""
    if isinstance(value, Mapping):
        return "mapping", sorted(((key, _canonical(one)) for key, one in value.items()), key=repr)
    if isinstance(value, list | tuple):
        return [_canonical(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
