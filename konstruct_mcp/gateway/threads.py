"""Threads: conversations that are kept, so that a call can continue one with only what is new.

Each answer is a *turn*: what was new in its request, and the answer. A turn is never changed, and knows the turns
before it; its id is the thread's name. So two calls that continue one thread make two threads, and what they share is
kept once.

- An id is the proof that whoever names it was given it: nobody can guess one, and a turn is sealed with its own. It is
  no permission: a turn is its tenant's alone.
- A turn names the last few before it, of which the oldest names those before itself. So a long conversation is found
  in few steps, and a late turn is no larger than an early one.
- A turn holds what a provider wants to get back of its model's reasoning, under the key by which `providers` recalls
  it.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import re
import secrets
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from konstruct_mcp.config.threads import ThreadSettings
from konstruct_mcp.core.errors import InvalidArgumentError, UnknownThreadError
from konstruct_mcp.core.messages import Message
from konstruct_mcp.core.sharing import SharedValues
from konstruct_mcp.core.text import quoted, scrubbed
from konstruct_mcp.core.threads import in_thread_if_large
from konstruct_mcp.gateway.thread_stores import DiskStore, MemoryStore, SharedStore, TurnStore

_log = logging.getLogger(__name__)

_ID = re.compile(r"[a-z2-7]{26}")
_ID_BYTES = 16
_SEAL_BYTES = 32
_SIZE_BYTES = 8  # in which a turn says behind its seal how many bytes it has unpacked
_FORMAT = b"1"  # of a turn: one of another version is unknown
_BEFORE = 32  # turns that a turn names
_LARGE_BYTES = 100_000  # unpacked; more take as long to read as it takes to find a thread
_PATIENCE_S = 2.0  # that an answer waits for its turn to be kept: a disk can hang
_LEVEL = 1  # of compression: the fastest, which halves a text


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a thread holds; by default that of a call that continues none.

    Attributes:
        turns: the ids of its turns, oldest first.
        messages: all that was said.
        thoughts: what providers want to get back of their models' reasoning, by the key under which it is recalled.
        answered_by: the key, for routing, of the deployment that gave the last answer.
    """

    turns: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    thoughts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What was new in a request, and its answer.

    Attributes:
        tenant: whose it is.
        before: the ids of the last turns before it, oldest first.
        messages: as JSON; the last one is the answer.
        thoughts, answered_by: as in `Conversation`, of this answer.
    """

    tenant: str
    before: tuple[str, ...]
    messages: Sequence[Mapping[str, Any]]
    thoughts: Mapping[str, Mapping[str, Any]]
    answered_by: str


class Threads:
    """The threads of a process and, where there are such, of its fellow servers."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """There are none before `use`. `clock` gives seconds since 1970."""
        self._clock = clock
        self._settings = ThreadSettings("off")
        self._store: TurnStore | None = None
        self._has_failed = False

    def use(self, settings: ThreadSettings, values: Callable[[], SharedValues | None]) -> None:
        """Keep them so from now on. Those in memory are forgotten where that is another way than before.

        Args:
            values: gives what fellow servers share, once it is needed; None where there are none.
        """
        if settings != self._settings:
            self._settings, own = settings, self._store_of(settings)
            self._store = None if own is None else SharedStore(own, values, settings.seconds)

    def _store_of(self, settings: ThreadSettings) -> TurnStore | None:
        if settings.keep == "disk":
            assert settings.folder is not None  # noqa: S101  the config has said so
            return DiskStore(settings.folder, settings.seconds, self._clock)
        return MemoryStore(settings.seconds, self._clock) if settings.keep == "memory" else None

    @property
    def are_kept(self) -> bool:
        """Whether there are any."""
        return self._store is not None

    async def find(self, thread: str | None, tenant: str) -> Conversation:
        """What a tenant's thread holds; None is a new one.

        Raises:
            UnknownThreadError: there is no such thread of this tenant's, or not any more.
            InvalidArgumentError: there are no threads.
        """
        if thread is None:
            return Conversation()
        if self._store is None:
            raise InvalidArgumentError(
                "continue: no threads are kept here (konstruct.threads); send the whole conversation in messages"
            )
        if not _ID.fullmatch(thread):
            raise _unknown(thread)
        turns: list[tuple[str, Turn]] = []  # oldest first
        size = 0
        wanted: tuple[str, ...] = (thread,)
        while wanted:
            found = await self._store.get(tenant, wanted)
            size += sum(map(_unpacked_bytes, found))
            read = await in_thread_if_large(_unpacked, wanted, found, tenant, is_large=size > _LARGE_BYTES)
            if read is None:
                raise _unknown(thread)
            turns[:0] = read
            wanted = turns[0][1].before
        messages = await in_thread_if_large(_messages, turns, is_large=size > _LARGE_BYTES)
        if messages is None:
            raise _unknown(thread)
        thoughts = {key: thought for _, turn in turns for key, thought in turn.thoughts.items()}
        return Conversation(tuple(turn_id for turn_id, _ in turns), messages, thoughts, turns[-1][1].answered_by)

    async def keep(
        self,
        tenant: str,
        before: Conversation,
        messages: Sequence[Message],
        answer: Mapping[str, Any],
        thoughts: Mapping[str, Mapping[str, Any]],
        answered_by: str,
        *,
        is_large: bool,
        within_s: float = _PATIENCE_S,
    ) -> str | None:
        """Keep a turn of a tenant's. Raises nothing: an answer is not lost because it cannot be continued.

        Args:
            before: the conversation that it continues.
            messages: those that were new.
            answer: the assistant's message.
            thoughts, answered_by: as in `Conversation`, of this answer.
            is_large: whether the messages or the answer are.
            within_s: how long the answer may wait for it.

        Returns: the thread's name; None where it is not kept.
        """
        if self._store is None:
            return None
        turn_id = _new_id()

        def packed() -> bytes:
            said = [message.model_dump(exclude_none=True, by_alias=True) for message in messages]
            turn = Turn(tenant, before.turns[-_BEFORE:], [*said, scrubbed(answer)], thoughts, answered_by)
            return _packed(turn_id, turn)

        why = "it took too long"
        try:
            with anyio.move_on_after(min(within_s, _PATIENCE_S)):
                turn = await in_thread_if_large(packed, is_large=is_large)
                if await self._store.put(tenant, turn_id, turn, before.turns):
                    self._has_failed = False
                    return turn_id
                why = "it is too large, or what it continues is gone"
        except OSError as error:
            why = error.strerror or type(error).__name__  # its text holds the path
        except Exception:
            _log.exception("keeping a thread failed in konstruct_mcp itself")
            return None
        if not self._has_failed:
            self._has_failed = True
            _log.warning("an answer cannot be continued, since it could not be kept (%s)", why)
        return None


def _unknown(thread: str) -> UnknownThreadError:
    return UnknownThreadError(f"no thread {quoted(thread)}: expired or not yours; send the whole conversation")


def _new_id() -> str:
    """Small letters and digits, which a model copies without fault."""
    return base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().rstrip("=").lower()


def _packed(turn_id: str, turn: Turn) -> bytes:
    fields = [turn.tenant, turn.before, turn.messages, turn.thoughts, turn.answered_by]
    data = json.dumps(fields, separators=(",", ":")).encode()
    body = len(data).to_bytes(_SIZE_BYTES) + zlib.compress(data, _LEVEL)
    return _seal(turn_id, body) + body


def _unpacked_bytes(packed: bytes | None) -> int:
    """How many bytes a turn says to have, which can be two hundred times as many as it takes."""
    return int.from_bytes((packed or b"")[_SEAL_BYTES : _SEAL_BYTES + _SIZE_BYTES])


def _unpacked(turn_ids: Sequence[str], found: Sequence[bytes | None], tenant: str) -> list[tuple[str, Turn]] | None:
    """The turns of a tenant's; None where one is not there, or is not what was kept."""
    turns = []
    for turn_id, packed in zip(turn_ids, found, strict=True):
        seal, body = (packed or b"")[:_SEAL_BYTES], (packed or b"")[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, _seal(turn_id, body)):
            return None
        whose, before, messages, thoughts, answered_by = json.loads(zlib.decompress(body[_SIZE_BYTES:]))
        if whose != tenant:
            return None
        turns.append((turn_id, Turn(whose, tuple(before), messages, thoughts, answered_by)))
    return turns


def _seal(turn_id: str, body: bytes) -> bytes:
    """Shows that whoever has written this knew the id, which none but the tenant is told."""
    return hmac.digest(turn_id.encode(), _FORMAT + body, "sha256")


def _messages(turns: Sequence[tuple[str, Turn]]) -> tuple[Message, ...] | None:
    """All messages; None where one is none for this version."""
    try:
        return tuple(Message.model_validate(message) for _, turn in turns for message in turn.messages)
    except ValueError:
        return None
