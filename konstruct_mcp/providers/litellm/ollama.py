"""Ollama's own format: what a request becomes for `/api/chat`, how much of it the model reads, what the answer means.

Its OpenAI-compatible endpoint ignores `num_ctx`, `keep_alive`, `think` and most options, and cuts a prompt that is too
long without a word. So it is asked in its own format, whose facts here are Ollama 0.9.3's, tried, and those of newer
versions, read. This module knows neither LiteLLM nor how to post; `router` makes it one of LiteLLM's providers.

How long a prompt the model reads is a setting of the loaded model, `num_ctx`. Ollama loads it again, which takes
seconds, for each request that names another. So it is named only where it must be, in steps, and for a while after:

    the config names one    that, always: it is the operator's memory. What is surely longer is not asked.
    a short prompt          none: whatever the server loads a model with is enough
    a long one              as much as prompt and answer need, at most what the model was trained for
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.config.model_fields import is_price
from konstruct_mcp.core.threads import Shared
from konstruct_mcp.providers.litellm.bodies import count_of, miscounted
from konstruct_mcp.providers.litellm.forms import not_taken, without_limits
from konstruct_mcp.providers.litellm.transport import TRANSPORT
from konstruct_mcp.routing.walk import Fault, FaultError, FaultKind

Ask = Callable[[str, Mapping[str, Any] | None], Awaitable[Any]]
"""Posts JSON to a path of the server, or gets it where there is none to post; returns the JSON of the answer, and
raises for a status that is no success."""

_LOADED_TOKENS = 4096  # what a server loads a model with, at the least, where nobody has told it another number
_STEP = 1 << 18  # characters that are gone through at once, which keeps every other thread waiting
_STEP_TOKENS = 8192  # a conversation that grows has the model loaded again only after so many more
_ANSWER_TOKENS = 1024  # room for an answer whose length nobody has limited
_BYTES_PER_TOKEN = 3  # fewer than in any common language, so that the estimate errs on the long side
_TOKENS_PER_MESSAGE, _TOKENS_PER_IMAGE = 8, 1024  # what a chat template adds; what most vision models take, or less
_CHARS_PER_TOKEN = 16  # more than any tokenizer makes of text that is no mere repetition
_KNOWN_S, _UNKNOWN_S = 600.0, 60.0  # how long it counts what a server has said of a model, and that it said nothing
_STAYS_S = 300.0  # how long Ollama keeps a model loaded that nobody asks; after that, loading it costs anyway
_MOST_MODELS = 256  # of which something is kept

# Keys of `litellm_params` that say how to call, and nothing to Ollama.
_SETTINGS = frozenset(
    {"model", "api_base", "base_url", "api_key", "api_version", "api_type", "organization", "project", "base_model"}
    | {"custom_llm_provider"}
    | {"timeout", "max_retries", "num_retries", "extra_headers", "headers", "default_headers", "region_name"}
    | {"drop_params", "additional_drop_params", "allowed_openai_params", "merge_reasoning_content_in_choices"}
    | {"extra_body", "options", "reasoning_effort", "thinking"}
    | TRANSPORT
)
_NEVER = ("none", "disable", False)  # words for no thinking at all
_OUTSIDE_OPTIONS = frozenset({"keep_alive", "think", "format", "truncate", "shift"})
# OpenAI's parameters that it has nothing for.
_NOT_TAKEN = frozenset(
    {"logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls", "service_tier", "store", "verbosity"}
    | {"modalities", "prediction", "audio", "web_search_options", "safety_identifier", "prompt_cache_key"}
)


def address(api_base: object) -> str:
    """Where the server is, of an address with or without the path of one of its endpoints."""
    base = str(api_base or "").rstrip("/")
    for path in ("/api/chat", "/api/generate", "/api", "/v1"):
        base = base.removesuffix(path)
    return base.rstrip("/")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request becomes.

    Attributes:
        body: for `/api/chat`.
        places: where in it each parameter stands that could be left out, by the names that a config has for them.
        notes: what is not in it, one line each.
    """

    body: dict[str, Any]
    places: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def prepare(
    deployment: Deployment, messages: Sequence[Mapping[str, Any]], asked: Mapping[str, Any], limit: int | None
) -> Asked:
    """`messages` and `asked` (tools, tool_choice, response_format, temperature) are in OpenAI's format; `limit` is the
    longest answer, None for what the config or the model makes of it."""
    params = {key: value for key, value in without_limits(deployment.params).items() if not is_price(key)}
    places: dict[str, tuple[str, ...]] = {}
    body: dict[str, Any] = {
        "model": deployment.model.partition("/")[2],
        "messages": list(_messages(messages)),
        "stream": False,
        # Servers that know these refuse what is too long, or end the answer; older ones go on cutting.
        "truncate": False,
        "shift": False,
    }
    if asked.get("tools") and asked.get("tool_choice") != "none":
        body["tools"], places["tools"] = asked["tools"], ("tools",)
    if (form := _format(asked.get("response_format"))) is not None:
        body["format"], places["response_format"] = form, ("format",)
    if (think := _think(params, body["model"])) is not None:
        body["think"] = think
        places["thinking" if params.get("reasoning_effort") is None else "reasoning_effort"] = ("think",)
    options: dict[str, Any] = {}
    for key, value in params.items():
        if key in _OUTSIDE_OPTIONS:
            body[key] = _number(value) if key == "keep_alive" else value
            places[key] = (key,)
        elif key not in _SETTINGS and key not in _NOT_TAKEN:
            options[key] = _option(key, value)
    if isinstance(given := params.get("options"), Mapping):
        options |= {key: _option(key, value) for key, value in given.items()}
    if (temperature := asked.get("temperature")) is not None:
        options["temperature"] = temperature
    if limit is None:  # -1 and -2 are words for none
        for said in (deployment.params, deployment.params.get("options")):
            if isinstance(said, Mapping) and "num_predict" in said:
                options["num_predict"] = _option("num_predict", said["num_predict"])
    else:
        options["num_predict"] = limit
        places["max_tokens"] = ("options", "num_predict")
    if options:
        body["options"] = options
        places |= {name: ("options", name) for name in options}
    if isinstance(more := params.get("extra_body"), Mapping):
        if isinstance(of_more := more.get("options"), Mapping):
            more = {**more, "options": {**options, **of_more}}
        body |= more
    left_out = () if params.get("drop_params") else sorted(_NOT_TAKEN & params.keys())
    return Asked(body, places, tuple(not_taken(name, deployment.name) for name in left_out))


def _messages(messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    names: dict[str, str] = {}  # of the tools that were called, by the id of the call
    for message in messages:
        role, content = message["role"], message.get("content")
        made: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": content or ""}
        if isinstance(content, list):
            made["content"] = "\n".join(part["text"] for part in content if part["type"] == "text")
            images = [part["image_url"]["url"].partition(",")[2] for part in content if part["type"] == "image_url"]
            if images:
                made["images"] = images
        if isinstance(thinking := message.get("reasoning_content"), str) and thinking:
            made["thinking"] = thinking
        if calls := message.get("tool_calls"):
            made["tool_calls"] = [_call(call) for call in calls]
            names |= {call["id"]: call["function"]["name"] for call in calls}
        if role == "tool":
            made["tool_call_id"] = message["tool_call_id"]
            if name := names.get(message["tool_call_id"]):
                made["tool_name"] = name
        yield made


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call in the history. Its arguments have to be an object: what is none, since it was cut, goes in as a text."""
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"arguments": function["arguments"]}
    return {"id": call["id"], "function": {"name": function["name"], "arguments": arguments}}


def _format(response_format: Any) -> Any:
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return schema
        case {"type": "json_object" | "json_schema"}:
            return "json"
    return None


def _think(params: Mapping[str, Any], model: str) -> bool | str | None:
    """Whether it is to think, or how hard: gpt-oss thinks a little, somewhat or much, others think or do not."""
    effort, thinking = params.get("reasoning_effort"), params.get("thinking")
    if isinstance(effort, Mapping):
        effort = effort.get("effort")
    if effort is None and isinstance(thinking, Mapping):
        effort = "none" if thinking.get("type") == "disabled" else "medium"
    if effort is None:
        return None
    never = effort in _NEVER
    if not model.rpartition("/")[2].startswith("gpt-oss"):
        return not never
    # Any other word, and false, would be its own medium.
    return "low" if never or effort in ("minimal", "low") else "medium" if effort == "medium" else "high"


def _option(key: str, value: Any) -> Any:
    if key == "stop":
        return [value] if isinstance(value, str) else value
    return _number(value)


def _number(value: Any) -> Any:
    """A text from the environment as the number that it is: Ollama takes no text for one."""
    if isinstance(value, str):
        try:
            read = json.loads(value)
        except ValueError:
            return value
        return read if isinstance(read, int | float) else value
    return value


# -- how much is read --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Model:
    """What a server says of a model; None where it says nothing.

    Attributes:
        length: tokens that it was trained to read.
        loads: tokens that the model itself asks to be loaded with.
        abilities: "tools", "vision", "thinking" …
    """

    length: int | None = None
    loads: int | None = None
    abilities: frozenset[str] | None = None


class _Key(NamedTuple):
    """A model of a server, as it is shown to whoever has these headers."""

    base: str
    headers: tuple[tuple[str, str], ...]
    model: str


class Servers:
    """Asks them, and keeps what it has learnt of their models for a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._models: Shared[_Key, _Model] = Shared(_MOST_MODELS, _KNOWN_S, clock)
        self._silent: Shared[_Key, _Model] = Shared(_MOST_MODELS, _UNKNOWN_S, clock)
        self._enlarged: Shared[_Key, int] = Shared(_MOST_MODELS, _STAYS_S, clock)

    async def chat(
        self, base: str, headers: Mapping[str, str], body: Mapping[str, Any], ask: Ask
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Ask once; the answer in OpenAI's format, and all that is to be noted of it. What stands before a server goes
        by the `headers` whom it tells what.

        A prompt that a server refuses for its window is asked again with a larger one. Raises whatever `ask` raises for
        the rest.

        Raises:
            FaultError: the prompt is too long, the model cannot see, or what came is no answer.
        """
        body = dict(body)
        key = _Key(base, tuple(sorted(headers.items())), str(body["model"]))
        length = _Length.of(body)
        if length.images and (abilities := (await self._model(key, ask)).abilities) and "vision" not in abilities:
            # Ollama would leave them out without a word.
            raise FaultError(Fault(FaultKind.UNFIT, reason="it takes no images", sent=False))
        window, most = await self._window(key, body, length, ask)
        while True:
            if window is not None:
                body["options"] = {**(body.get("options") or {}), "num_ctx": window}
            try:
                answer = await ask("/api/chat", body)
                break
            except Exception as error:
                refusal = _refusal(error)
                if "context length" in refusal and (larger := await self._larger(key, window, most, length, ask)):
                    window = most = self._enlarged[key] = larger
                else:
                    raise
        return _completion(answer, body), (*_cut(answer, length, window), *_miscounted(answer, body))

    async def _window(
        self, key: _Key, body: Mapping[str, Any], length: _Length, ask: Ask
    ) -> tuple[int | None, int | None]:
        """The `num_ctx` to ask for, and the largest there is; None for what the server makes of it.

        Raises:
            FaultError: the prompt is surely longer than that.
        """
        options = body.get("options") or {}
        configured, predicted = options.get("num_ctx"), options.get("num_predict")
        configured = int(configured) if isinstance(configured, int | float) and configured > 0 else None
        needed = length.estimate + (predicted if isinstance(predicted, int) and predicted > 0 else _ANSWER_TOKENS)
        if configured is None and needed <= _LOADED_TOKENS:
            return self._enlarged.get(key), None
        if configured is not None and length.estimate <= min(configured, _LOADED_TOKENS):
            return configured, configured
        model = await self._model(key, ask)
        limits = [limit for limit in (configured, model.length) if limit is not None]
        most = min(limits, default=None)
        if most is not None and length.at_least > most:
            raise FaultError(Fault(FaultKind.CONTEXT_OVERFLOW, f"it reads {most} tokens", sent=False))
        if configured is not None:
            return configured, configured
        held = self._enlarged.get(key)
        if held is None and max(model.loads or 0, await self._loaded(key, ask)) >= needed:
            return None, most
        window = max(_in_steps(needed), held or 0)
        window = window if most is None else min(window, most)
        self._enlarged[key] = window
        return window, most

    async def _larger(self, key: _Key, window: int | None, most: int | None, length: _Length, ask: Ask) -> int | None:
        """The `num_ctx` to ask for once more after a refusal: the estimate was too short, or the server loads its
        models with less than others do. None where more is not to be had, or would not help."""
        if length.estimate < _LOADED_TOKENS // 4 or (window is not None and window == most):
            return None
        most = most or (await self._model(key, ask)).length
        if most is None or (window or 0) >= most:
            return None
        return min(most, _in_steps(2 * max(window or 0, length.estimate)))

    async def _model(self, key: _Key, ask: Ask) -> _Model:
        known: _Model | None = self._models.get(key) or self._silent.get(key)
        if known is None:
            shown = await _ask(ask, "/api/show", {"model": key.model})
            known = _as_shown(shown)
            (self._models if known.length else self._silent)[key] = known
        return known

    async def _loaded(self, key: _Key, ask: Ask) -> int:
        """How many tokens it reads as it is loaded now; 0 where it is not, or the server does not say."""
        running = (await _ask(ask, "/api/ps", None)).get("models")
        name = key.model if ":" in key.model else f"{key.model}:latest"
        found = (
            one.get("context_length")
            for one in (running if isinstance(running, list) else ())
            if isinstance(one, dict) and name in (one.get("name"), one.get("model"))
        )
        return next((tokens for tokens in found if isinstance(tokens, int)), 0)


@dataclass(frozen=True, slots=True)
class _Length:
    """How long a prompt is: an estimate, in tokens; its texts; how many images are in it."""

    estimate: int
    texts: tuple[str, ...]
    images: int

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> _Length:
        messages = body["messages"]
        texts = tuple(message["content"] for message in messages)
        images = sum(len(message.get("images", ())) for message in messages)
        calls = [message["tool_calls"] for message in messages if "tool_calls" in message]
        more = "".join(json.dumps(value, ensure_ascii=False) for value in (calls, body.get("tools")) if value)
        size = sum(len(text) if text.isascii() else len(text.encode()) for text in (*texts, more))
        estimate = size // _BYTES_PER_TOKEN + len(messages) * _TOKENS_PER_MESSAGE + images * _TOKENS_PER_IMAGE
        return cls(estimate, texts, images)

    @property
    def at_least(self) -> int:
        """Tokens that it surely has: no tokenizer makes one of two words."""
        words = chars = 0
        for text in self.texts:
            for at in range(0, len(text), _STEP):
                found = text[at : at + _STEP].split()
                words += len(found) - (at > 0)  # one may go on from the step before
                chars += sum(map(len, found))
        return max(words, chars // _CHARS_PER_TOKEN)


def _in_steps(tokens: int) -> int:
    return -(-tokens // _STEP_TOKENS) * _STEP_TOKENS


async def _ask(ask: Ask, path: str, payload: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a server says about itself; nothing where it does not know the question."""
    try:
        said = await ask(path, payload)
    except ValueError:  # it is no JSON
        return {}
    except Exception as error:
        if getattr(error, "response", None) is None:  # nobody is there, as the request itself would find
            raise
        return {}
    return said if isinstance(said, dict) else {}


def _as_shown(shown: Mapping[str, Any]) -> _Model:
    info, abilities = shown.get("model_info"), shown.get("capabilities")
    length = loads = None
    if isinstance(info, dict):
        length = info.get(f"{info.get('general.architecture')}.context_length")
    for line in str(shown.get("parameters") or "").splitlines():
        match line.split():
            case ["num_ctx", number] if number.isdecimal():
                loads = int(number)
    return _Model(
        length if isinstance(length, int) and length > 0 else None,
        loads,
        frozenset(map(str, abilities)) if isinstance(abilities, list) and abilities else None,
    )


def _refusal(error: Exception) -> str:
    """What a server says of a request that it refuses; empty for any other failure."""
    response: Any = getattr(error, "response", None)
    return str(response.text) if getattr(response, "status_code", None) == 400 else ""


# -- what the answer means ---------------------------------------------------------------------------------------------


def _cut(answer: Any, length: _Length, window: int | None) -> Iterator[str]:
    """Whether the model has read less than it was sent, going by what the server has counted."""
    read, written = (answer.get(name) if isinstance(answer, dict) else None for name in _COUNTS)
    if not isinstance(read, int) or read <= 0:
        return
    size = "" if window is None else f" (num_ctx {window})"
    if (window is not None and read >= window) or (2 * length.estimate > 3 * read and length.at_least > read):
        yield f"the prompt was cut: the model has read {read} tokens of it{size}, and it has more"
    elif window is not None and isinstance(written, int) and read + written > window:
        yield f"the answer was written without the beginning in sight: {read + written} tokens in all{size}"


_COUNTS = ("prompt_eval_count", "eval_count")


def _miscounted(answer: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
    if any(count_of(answer.get(name) or 0) is None for name in _COUNTS):
        yield miscounted(f"ollama/{body['model']}")


# Words for an answer in which nothing was said; `stop` and `length` end one.
_NO_ANSWER = {"load": "it has loaded the model, and nothing else", "unload": "it has unloaded the model"}


def _completion(answer: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in OpenAI's format; no choice where there is none to read.

    Raises:
        FaultError: it is not known to be whole.
    """
    if not isinstance(answer, dict):
        raise FaultError(Fault(FaultKind.BAD_ANSWER))
    reason = answer.get("done_reason") or "stop"
    if reason in _NO_ANSWER or answer.get("done") is not True:
        raise FaultError(Fault(FaultKind.BAD_ANSWER, _NO_ANSWER.get(str(reason), "broken off")))
    if reason not in ("stop", "length"):
        raise FaultError(Fault(FaultKind.BAD_ANSWER, "ended for an unknown reason"))
    most, written = (body.get("options") or {}).get("num_predict"), answer.get("eval_count")
    if "done_reason" not in answer and isinstance(most, int) and isinstance(written, int) and 0 < most <= written:
        reason = "length"  # servers of 2024 did not say so
    choices = []
    if isinstance(message := answer.get("message"), dict):
        calls = [_called(call) for call in message.get("tool_calls") or ()]
        said = {"role": "assistant", "content": message.get("content"), "tool_calls": calls or None}
        if thinking := message.get("thinking"):
            said["reasoning_content"] = thinking
        choices = [
            {"index": 0, "message": said, "finish_reason": "tool_calls" if calls and reason == "stop" else reason}
        ]
    sent, written = (0, 0) if any(_miscounted(answer, body)) else (int(answer.get(name) or 0) for name in _COUNTS)
    usage = {"prompt_tokens": sent, "completion_tokens": written}
    return {"model": body["model"], "choices": choices, "usage": usage}


def _called(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function.get("arguments")
    return {
        "id": call.get("id") or "",
        "type": "function",
        "function": {
            "name": function.get("name"),
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False),
        },
    }


def note(response: Any, notes: tuple[str, ...]) -> None:
    """Have a response of LiteLLM's carry what is to be said of it."""
    response._hidden_params["notes"] = notes


def noted(response: Any) -> tuple[str, ...]:
    return tuple((getattr(response, "_hidden_params", None) or {}).get("notes") or ())
