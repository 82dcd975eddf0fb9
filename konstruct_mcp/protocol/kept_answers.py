"""Answers that were too long to be shown whole, kept for a while to be read."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from konstruct_mcp.core.shares import Shares
from konstruct_mcp.core.sharing import call_patience
from konstruct_mcp.gateway.konstruct import Konstruct

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


class SharedKeptAnswers:
    """Those of one process and, where the config names a Valkey server, of all that use the same."""

    def __init__(self, konstruct: Konstruct, own: KeptAnswers) -> None:
        """`own` keeps those of this process."""
        self._konstruct, self._own = konstruct, own

    async def keep(self, answer: KeptAnswer) -> str | None:
        answer_id = await self._own.keep(answer)
        if answer_id is not None and (values := self._konstruct.values) is not None:
            written = await asyncio.to_thread(_written, answer)
            with call_patience():
                await values.put(_key(answer_id), written, _KEPT_S)
        return answer_id

    async def get(self, answer_id: str) -> KeptAnswer | None:
        answer = await self._own.get(answer_id)
        if answer is not None or (values := self._konstruct.values) is None or not _is_id(answer_id):
            return answer
        with call_patience():
            found = await values.get(_key(answer_id))
        return None if found is None else await asyncio.to_thread(_read, found)


def _key(answer_id: str) -> str:
    return f"answer:{answer_id}"


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _written(answer: KeptAnswer) -> bytes:
    return json.dumps([answer.tenant, answer.mime_type, answer.content]).encode()


def _read(written: bytes) -> KeptAnswer | None:
    """A kept answer; None for anything else that another program may have put there."""
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or len(found) != 3 or not all(isinstance(one, str) for one in found):
        return None
    tenant, mime_type, content = found
    return KeptAnswer(tenant, content, mime_type)
