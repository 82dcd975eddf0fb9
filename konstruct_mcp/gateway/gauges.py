"""How things stand at this moment: what an operator's gauges show."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from konstruct_mcp.core.fairness import Admission
from konstruct_mcp.core.results import DeploymentState
from konstruct_mcp.gateway.reload import Generation
from konstruct_mcp.ledger.ledger import Ledger

_PATIENCE_S = 0.5  # for the folder of the spool, which may be on a drive that hangs
_MOST_DEPLOYMENTS = 1000  # that are told one by one


@dataclass(frozen=True, slots=True)
class DeploymentGauge:
    """One deployment of a group that the config names, as the operator sees it.

    Attributes:
        id: in the config, `group/position`.
        model: `provider/model`.
    """

    id: str
    group: str
    model: str
    state: DeploymentState


@dataclass(frozen=True, slots=True)
class Gauges:
    """How things stand at one moment, in this process.

    Attributes:
        calls_under_way, calls_waiting: numbers of calls.
        ledger_is_up: whether the database takes rows now.
        open_reservations: calls of this process that hold a part of a budget.
        spool_rows: calls that wait for the database, in the spool and in memory; None where the folder does not answer.
        shared_state_is_up: whether the Valkey server that servers share answers; None where there is none.
        deployments: at most a thousand; those of groups that a wildcard has made are not among them.
    """

    calls_under_way: int
    calls_waiting: int
    ledger_is_up: bool
    open_reservations: int
    spool_rows: int | None
    shared_state_is_up: bool | None
    deployments: Sequence[DeploymentGauge]


async def gauges(
    generation: Generation, admission: Admission, ledger: Ledger, *, shared_state_is_up: bool | None
) -> Gauges:
    """How things stand now. Asks no database and no provider, and takes half a second at most."""
    spool_rows: int | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            spool_rows = await ledger.waiting_rows()
    config = generation.config
    listed = [one for one in config.deployments.values() if one.group not in config.on_demand]
    return Gauges(
        calls_under_way=admission.under_way,
        calls_waiting=admission.waiting,
        ledger_is_up=ledger.is_up,
        open_reservations=ledger.open_reservations,
        spool_rows=spool_rows,
        shared_state_is_up=shared_state_is_up,
        deployments=[
            DeploymentGauge(one.id, one.group, one.model, generation.routes.state(one)[0])
            for one in listed[:_MOST_DEPLOYMENTS]
        ],
    )
