"""A model's reasoning: what of its text is none of its answer, and what a provider wants to see again.

Some servers leave the reasoning in the text. What is taken for it, and nothing else:

- a block at the very start, in tags that models are trained to think in (`<think>`, `[THINK]` …), also one that does
  not end; and in tags that people ask for too (`<thinking>`, `<reasoning>` …), if it ends and an answer follows;
- all before a closing tag that was never opened, since templates open it in the prompt: where the tag begins a line,
  hangs on a word, comes after a sentence or before an empty line, and stands in no code;
- of Harmony's channels all but the final one.

A model that calls tools is in the middle of a thought, and some providers refuse its next turn without it: Claude its
signed thinking, DeepSeek and Kimi `reasoning_content`, the Responses API its items. An assistant that speaks OpenAI's
format has no place for these, so that they are kept here, by the calls and, where others can have their ids, by what
was said before them, and put back when the calls come back as history: to the same tenant, at a deployment that asks
the same model with the same settings, and nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.shares import Shares
from konstruct_mcp.core.types import Message, ToolCall

# -- in the text -------------------------------------------------------------------------------------------------------

_PAIRS = (
    *(("<think>", "</think>"), ("<seed:think>", "</seed:think>"), ("<budget:thinking>", "</budget:thinking>")),
    *(("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("◁think▷", "◁/think▷")),
    *(("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|channel>thought", "<channel|>")),
    ("Here is my thought process:", "Here is my response:"),
)
_ASKED_FOR = (
    *(("<thinking>", "</thinking>"), ("<reasoning>", "</reasoning>"), ("<thought>", "</thought>")),
    *(("<thoughts>", "</thoughts>"), ("<analysis>", "</analysis>")),
)
_LEADING = {  # what begins a thought → what ends it, and whether it may do without an end, and without an answer
    **{first: (last, True) for first, last in _PAIRS[:-1]},
    **{first: (last, False) for first, last in (*_ASKED_FOR, _PAIRS[-1])},
}
_SPACES = re.compile(r"\s*")
# Those that templates open in the prompt: the tag begins a line, or hangs on a word or comes after a sentence, or an
# empty line comes after it. One that somebody speaks of stands between spaces, in quotes or in code.
_TAG = r"</(?:seed:)?think>|\[/THINK\]|◁/think▷"
_CLOSING = re.compile(
    rf"(?:^[ \t]*|(?<=[^\s\"'`“‘«(<\[{{=>])|(?<=[.!?…。！？:][ \t]))(?:{_TAG})|(?:{_TAG})(?=[ \t]*\n[ \t]*\n)",
    re.MULTILINE,
)
_CODE = re.compile(r"(?ms)^[ \t]*(```+|~~~+).*?(?:^[ \t]*\1|\Z)|`[^`\n]+`")
_HARMONY = re.compile(r"\s*(?:<\|start\|>assistant\s*)?<\|channel\|>")
_FINAL = re.compile(
    r"<\|channel\|>final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>(.*?)(?:<\|(?:return|end)\|>|\Z)", re.DOTALL
)
# What is left of two channels where a server drops their marks: words that hang on others.
_FLAT_HARMONY = re.compile(r"\s*analysis(?=[^\W_]).*?(?:(?<!\s)assistantfinal|assistantfinal(?=\S))\s*", re.DOTALL)
_MOST_TAGS = 50  # that are looked at: more are no sign of a thought


def answer_in(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without the reasoning in it, and what is to be said where that is a guess."""
    if _HARMONY.match(text):
        final = _FINAL.findall(text)
        return (final[-1].strip() if final else ""), ()
    if flat := _FLAT_HARMONY.match(text):
        return text[flat.end() :], ()
    at = 0
    while (behind := _behind_thought(text, at)) is not None:
        at = behind
    text = text[at:]
    if any(last in text for first, last in _PAIRS):
        code = [found.span() for found in _CODE.finditer(text)]
        for closing in islice(_CLOSING.finditer(text), _MOST_TAGS):
            tag = closing[0].strip()
            start = closing.end() - len(tag)
            if tag.replace("/", "") in text[:start]:
                break  # it was opened in the text itself, which speaks of it
            if not any(begin <= start < end for begin, end in code):
                noted = (f"what came before {tag} was taken for reasoning",) if text[:start].strip() else ()
                return text[closing.end() :].lstrip(), noted
    return text, ()


def _behind_thought(text: str, at: int) -> int | None:
    """Where the thought ends that begins there; None where none does. By `find`: a pattern takes twenty times as long
    for a long text."""
    at = _behind_spaces(text, at)
    for first, (last, may_be_all) in _LEADING.items():
        if text.startswith(first, at):
            end = text.find(last, at + len(first))
            behind = len(text) if end < 0 else _behind_spaces(text, end + len(last))
            return behind if may_be_all or behind < len(text) else None
    return None


def _behind_spaces(text: str, at: int) -> int:
    found = _SPACES.match(text, at)
    return at if found is None else found.end()


# -- to be given back --------------------------------------------------------------------------------------------------

SIGNATURE = "__thought__"  # begins Gemini's signature in the id of a call, where LiteLLM puts it
_KEPT_S, _MOST_CHARS, _MOST_OF_ONE = 3600.0, 32_000_000, 2_000_000
_LEAST = 1000  # characters that one counts at least, which bounds their number


class Kept:
    """The reasoning behind the tool calls of the last hour, in memory: 32 million characters in all, of which the
    oldest of whoever has most make room, and two million of one answer."""

    def __init__(self) -> None:
        self._thoughts: Shares[bytes, Mapping[str, Any]] = Shares(_MOST_CHARS, _KEPT_S)

    def keep(
        self,
        tenant: str,
        deployment: Deployment,
        messages: Iterable[Message],
        calls: Sequence[ToolCall],
        reasoning: Mapping[str, Any],
    ) -> None:
        """What this deployment has thought, after these messages, before it made these calls."""
        chars = len(json.dumps(reasoning)) if calls and reasoning else 0
        if 0 < chars <= _MOST_OF_ONE:
            size = max(_LEAST, chars // len(calls) + 1)
            for key in _keys(_maker(tenant, deployment), calls, _Conversation(messages)):
                self._thoughts.keep(tenant, key, reasoning, size)

    def recall(self, tenant: str, deployment: Deployment, messages: Sequence[Message]) -> Recalled:
        """What this deployment is to be given back in these messages."""
        if not self._thoughts:
            return Recalled(tuple(None for message in messages if message.tool_calls))
        found = []
        for keys in _turns(tenant, deployment, messages):
            thoughts = [thought for key in keys if (thought := self._thoughts.get(key)) is not None]
            found.append(thoughts[0] if thoughts else None)
        return Recalled(tuple(found))

    def forget(self, tenant: str, deployment: Deployment, messages: Sequence[Message]) -> None:
        """What this deployment has thought in these messages, which it does not take back."""
        for keys in _turns(tenant, deployment, messages):
            for key in keys:
                self._thoughts.drop(key)


@dataclass(frozen=True, slots=True)
class Recalled:
    """The reasoning that belongs into a conversation, for each of its turns that call tools; None where there is none.
    It is looked up once for a try, so that what is reckoned with is what is sent."""

    turns: tuple[Mapping[str, Any] | None, ...]

    @property
    def bytes(self) -> int:
        """Its length as JSON."""
        return sum(len(json.dumps(thought, ensure_ascii=False).encode()) for thought in self.turns if thought)


class _Conversation:
    """A digest of what has been said up to each place of a conversation, taken only where it is asked for."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = iter(messages)
        self._said, self._place = hashlib.blake2b(digest_size=32), 0

    def until(self, place: int | None) -> bytes:
        """Before the message at this place, which is behind the last one asked for; None for all of it."""
        for message in islice(self._messages, None if place is None else place - self._place):
            content = message.content or ""
            parts = content if isinstance(content, str) else [part.model_dump(exclude_none=True) for part in content]
            calls = [_call(call) for call in message.tool_calls or ()]
            said = json.dumps([message.role, message.name, parts, calls, message.tool_call_id])
            self._said.update(said.encode() + b"\n")
            self._place += 1
        return self._said.digest()


def _turns(tenant: str, deployment: Deployment, messages: Sequence[Message]) -> Iterator[Iterator[bytes]]:
    """What the calls of each turn are known by, for the turns that have some; to be read one after another."""
    maker, before = _maker(tenant, deployment), _Conversation(messages)
    for place, message in enumerate(messages):
        if message.tool_calls:
            yield _keys(maker, message.tool_calls, before, place)


def _keys(maker: bytes, calls: Iterable[ToolCall], before: _Conversation, place: int | None = None) -> Iterator[bytes]:
    """What each call is known by. An id alone does not do: some servers count them, from the start in each
    conversation, so that such a call is known by all that was said before it too."""
    for call in calls:
        said_before = b"" if _is_random(call) else before.until(place)
        yield hashlib.blake2b(
            b"\n".join((maker, said_before, json.dumps(_call(call)).encode())), digest_size=32
        ).digest()


def _call(call: ToolCall) -> tuple[str, str, str]:
    """A call, in whichever way its arguments are spaced."""
    arguments = call.function.arguments
    with contextlib.suppress(ValueError, RecursionError):
        arguments = json.dumps(json.loads(arguments), sort_keys=True)
    return call.id, call.function.name, arguments


_RUN = re.compile(r"[A-Za-z0-9]{16,}")


def _is_random(call: ToolCall) -> bool:
    """Whether no other call can have this id. In doubt it can."""
    id_ = call.id.partition(SIGNATURE)[0].replace(call.function.name, " ").replace("-", "")
    return any(
        sum(map(str.isdigit, run)) >= 3 and sum(map(str.isalpha, run)) >= 3 and len(set(run)) >= 8
        for run in _RUN.findall(id_)
    )


def _maker(tenant: str, deployment: Deployment) -> bytes:
    """The same for a tenant's calls of two deployments that ask the same model at the same place on the same account,
    in the same way."""
    return hashlib.sha256(repr((tenant, sorted(deployment.params.items()))).encode()).digest()


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A conversation as one deployment is to see it.

    Attributes:
        messages: in OpenAI's format, with what else LiteLLM takes in it.
        outputs: by the id of its first call, what the model itself had put out in that turn, where that is to be seen
            again as it was.
        is_thoughtless: whether the calls to which results come now are without the thought before them.
    """

    messages: list[dict[str, Any]]
    outputs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    is_thoughtless: bool = False


# These refuse a turn of calls without the field, also where nothing was thought; Kimi an empty one too.
_WANT_THE_FIELD = re.compile(
    r"^(moonshot|deepseek|openai|custom_openai|hosted_vllm|litellm_proxy)/(.*/)?(?P<family>deepseek|kimi)[^/]*$"
)
_MISSES_THE_FIELD = re.compile(
    r"reasoning_content.{0,80}(missing|must be (passed|provided|present)|passed back)|missing .?reasoning_content",
    re.IGNORECASE,
)
_IS_GEMINI = re.compile(r"^(gemini|vertex_ai(_beta)?)/")


def give_back(
    messages: list[dict[str, Any]], deployment: Deployment, recalled: Recalled, *, must_think: bool, refusal: str = ""
) -> GivenBack:
    """Put into these messages what the deployment has thought when it made the calls in them. `must_think` says that
    it does not take a last turn of calls that begins without thinking, and others' thinking where that is off.
    `refusal` is what it has said of a history in which that was, or was not: then nothing is put back, or, where it has
    missed something, that has something in its place."""
    turns = [message for message in messages if message.get("tool_calls")]
    if not turns:
        return GivenBack(messages)
    is_gemini = _IS_GEMINI.match(deployment.model)
    if not is_gemini or refusal:  # without one LiteLLM writes down that it is missing
        _drop_signatures(messages)
    outputs: dict[str, Sequence[Mapping[str, Any]]] = {}
    for message, thought in zip(turns, recalled.turns, strict=True):
        found = dict(thought or {})
        if refusal:
            stand_in = _stand_in(refusal, len(message["tool_calls"]))
            found = stand_in and stand_in | {key: value for key, value in found.items() if value}
        if (output := found.pop("output", None)) is not None:
            outputs[message["tool_calls"][0]["id"]] = output
        for call, more in zip(message["tool_calls"], found.pop("extra_content", ()), strict=False):
            call.update({} if more is None else {"extra_content": more})
        if not (found or refusal) and (wanting := _WANT_THE_FIELD.match(deployment.model)):
            found = {"reasoning_content": "" if wanting["family"] == "deepseek" else " "}
        message.update(found)
        if message["content"] == "" and is_gemini:
            message["content"] = None  # which takes no empty text
    last = next(message for message in reversed(messages) if message["role"] == "assistant")
    if not must_think or not last.get("tool_calls") or "thinking_blocks" in last:
        return GivenBack(messages, outputs)
    for message in turns:
        message.pop("thinking_blocks", None)
    return GivenBack(messages, is_thoughtless=True)


def misses(refusal: str) -> bool:
    """Whether a provider misses something in a history, and does not refuse what is there."""
    return bool(_stand_in(refusal, 1))


def _stand_in(refusal: str, calls: int) -> dict[str, Any]:
    """What stands for a thought that is gone, by the words of who misses it."""
    if _MISSES_THE_FIELD.search(refusal):
        return {"reasoning_content": " "}
    if "missing a thought_signature" in refusal:  # as Google's documentation has it, for calls of another model
        return {"extra_content": [{"google": {"thought_signature": "skip_thought_signature_validator"}}] * calls}
    return {}


def _drop_signatures(messages: Iterable[dict[str, Any]]) -> None:
    """Of another provider's model; and nobody else takes ids of that length."""
    for message in messages:
        for call in message.get("tool_calls") or ():
            call["id"] = call["id"].partition(SIGNATURE)[0]
        if "tool_call_id" in message:
            message["tool_call_id"] = message["tool_call_id"].partition(SIGNATURE)[0]
