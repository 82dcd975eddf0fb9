"""What metrics and traces are made of: one frozen event for each thing that happened.

`Konstruct(…, hooks=[…])` calls each hook with each event, in the event loop, while a caller waits: a hook must return
at once. An event holds names, codes and figures of the operator's own config and ledger. It holds no text of a request
or an answer, no provider's words and no secret. Of what a caller made up it holds a tenant's id
where the config allows any (`allow_unknown`), and a model's name that matches a wildcard: do not make these labels of a
metric without a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from konstruct_mcp.core.results import DeploymentState


@dataclass(frozen=True, slots=True)
class TryEnded:
    """One try of one deployment ended: with an answer, with a fault, or because its call was given up.

    Attributes:
        tenant: on whose account.
        group_asked: the model group that the call asked for.
        group: the one in whose name the deployment was tried: another one after a fallback.
        deployment: its id in the config, `group/position`.
        model: `provider/model` as the config names it.
        outcome: `ok`, `cancelled`, the kind of fault (`rate_limited`, `timeout`, `budget`, …), or an error's code where
            the try could not be made.
        duration_s: seconds from the wait for its turn at the deployment to its end.
        input_tokens, output_tokens, cached_tokens: as far as the provider counted them, else 0.
        cost_nusd: nano-dollars; 0 where nothing is billed, None where the cost is unknown.
    """

    tenant: str
    group_asked: str
    group: str
    deployment: str
    model: str
    outcome: str
    duration_s: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nusd: int | None


@dataclass(frozen=True, slots=True)
class CallClosed:
    """One call ended, and its row goes to the ledger.

    Attributes:
        tenant: on whose account.
        group_asked: the model group that the call asked for.
        group_served, model: who answered; None where nobody did.
        outcome: `ok`, an error's code, or `cancelled`.
        duration_s: seconds from its arrival at the account to its end, waits included.
        attempts: how many tries were made, the answer's included.
        input_tokens, output_tokens, cached_tokens: of all its tries together.
        cost_nusd: nano-dollars of all its tries together; None where the cost of one is unknown.
    """

    tenant: str
    group_asked: str
    group_served: str | None
    model: str | None
    outcome: str
    duration_s: float
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nusd: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A call was turned away at the door: no provider was asked, and it has no row in the ledger.

    Attributes:
        tenant: on whose account it would have been; of a verified caller its own, whatever it asked for. None where
            that is not known yet (arguments that cannot be read) or nobody's (`unknown_tenant`).
        group_asked: the model group that it asked for; None where there is no such group for this tenant.
        code: the error's: `unknown_tenant`, `unknown_group`, `invalid_argument`, `overloaded`, `timeout`.
    """

    tenant: str | None
    group_asked: str | None
    code: str


@dataclass(frozen=True, slots=True)
class HealthChange:
    """A deployment cools down after failing too often, or answers again. Emitted

    - when a cooldown begins, not when it is prolonged;
    - when it comes to hold for another tenant, or for all;
    - when the deployment has answered. The end of a cooldown is no event: only an answer shows that it is back.

    Attributes:
        deployment: its id in the config.
        entries: the ids of all entries of the config that have its parameters and so share its health, its own
            included. A gauge of one value for each deployment has to set all of them.
        group: the model group that it belongs to.
        state: `cooling_down` or `ready`.
        reason: the last fault, such as "server error (HTTP 500)".
        retry_after_s: seconds until it is asked again at the latest; None where it is ready.
        tenant: the only tenant for whom this holds; None where it holds for all.
    """

    deployment: str
    entries: tuple[str, ...]
    group: str
    state: DeploymentState
    reason: str
    retry_after_s: float | None
    tenant: str | None


Event = TryEnded | CallClosed | Refused | HealthChange
