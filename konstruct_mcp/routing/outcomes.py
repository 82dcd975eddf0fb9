"""How a try went: an answer, or a fault of a certain kind. What routing does next depends on the kind alone."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from konstruct_mcp.core.budgets import Shortfall


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
    UNFIT = "cannot do what is asked"  # the deployment lacks something that the request needs
    REFUSED = "request refused"  # the deployment says that the request is wrong; another may have to confirm it
    BAD_REQUEST = "request is wrong"
    UNMADE = "not asked"  # no request to this deployment can be made
    BUDGET = "not within budget"
    UNPRICED = "unpriced"
    AT_LIMIT = "at its limit"  # of requests or tokens a minute, as other servers have counted


RETRYABLE = frozenset({FaultKind.RATE_LIMITED, FaultKind.SERVER_ERROR, FaultKind.CONNECTION})
# After these the provider may still have worked on the request, and count it.
UNFINISHED = frozenset({FaultKind.TIMEOUT, FaultKind.CONNECTION, FaultKind.BAD_ANSWER})
# This deployment does not take the request, and another may.
PASSED_ON = frozenset({FaultKind.UNFIT, FaultKind.REFUSED, FaultKind.UNMADE})
# A budget refused the try before the provider was asked.
REFUSED_BY_BUDGET = frozenset({FaultKind.BUDGET, FaultKind.UNPRICED})
NOT_TAKEN = PASSED_ON | {FaultKind.CONTEXT_OVERFLOW}
# Faults of the request: they say nothing about the health of the deployment.
REQUEST_FAULTS = (
    REFUSED_BY_BUDGET
    | PASSED_ON
    | frozenset({FaultKind.CONTEXT_OVERFLOW, FaultKind.CONTENT_POLICY, FaultKind.BAD_REQUEST, FaultKind.AT_LIMIT})
)
# A request may cause these, by its length, its time-out or what it has the model write. Until another tenant's try
# fails too, they count for the tenant that sent it and for nobody else.
MAYBE_CAUSED_BY_REQUEST = frozenset({FaultKind.SERVER_ERROR, FaultKind.TIMEOUT, FaultKind.BAD_ANSWER})
# These last until an operator changes something.
NEEDS_OPERATOR = frozenset({FaultKind.AUTH, FaultKind.QUOTA, FaultKind.NOT_FOUND, FaultKind.ACCOUNT, FaultKind.UNMADE})


@dataclass(frozen=True, slots=True)
class Fault:
    """A try failed.

    Attributes:
        kind: what routing goes by.
        detail: what an operator wants to know beside the kind ("HTTP 429", "within 120 s"); never a provider's text.
        reason: for a fault of the request, the provider's own reason, cleaned, or the budget's. For a request that was
            not sent, why not, in our own words.
        retry_after_s: seconds that the provider asks to wait, if it does.
        waited_s: for a time-out, how long the answer was waited for.
        sent: whether the request may have reached the provider.
        ran: whether a model may have worked on it, which the provider bills; None: as the kind says.
        lasting: whether the next try of this deployment will fail in the same way, so that it cools down at once.
        only_said: whether only the provider's words, which the request may have put there, say that it is not the
            request's fault.
        shortfall: where a budget refused, what is left of it.
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
    shortfall: Shortfall | None = None

    @property
    def was_asked(self) -> bool:
        """Whether the deployment was tried at all; if not, the try does not count towards its limits."""
        return self.sent or self.kind not in REQUEST_FAULTS

    @property
    def may_be_the_requests(self) -> bool:
        """Whether the request may have caused it. A connection that breaks after sending may break because of what was
        sent."""
        return (
            self.only_said or self.kind in MAYBE_CAUSED_BY_REQUEST or (self.kind is FaultKind.CONNECTION and self.sent)
        )

    @property
    def may_be_billed(self) -> bool:
        """Whether the provider may bill it, although no answer has come."""
        return self.sent and (self.kind in UNFINISHED if self.ran is None else self.ran)

    def __str__(self) -> str:
        if self.kind in PASSED_ON and not self.sent:
            return f"{FaultKind.UNMADE.value}: {self.reason or self.detail}"
        return f"{self.kind.value} ({self.detail})" if self.detail else self.kind.value


class FaultError(Exception):
    """Carries a fault out of code that makes a request, where no HTTP answer shows it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Answer:
    """A try was answered.

    Attributes:
        latency_s: seconds from the request to the answer.
        tokens: those that count towards the deployment's `tpm`.
    """

    latency_s: float
    tokens: int


Outcome = Answer | Fault


@dataclass(frozen=True, slots=True)
class TryResult:
    """What a walk is sent when a try has ended: its outcome, and how long it took, without the wait before it."""

    outcome: Outcome
    duration_s: float
