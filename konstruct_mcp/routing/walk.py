"""The order of tries: one request's way through the deployments of a group and of its fallbacks.

`Walk.tries` is a generator. It yields each `Try` in turn and is sent back a `TryResult`: an answer or a fault, and how
long it took. Now and then it yields a `Hold` instead and is sent None when that is over: nobody is asked meanwhile,
because another call is finding out whether a deployment is back. Everything that a walk learns comes in through `send`.
It may be closed at any time, after an answer or when the call is given up. The order of tries:

    for each group, the one asked for first, then its fallbacks:
        for each deployment of it that can be called, lower `order` first, and of equal order the preferred one:
            the first try, then `num_retries` more for a fault that a retry can cure
    then each that was passed over because it had failed: one try, by one call at a time

- A call asks deployments with the same parameters once.
- A deployment that does not take a request speaks for itself alone. After it only a different model, or the same one on
  another account, is asked. If such a one refuses the request as wrong too, the request is wrong.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from konstruct_mcp.config.model import Deployment, Group
from konstruct_mcp.core.errors import KonstructError
from konstruct_mcp.core.results import Attempt
from konstruct_mcp.routing.facts import Needs
from konstruct_mcp.routing.outcomes import (
    PASSED_ON,
    REFUSED_BY_BUDGET,
    RETRYABLE,
    Answer,
    Fault,
    FaultKind,
    Outcome,
    TryResult,
)
from konstruct_mcp.routing.routes import Routes, order
from konstruct_mcp.routing.walk_errors import TryHistory, Untried, failure

_SOON_S = 0.2  # a probe that is due within so long is waited for, by a call that has no other deployment left
_ROUND_S = 0.25  # a call that waits for a probe looks so often whether another deployment is back meanwhile
# Parameters of a deployment that say on whose account, or where, it is called.
_ACCOUNT = re.compile(
    r"api_(key|base)|organization|project|region_name|(aws|azure|vertex|watsonx)_\w+|(client|tenant)_id"
)


@dataclass(frozen=True, slots=True)
class Try:
    """Ask this deployment, as one of `group`, after waiting `wait_s` seconds, and for `limit_s` seconds at most."""

    deployment: Deployment
    group: str
    wait_s: float
    limit_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Ask nobody for so many seconds, or until the probe of `probed` has ended, if that is sooner."""

    wait_s: float
    probed: Deployment | None = None


@dataclass(frozen=True, slots=True)
class _Stop:
    """A group on the way; `free_only`: only deployments that cost nothing may answer there."""

    group: Group
    free_only: bool = False


_Steps = Generator[Try | Hold, TryResult | None, Outcome]


class Walk:
    """One request's way through the deployments.

    Attributes:
        waiting_for: one phrase that says what is being waited for, for the deadline's error.
    """

    def __init__(
        self,
        routes: Routes,
        group: str,
        needs: Needs,
        deadline: float,
        allowed: Collection[str] | None = None,
        tell: Callable[[str], None] = lambda _: None,
        tenant: str | None = None,
        preferred: str | None = None,
    ) -> None:
        """
        Args:
            group: the name of the group that is asked for.
            deadline: a reading of the routes' clock.
            allowed: the groups that the tenant may use; None for all.
            tell: is given one line that says what is being waited for, whenever that changes.
            tenant: whose request it is; None for nobody's in particular.
            preferred: the key of a deployment that is asked before others of its order; None for none.
        """
        self._routes = routes
        self._health = routes.health
        self._tenant, self._preferred = tenant, preferred
        self._group = routes.group(group)
        self._needs = needs
        self._deadline = deadline
        self._allowed = allowed
        self._tell = tell
        self._ahead: list[_Stop] = [_Stop(self._group)]
        self._passed: list[_Stop] = []
        self._tries = TryHistory()
        self._refused: list[Deployment] = []  # after these only a different one is asked
        self._at_limit: dict[str, Fault] = {}  # those that other servers have used up, by their ids
        self._window_needed = 0
        self.waiting_for = ""

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The failed tries so far, in order."""
        return tuple(self._tries.attempts)

    def wait_for(self, what: str, *, trying: bool = False) -> None:
        """Take note of what is being waited for; `trying`: it is a deployment that is being asked."""
        self.waiting_for = what
        line = f"trying {what}" if trying else f"waiting for {what}"
        if self._tries.attempts:
            failed = self._tries.attempts[-1]
            line = f"{failed.deployment}: {failed.error}, {line.replace(failed.deployment, 'it')}"
        self._tell(line)

    @contextlib.contextmanager
    def watching(self, hold: Hold, over: Callable[[], None]) -> Iterator[None]:
        """Within the block, `over` is called when the probe that a hold waits for has ended."""
        take_back = None if hold.probed is None else self._health.when_probe_ends(hold.probed, over)
        try:
            yield
        finally:
            if take_back is not None:
                take_back()

    def failure(self) -> KonstructError:
        """The error of a walk that ended without an answer."""
        untried = [
            self._untried(deployment)
            for group in self._chain()
            for deployment in group.deployments
            if not self._was_asked(deployment)
        ]
        windows = {asked.name: self._routes.facts(asked).context_window for asked in self._tries.asked}
        return failure(self._group.name, self._tries, untried, self._needs, windows, self._routes.ways_on)

    def _untried(self, deployment: Deployment) -> Untried:
        missing = self._needs.missing(self._routes.facts(deployment))
        state, reason = self._routes.state(deployment, self._tenant)
        at_limit = self._at_limit.get(deployment.id)
        reason = str(at_limit) if reason is None and at_limit is not None else reason
        why = f"does not support {missing}" if missing and state != "unavailable" else reason
        return Untried(deployment.name, why, missing, is_set_up=deployment.unavailable is None)

    # -- the order of tries ------------------------------------------------------------------------------------------

    def tries(self) -> Generator[Try | Hold, TryResult | None, None]:
        """Yields each try and is sent its result; ends after an answer, or when nothing is left to try."""
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
                    deployment = self._routes.pick(candidates, self._needs.input_tokens, self._preferred)
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
        """Settle which groups come next, and which of those that were passed may still be asked."""
        group = stop.group
        behind = group.fallbacks
        if FaultKind.CONTENT_POLICY in kinds:
            self._ahead, self._passed, behind = [], [], group.content_policy_fallbacks
        elif any(fault.kind in REFUSED_BY_BUDGET for fault in self._tries.faults):
            # Others of this group may cost less. The fallbacks behind it are not asked: a tenant whose money has run
            # out is told so, unless the operator has named a group that may answer for nothing instead.
            self._ahead = [
                _Stop(free, free_only=True) for free in self._routes.groups(self._routes.budget_fallback, self._allowed)
            ]
            self._passed = [one for one in self._passed if one is stop or one.free_only]
            return
        elif FaultKind.CONTEXT_OVERFLOW in kinds:
            behind = (*group.context_window_fallbacks, *group.fallbacks)
        self._ahead[:0] = [_Stop(one) for one in self._routes.groups(behind, self._allowed)]

    def _is_final(self, outcome: Outcome) -> bool:
        """Whether no other deployment is to be asked; if not, takes note of what the others must have."""
        if isinstance(outcome, Fault) and outcome.kind is FaultKind.CONTEXT_OVERFLOW:
            # From here on only a larger window will do, in whatever group.
            window = self._routes.facts(self._tries.asked[-1]).context_window
            needed = window + 1 if window is not None else self._needs.tokens
            self._window_needed = max(self._window_needed, needed)
        if isinstance(outcome, Answer):
            self._health.no_outage(deployment for group in self._chain() for deployment in group.deployments)
            return True
        if outcome.kind in PASSED_ON or outcome.lasting:
            self._refused.append(self._tries.asked[-1])
        return outcome.kind is FaultKind.BAD_REQUEST or self._tries.is_refusal_confirmed

    # -- tries of one deployment -------------------------------------------------------------------------------------

    def _ask(self, deployment: Deployment, group: Group, retries: int, *, behind: bool | None = None) -> _Steps:
        """All tries of one deployment; the outcome of the last. `behind`: whether another could still answer, or None
        where that is to be looked up."""
        self._tries.asked.append(deployment)
        outcome = yield from self._once(deployment, group, 0.0, behind)
        if isinstance(outcome, Fault) and outcome.kind is FaultKind.AT_LIMIT:
            self._tries.asked.pop()  # it was not, nor is it once more
            self._at_limit[deployment.id] = outcome
            return outcome
        own = 1  # tries of this call
        for retry in range(retries):
            if isinstance(outcome, Answer) or outcome.kind not in RETRYABLE or outcome.lasting:
                return outcome
            wait = self._routes.backoff(retry) if outcome.retry_after_s is None else outcome.retry_after_s
            too_late = self._routes.now() + wait >= self._deadline
            down = self._health.is_known_down(deployment, own, self._tenant)
            if too_late or self._routes.limit_reached(deployment) or (down and self._is_anybody_behind()):
                break
            self.wait_for(f"another try of {deployment.name}")
            if down:
                # Every call that waits for a retry knows it is down, so one of them probes it, for all.
                yield Hold(wait)
                while self._health.is_probed(deployment) and not self._health.seems_to_answer(deployment):
                    yield Hold(_ROUND_S, deployment)
                if self._health.is_probed(deployment) or self._cooling(deployment) <= 0:
                    outcome = yield from self._once(deployment, group, 0.0, behind)
                    own += 1
                elif self._health.until_probe(deployment) <= 0:
                    outcome = yield from self._probe(deployment, group, behind)
                    own += 1
            else:
                outcome = yield from self._once(deployment, group, wait, behind)
                own += 1
        if isinstance(outcome, Fault) and outcome.kind in RETRYABLE and outcome.retry_after_s is not None:
            only_for = self._tenant if outcome.only_said else None
            self._health.cool(deployment, outcome.retry_after_s, by_provider=True, only_for=only_for)
        return outcome

    def _once(self, deployment: Deployment, group: Group, wait: float, behind: bool | None) -> _Steps:
        # Counted before it is made, so that calls that choose at the same moment see each other.
        began = self._routes.began(deployment)
        result: TryResult | None = None
        try:
            result = yield Try(deployment, group.name, wait, self._limit(deployment, wait, behind))
        finally:
            self._routes.ended(deployment, None if result is None else result.outcome, began, self._tenant)
        assert result is not None  # noqa: S101  # the driver sends back how a try went
        if isinstance(result.outcome, Fault) and result.outcome.kind is not FaultKind.AT_LIMIT:
            self._tries.add(deployment, result.outcome, result.duration_s)
        return result.outcome

    def _probe(self, deployment: Deployment, group: Group, behind: bool | None) -> _Steps:
        """One try of a deployment that is cooling down, on behalf of all calls that wait for what it finds."""
        outcome: Outcome | None = None
        self._health.begin_probe(deployment)
        try:
            outcome = yield from self._once(deployment, group, 0.0, behind)
        finally:
            self._health.end_probe(deployment, outcome)
        return outcome

    def _look_again(self) -> Generator[Try | Hold, TryResult | None, tuple[_Stop, Outcome] | None]:
        """Ask one of those that were passed over because they had failed, as no other is left.

        One call at a time probes a deployment, and the others wait for what it finds. After a failed probe nobody asks
        for a moment, so that an outage costs little. Returns the stop and the outcome; None where nobody is to be
        asked.
        """
        while True:
            probed: Deployment | None = None
            waits: list[float] = []
            is_due_soon = False
            left = self._left()
            behind = len(left) > 1
            for deployment, stop in left:
                if self._is_ready(deployment):  # another call has found that it is back
                    outcome = yield from self._ask(deployment, stop.group, deployment.num_retries, behind=behind)
                    return stop, outcome
                if self._cooling(deployment) <= 0:
                    continue  # it is at its limit of requests or tokens
                wait = self._health.until_probe(deployment)
                if self._health.is_probed(deployment):
                    if self._health.seems_to_answer(deployment):
                        return stop, (yield from self._ask(deployment, stop.group, 0, behind=behind))
                    probed = probed or deployment
                elif wait <= 0:
                    self._tries.asked.append(deployment)
                    return stop, (yield from self._probe(deployment, stop.group, behind))
                else:
                    waits.append(wait)
                    in_time = self._routes.now() + wait < self._deadline
                    is_due_soon |= in_time and (wait <= _SOON_S or self._health.must_wait(deployment))
            if probed is not None:
                self.wait_for(f"word from {probed.name}, which is cooling down")
                yield Hold(min((_ROUND_S, *waits)), probed)
            elif is_due_soon:
                self.wait_for("the next look at what is cooling down")
                yield Hold(min(waits))
            else:
                return None

    # -- who may be asked --------------------------------------------------------------------------------------------

    def _left(self) -> list[tuple[Deployment, _Stop]]:
        """Those that were passed without being asked and could answer if they were well, nearest first."""
        return [
            (deployment, stop)
            for stop in self._passed
            for deployment in sorted(stop.group.deployments, key=order)
            if deployment.unavailable is None and self._fits(deployment, stop) and not self._was_asked(deployment)
        ]

    def _limit(self, deployment: Deployment, wait: float, behind: bool | None) -> float:
        """Seconds for one try. If another could answer after it, a hang may take half of the time that is left at most,
        so that the other is asked within the deadline."""
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
        return self._health.cooling(deployment, self._tenant)

    def _was_asked(self, deployment: Deployment) -> bool:
        return any(self._routes.same(deployment, asked) for asked in self._tries.asked)

    def _fits(self, deployment: Deployment, stop: _Stop) -> bool:
        facts = self._routes.facts(deployment)
        if deployment.id in self._at_limit or self._needs.missing(facts) is not None:
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


def _differ(one: Deployment, other: Deployment) -> bool:
    """Whether they are different models, or on different accounts, so that one may take what the other does not."""
    return one.model != other.model or _account(one.params) != _account(other.params)


def _account(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if _ACCOUNT.fullmatch(key)}
