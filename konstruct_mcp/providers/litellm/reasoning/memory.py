"""The reasoning behind tool calls, kept in memory until the calls come back as history.

A model that calls tools is amid its reasoning, and some providers refuse its next turn without it: Claude its signed
thinking, DeepSeek and Kimi `reasoning_content`, the Responses API its items. An assistant that speaks OpenAI's format
has no place for these. So they are kept here and put back (`history`) when the calls come back:

- for the same tenant only;
- for a deployment that asks the same model with the same settings only;
- by the id of the call and, unless that id is surely unique, also by all that was said before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.messages import Message, ToolCall
from konstruct_mcp.core.shares import Shares
from konstruct_mcp.providers.tried import Recalled

SIGNATURE = "__thought__"  # LiteLLM puts Gemini's signature behind this into the id of a call
KEPT_S, _MOST_CHARS, _MOST_CHARS_OF_ONE = 3600.0, 32_000_000, 2_000_000
_SEAL_BYTES = 32
_MOST_LACKING = 16  # turns that are looked for at other servers' for one try
_LEAST_CHARS = 1000  # that an entry counts at least, which bounds the number of entries
_ALPHANUMERIC = re.compile(r"[A-Za-z0-9]{16,}")


class Remembered(NamedTuple):
    """Reasoning that is kept.

    Attributes:
        key: by which it is found.
        sealed: what other servers may read; empty where there are none.
    """

    key: bytes
    sealed: bytes


class ReasoningMemory:
    """The reasoning behind the tool calls of the last hour.

    It holds 32 million characters in all, and two million of one answer; where there is no more room, the tenant with
    the most loses its oldest.
    """

    def __init__(self) -> None:
        self._thoughts: Shares[bytes, Mapping[str, Any]] = Shares(_MOST_CHARS, KEPT_S)

    def keep(
        self,
        tenant: str,
        deployment: Deployment,
        messages: Iterable[Message],
        calls: Sequence[ToolCall],
        reasoning: Mapping[str, Any],
        *,
        is_shared: bool = False,
    ) -> Remembered | None:
        """Keep the reasoning of this deployment that led, after these messages, to these calls; None for too much.

        Args:
            is_shared: whether other servers may read it.
        """
        if not (calls and reasoning):
            return None
        text = json.dumps(reasoning)
        if len(text) > _MOST_CHARS_OF_ONE:
            return None
        size = max(_LEAST_CHARS, len(text) // len(calls) + 1)
        first, *others = _keys(_origin(tenant, deployment), calls, _ConversationDigest(messages))
        for key in (first, *others):
            self._thoughts.keep(tenant, key, reasoning, size)
        written = text.encode()
        return Remembered(first, _seal(tenant, deployment, first, written) + written if is_shared else b"")

    def restore(self, tenant: str, thoughts: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what a thread holds: reasoning by its key in hexadecimal digits, as `keep` gave it."""
        for name_of_key, reasoning in thoughts.items():
            key = bytes.fromhex(name_of_key)
            if self._thoughts.get(key) is None:  # else it may be one that the deployment does not take back
                self._thoughts.keep(tenant, key, reasoning, max(_LEAST_CHARS, len(json.dumps(reasoning))))

    def recall(self, tenant: str, deployment: Deployment, messages: Sequence[Message]) -> Recalled:
        """The kept reasoning that belongs to this deployment's calls in these messages."""
        if not self._thoughts:
            return Recalled(tuple(None for message in messages if message.tool_calls))
        found = []
        for keys in _turns(tenant, deployment, messages):
            thoughts = [thought for key in keys if (thought := self._thoughts.get(key)) is not None]
            found.append(thoughts[0] if thoughts else None)
        return Recalled(tuple(found))

    # -- what other servers may read -----------------------------------------------------------------------------------

    def lacking(
        self, tenant: str, deployment: Deployment, messages: Sequence[Message], recalled: Recalled
    ) -> dict[int, bytes]:
        """Of the turns whose reasoning is not kept here, the last ones: their places, and the key of each."""
        turns = zip(recalled.turns, _turns(tenant, deployment, messages), strict=True)
        keys = {place: next(keys) for place, (thought, keys) in enumerate(turns) if thought is None}
        return dict(list(keys.items())[-_MOST_LACKING:])

    def read(
        self,
        tenant: str,
        deployment: Deployment,
        recalled: Recalled,
        lacking: Mapping[int, bytes],
        found: Iterable[bytes | None],
    ) -> Recalled:
        """The same with what another server has kept, which is kept here from now on. Only what is sealed counts."""
        turns = list(recalled.turns)
        for (place, key), sealed in zip(lacking.items(), found, strict=True):
            if sealed is None or len(sealed) > _MOST_CHARS_OF_ONE + _SEAL_BYTES:
                continue
            seal, text = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
            if hmac.compare_digest(seal, _seal(tenant, deployment, key, text)):
                turns[place] = thought = json.loads(text)
                self._thoughts.keep(tenant, key, thought, max(_LEAST_CHARS, len(text)))
        return Recalled(tuple(turns))

    def forget(self, tenant: str, deployment: Deployment, messages: Sequence[Message]) -> None:
        """Put nothing in the place of the reasoning in these messages, which the deployment does not take back: neither
        another server nor a thread is to bring it again."""
        for keys in _turns(tenant, deployment, messages):
            for key in keys:
                self._thoughts.keep(tenant, key, {}, _LEAST_CHARS)


def name(key: bytes) -> str:
    """The name under which other servers find what has this key."""
    return f"reasoning:{key.hex()}"


def _seal(tenant: str, deployment: Deployment, key: bytes, text: bytes) -> bytes:
    """Shows that a server of the installation has written a text: one that knows the deployment's key for its
    provider."""
    return hmac.digest(_origin(tenant, deployment), key + text, "sha256")


def _turns(tenant: str, deployment: Deployment, messages: Sequence[Message]) -> Iterator[Iterator[bytes]]:
    """For each turn with tool calls, the keys of these calls; to be read one after another."""
    origin, before = _origin(tenant, deployment), _ConversationDigest(messages)
    for place, message in enumerate(messages):
        if message.tool_calls:
            yield _keys(origin, message.tool_calls, before, place)


def _keys(
    origin: bytes, calls: Iterable[ToolCall], before: _ConversationDigest, place: int | None = None
) -> Iterator[bytes]:
    """The key of each call. Some servers number their calls from 1 in each conversation, so that the key of a call
    without a unique id holds all that was said before it too."""
    for call in calls:
        said_before = b"" if _has_unique_id(call) else before.until(place)
        yield hashlib.blake2b(
            b"\n".join((origin, said_before, json.dumps(_normalized(call)).encode())), digest_size=32
        ).digest()


class _ConversationDigest:
    """A digest of all that was said up to a place in a conversation, computed only as far as it is asked for."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = iter(messages)
        self._said, self._place = hashlib.blake2b(digest_size=32), 0

    def until(self, place: int | None) -> bytes:
        """The digest of the messages before this place, which must not be before the last one asked for; None for all
        of them."""
        for message in islice(self._messages, None if place is None else place - self._place):
            content = message.content or ""
            parts = content if isinstance(content, str) else [part.model_dump(exclude_none=True) for part in content]
            calls = [_normalized(call) for call in message.tool_calls or ()]
            said = json.dumps([message.role, message.name, parts, calls, message.tool_call_id])
            self._said.update(said.encode() + b"\n")
            self._place += 1
        return self._said.digest()


def _normalized(call: ToolCall) -> tuple[str, str, str]:
    """A call, equal for equal arguments in whichever way they are spaced."""
    arguments = call.function.arguments
    with contextlib.suppress(ValueError, RecursionError):
        arguments = json.dumps(json.loads(arguments), sort_keys=True)
    return call.id, call.function.name, arguments


def _has_unique_id(call: ToolCall) -> bool:
    """Whether no other call can have the same id; false where that is in doubt."""
    id_ = call.id.partition(SIGNATURE)[0].replace(call.function.name, " ").replace("-", "")
    return any(
        sum(map(str.isdigit, run)) >= 3 and sum(map(str.isalpha, run)) >= 3 and len(set(run)) >= 8
        for run in _ALPHANUMERIC.findall(id_)
    )


def _origin(tenant: str, deployment: Deployment) -> bytes:
    """A digest of the tenant and of all settings of the deployment: equal where the same model is asked, at the same
    place, on the same account, in the same way."""
    return hashlib.sha256(repr((tenant, sorted(deployment.params.items()))).encode()).digest()
