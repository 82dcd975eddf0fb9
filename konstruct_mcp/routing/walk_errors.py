"""The error of a walk that ended without an answer: of which kind it is, and what it says to whoever reads it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from konstruct_mcp.config.model import Deployment
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
from konstruct_mcp.core.money import NUSD
from konstruct_mcp.core.results import Attempt
from konstruct_mcp.routing.facts import Needs
from konstruct_mcp.routing.outcomes import (
    NEEDS_OPERATOR,
    NOT_TAKEN,
    PASSED_ON,
    REFUSED_BY_BUDGET,
    Fault,
    FaultKind,
)


@dataclass(slots=True)
class TryHistory:
    """What has been tried on a walk so far.

    Attributes:
        asked: the deployments that were asked, in order.
        faults: how each failed try went, in order.
        attempts: the same as users see it.
        last: how each deployment failed last, with its name, by its id.
    """

    asked: list[Deployment] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    last: dict[str, tuple[str, Fault]] = field(default_factory=dict)

    def add(self, deployment: Deployment, fault: Fault, duration_s: float) -> None:
        """A try of this deployment has failed after so many seconds."""
        self.faults.append(fault)
        self.last[deployment.id] = deployment.name, fault
        self.attempts.append(Attempt(deployment.name, str(fault), round(duration_s * 1000)))

    @property
    def is_refusal_confirmed(self) -> bool:
        """Whether two deployments that differ have refused the request as wrong, so that others would refuse it too."""
        return sum(fault.kind is FaultKind.REFUSED and fault.sent for fault in self.faults) > 1


@dataclass(frozen=True, slots=True)
class Untried:
    """A deployment of the group or of its fallbacks that was not asked.

    Attributes:
        name: its name.
        why: why not, in a few words; None where nothing stood against it.
        missing: the argument of the request that it does not support, if any.
        is_set_up: whether it could be called at all.
    """

    name: str
    why: str | None
    missing: str | None
    is_set_up: bool


def failure(
    group: str,
    tries: TryHistory,
    untried: Sequence[Untried],
    needs: Needs,
    windows: Mapping[str, int | None],
    ways_on: str,
) -> KonstructError:
    """The error of a walk that ended without an answer, from the group that was asked for.

    Args:
        needs: what the request needs, its length among it.
        windows: the context window of each deployment that was asked, in tokens, by its name.
        ways_on: what to do where nothing at all is set up; "" where something is.
    """
    faults = tries.faults
    if not faults:
        return _nothing_to_ask(group, untried, ways_on)
    last = faults[-1]
    who = tries.asked[-1].name
    if last.kind is FaultKind.BAD_REQUEST:
        return BadRequestError(f"{who} refused the request: {last.reason or last.detail}")
    if last.kind in REFUSED_BY_BUDGET:
        return _refused_by_budget(tries)
    if last.kind is FaultKind.CONTENT_POLICY:
        return ContentPolicyError(f"{who} refused the content under its content policy; rephrase it")
    if all(fault.kind is FaultKind.CONTEXT_OVERFLOW for fault in faults):
        asked = " and ".join(
            name if window is None else f"{name} ({window:,} tokens)" for name, window in windows.items()
        )
        files = f", {needs.file_bytes:,} bytes of files among them" if needs.file_bytes else ""
        return ContextOverflowError(
            f"the conversation is too long (about {needs.input_tokens:,} tokens{files}) for {asked}, and "
            f'"{group}" has no deployment with a larger context window behind it; shorten the conversation or use a '
            "group with a larger one"
        )
    if tries.is_refusal_confirmed or all(fault.kind in NOT_TAKEN for fault in faults):
        return _not_taken(group, tries, untried)
    needs_operator = all(fault.kind in NEEDS_OPERATOR for fault in faults)
    advice = "use another group, or have it set up" if needs_operator else "try again later or use another group"
    return AllFailedError(
        f'no deployment of "{group}" or its fallbacks answered: {_tried(tries, untried)}; {advice}', tries.attempts
    )


def _nothing_to_ask(group: str, untried: Sequence[Untried], ways_on: str) -> KonstructError:
    """No deployment could be asked."""
    reasons = "; ".join(_not_tried(untried))
    missing = {one.missing for one in untried if one.is_set_up}
    if missing and None not in missing:
        lacking = ", ".join(sorted(filter(None, missing)))
        return UnsupportedError(f'no deployment of "{group}" supports {lacking}: {reasons}; use another group')
    otherwise = f"nothing is set up: {ways_on}" if ways_on else "use another group, or have it set up"
    advice = "try again later or use another group" if missing else otherwise
    return UnavailableError(f'nothing in "{group}" or its fallbacks can be called now: {reasons}; {advice}')


def _refused_by_budget(tries: TryHistory) -> KonstructError:
    """A budget refused: in its own words first, then what had failed for another reason."""
    unaffordable = [fault.reason for fault in tries.faults if fault.kind is FaultKind.BUDGET]
    unpriced = [fault.reason for fault in tries.faults if fault.kind is FaultKind.UNPRICED]
    others = [str(fault) for fault in tries.faults if fault.kind not in REFUSED_BY_BUDGET]
    advice = [] if unaffordable else ["use another group, or have `konstruct-mcp check` say what to add to the config"]
    reasons = "; ".join([*dict.fromkeys(unaffordable + unpriced), *dict.fromkeys(others), *advice])
    if not unaffordable:
        return UnpricedError(reasons, tries.attempts)
    shortfalls = [fault.shortfall for fault in tries.faults if fault.shortfall is not None]
    first = min(shortfalls, key=lambda one: (one.renews_at is None, one.renews_at))
    return BudgetExceededError(reasons, tries.attempts, left_usd=first.left_nusd / NUSD, renews_at=first.renews_at)


def _not_taken(group: str, tries: TryHistory, untried: Sequence[Untried]) -> KonstructError:
    """No deployment took the request."""
    refused = [
        f"{who} refused the request: {fault.reason or fault.detail}" if fault.sent else f"{who}: {fault}"
        for who, fault in tries.last.values()
        if fault.kind is FaultKind.REFUSED
    ]
    if refused:
        return BadRequestError("; ".join(dict.fromkeys(refused)))
    tried = _tried(tries, untried)
    if any(fault.kind is not FaultKind.UNMADE for fault in tries.faults):
        return UnsupportedError(f'no deployment of "{group}" takes what is asked: {tried}; use another group')
    return UnavailableError(
        f'nothing in "{group}" or its fallbacks can be called now: {tried}; use another group, or have it set up',
        tries.attempts,
    )


def _tried(tries: TryHistory, untried: Sequence[Untried]) -> str:
    """Each deployment that was tried, once, and why it failed; then those that were not tried."""
    errors_of: dict[str, list[str]] = {}
    for attempt in tries.attempts:
        errors_of.setdefault(attempt.deployment, []).append(attempt.error)
    lines = []
    for name, errors in errors_of.items():
        reasons = dict.fromkeys(
            fault.reason
            for who, fault in tries.last.values()
            if who == name and fault.kind in PASSED_ON and fault.sent and fault.reason
        )
        count = f", {len(errors)} tries" if len(errors) > 1 else ""
        lines.append(": ".join(filter(None, (f"{name}: {errors[-1]}{count}", "; ".join(reasons)))))
    return "; ".join(lines + _not_tried(untried, but=errors_of))


def _not_tried(untried: Sequence[Untried], but: Collection[str] = ()) -> list[str]:
    """One phrase for each name, but for these."""
    lines: dict[str, str] = {}
    for one in untried:
        if one.why is not None and one.name not in but:
            lines.setdefault(one.name, f"{one.name}: not tried, {one.why}")
    return list(lines.values())
