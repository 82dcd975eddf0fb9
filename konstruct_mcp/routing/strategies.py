"""Which of several deployments with the same `order` is asked: the config's `routing_strategy`."""

from __future__ import annotations

import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from konstruct_mcp.config.model import Deployment, RoutingStrategy
from konstruct_mcp.routing.facts import Facts

USAGE_BASED: tuple[RoutingStrategy, ...] = ("usage-based-routing", "usage-based-routing-v2")
# The median of three: one slow answer does not move calls away, two in a row do.
_LATENCY_SAMPLES = 3
# One call in ten goes to a deployment that has not been asked lately, so that one that has become faster is found.
_EXPLORE_EVERY = 10


@dataclass(slots=True)
class Load:
    """How busy and how fast a deployment has been, as this process has seen it."""

    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCY_SAMPLES))
    in_flight: int = 0
    passed_by: int = 0  # how many calls in a row went to one of its equals

    @property
    def latency(self) -> float:
        """Recent latency in seconds. One without a sample counts as fastest, so that it gets its first."""
        return statistics.median(self.latencies) if self.latencies else 0.0


class Strategy:
    """Picks by the strategy of this name. `load` and `used_tokens` look up a deployment's load, and its tokens of the
    last minute."""

    def __init__(
        self,
        name: RoutingStrategy,
        *,
        facts: Callable[[Deployment], Facts],
        load: Callable[[Deployment], Load],
        used_tokens: Callable[[Deployment], int],
        rng: random.Random,
    ) -> None:
        self._name = name
        self._facts = facts
        self._load = load
        self._used_tokens = used_tokens
        self._rng = rng

    def pick(self, equals: Sequence[Deployment]) -> Deployment:
        """The one to ask among deployments with the same order, all of which can be called."""
        if len(equals) == 1:
            return equals[0]
        if self._name == "simple-shuffle":
            return self._rng.choices(equals, _shares(equals))[0]
        chosen = min(equals, key=self._rank)
        if self._name == "latency-based-routing":
            neglected = max(equals, key=lambda one: self._load(one).passed_by)
            if self._load(neglected).passed_by >= _EXPLORE_EVERY - 1:
                chosen = neglected
        for deployment in equals:
            self._load(deployment).passed_by += 1
        self._load(chosen).passed_by = 0
        return chosen

    def _rank(self, deployment: Deployment) -> tuple[float, ...]:
        """Lower is better. Those that rank alike take turns."""
        load = self._load(deployment)
        match self._name:
            case "latency-based-routing":
                return load.latency, load.in_flight
            case "cost-based-routing":
                facts = self._facts(deployment)
                prices = (facts.input_cost, facts.output_cost)
                known = [price for price in prices if price is not None]
                return len(prices) - len(known), sum(known), load.in_flight, -load.passed_by
            case "usage-based-routing" | "usage-based-routing-v2":
                return self._used_tokens(deployment), load.in_flight, -load.passed_by
            case _:  # least-busy
                return load.in_flight, -load.passed_by


def _shares(equals: Sequence[Deployment]) -> list[float]:
    """The share of the calls that each gets under `simple-shuffle`, as in LiteLLM: by weight if any of them has one,
    else by rpm, else by tpm. One that lacks what another has gets none."""
    for given in (
        [deployment.weight for deployment in equals],
        [deployment.rpm for deployment in equals],
        [deployment.tpm for deployment in equals],
    ):
        if any(given):
            return [(share or 0) * deployment.copies for share, deployment in zip(given, equals, strict=True)]
    return [deployment.copies for deployment in equals]
