"""Answers that were too long to be shown whole, kept for a while to be read."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from konstruct_mcp.core.shares import Shares

_KEPT_S = 3600.0
_KEPT_CHARS = 64 * 2**20  # of all answers together


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The whole of an answer, and the tenant who alone may read it."""

    tenant: str
    content: str
    mime_type: str


class KeptAnswers(Protocol):
    """Where they are kept. Servers that share one can each read what another has kept.

    Whoever reads one has to look whose it is: an id is hard to guess, and no permission.
    """

    async def keep(self, answer: KeptAnswer) -> str | None:
        """Its id; None where it is too large to be kept."""
        ...

    async def get(self, answer_id: str) -> KeptAnswer | None:
        """None where there is none of this id, or none any more."""
        ...


class InMemoryKeptAnswers:
    """Those of one process, for an hour. Where there is no more room, the tenant that keeps most loses its oldest."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._answers: Shares[str, KeptAnswer] = Shares(_KEPT_CHARS, _KEPT_S, clock)

    async def keep(self, answer: KeptAnswer) -> str | None:
        answer_id = str(uuid.uuid4())
        return answer_id if self._answers.keep(answer.tenant, answer_id, answer, len(answer.content)) else None

    async def get(self, answer_id: str) -> KeptAnswer | None:
        return self._answers.get(answer_id)
