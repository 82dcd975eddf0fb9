"""Asking Ollama servers, with a context window that fits the prompt.

How many tokens of a prompt a model reads is a setting of the loaded model, `num_ctx`. Ollama loads the model again,
which takes seconds, for each request that names another number. So a number is sent only where it must be, in large
steps, and for as long as the model stays loaded:

    the config names one    that one, always: it is the operator's memory; a prompt that is surely longer is refused
    a short prompt          none: whatever the server loads a model with is enough
    a long prompt           as much as prompt and answer need, at most what the model was trained for
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from konstruct_mcp.core.threads import LockedTTLCache
from konstruct_mcp.providers.litellm.ollama.answers import completion, notes_on_answer
from konstruct_mcp.providers.litellm.ollama.prompt_length import PromptLength
from konstruct_mcp.routing.outcomes import Fault, FaultError, FaultKind

Ask = Callable[[str, Mapping[str, Any] | None], Awaitable[Any]]
"""Posts JSON to a path of the server, or gets it where there is none to post; returns the JSON of the answer, and
raises for a status that is no success."""
_LOADED_TOKENS = 4096  # the least that a server loads a model with unless it is told another number
_STEP_TOKENS = 8192  # a growing conversation has the model loaded again only after so many more
_ANSWER_TOKENS = 1024  # room for an answer without an output limit
_KNOWN_S, _UNKNOWN_S = 600.0, 60.0  # how long facts about a model hold, and the absence of facts
_STAYS_S = 300.0  # how long Ollama keeps an idle model loaded; after that it must be loaded anyway
_MOST_MODELS = 256  # that facts are kept of


@dataclass(frozen=True, slots=True)
class _ModelFacts:
    """What a server says of a model; None where it says nothing.

    Attributes:
        length: tokens that the model was trained to read.
        loads: tokens that the model itself asks to be loaded with.
        abilities: "tools", "vision", "thinking" …
    """

    length: int | None = None
    loads: int | None = None
    abilities: frozenset[str] | None = None


class _ModelKey(NamedTuple):
    """A model of a server, as callers with these headers see it."""

    base: str
    headers: tuple[tuple[str, str], ...]
    model: str


class OllamaServers:
    """Asks Ollama servers, and remembers for a while what they say of their models."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._models: LockedTTLCache[_ModelKey, _ModelFacts] = LockedTTLCache(_MOST_MODELS, _KNOWN_S, clock)
        self._silent: LockedTTLCache[_ModelKey, _ModelFacts] = LockedTTLCache(_MOST_MODELS, _UNKNOWN_S, clock)
        self._enlarged: LockedTTLCache[_ModelKey, int] = LockedTTLCache(_MOST_MODELS, _STAYS_S, clock)

    async def chat(
        self, base: str, headers: Mapping[str, str], body: Mapping[str, Any], ask: Ask
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Ask once; ask again with a larger window where the server refuses the prompt for its window.

        Args:
            base: the address of the server.
            headers: of every request. They choose what is remembered too: a gateway before the server may show each
                user something else.
            body: for `/api/chat`.
            ask: posts to the server.

        Returns:
            The answer in OpenAI's format, and notes on it.

        Raises:
            FaultError: the prompt is too long, the model cannot see, or what came is no answer.
            Exception: whatever `ask` raises.
        """
        body = dict(body)
        key = _ModelKey(base, tuple(sorted(headers.items())), str(body["model"]))
        length = PromptLength.of(body)
        if length.images and (abilities := (await self._model(key, ask)).abilities) and "vision" not in abilities:
            # Ollama would leave the images out without a word.
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
        return completion(answer, body), notes_on_answer(answer, body, length, window)

    async def _window(
        self, key: _ModelKey, body: Mapping[str, Any], length: PromptLength, ask: Ask
    ) -> tuple[int | None, int | None]:
        """The `num_ctx` to send, and the largest possible one; None where that is left to the server.

        Raises:
            FaultError: the prompt is surely longer than the largest.
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
        window = max(_rounded_up(needed), held or 0)
        window = window if most is None else min(window, most)
        self._enlarged[key] = window
        return window, most

    async def _larger(
        self, key: _ModelKey, window: int | None, most: int | None, length: PromptLength, ask: Ask
    ) -> int | None:
        """The `num_ctx` to send after a refusal: the estimate was too low, or this server loads its models with less
        than others. None where there is no larger one, or it would not help."""
        if length.estimate < _LOADED_TOKENS // 4 or (window is not None and window == most):
            return None
        most = most or (await self._model(key, ask)).length
        if most is None or (window or 0) >= most:
            return None
        return min(most, _rounded_up(2 * max(window or 0, length.estimate)))

    async def _model(self, key: _ModelKey, ask: Ask) -> _ModelFacts:
        known: _ModelFacts | None = self._models.get(key) or self._silent.get(key)
        if known is None:
            shown = await _ask_about(ask, "/api/show", {"model": key.model})
            known = _model_in(shown)
            (self._models if known.length else self._silent)[key] = known
        return known

    async def _loaded(self, key: _ModelKey, ask: Ask) -> int:
        """The window that the model is loaded with now, in tokens; 0 where it is not loaded, or the server does not
        say."""
        running = (await _ask_about(ask, "/api/ps", None)).get("models")
        name = key.model if ":" in key.model else f"{key.model}:latest"
        found = (
            one.get("context_length")
            for one in (running if isinstance(running, list) else ())
            if isinstance(one, dict) and name in (one.get("name"), one.get("model"))
        )
        return next((tokens for tokens in found if isinstance(tokens, int)), 0)


def _rounded_up(tokens: int) -> int:
    return -(-tokens // _STEP_TOKENS) * _STEP_TOKENS


async def _ask_about(ask: Ask, path: str, payload: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a server says about itself; nothing where it does not know the question."""
    try:
        said = await ask(path, payload)
    except ValueError:  # it is no JSON
        return {}
    except Exception as error:
        if getattr(error, "response", None) is None:  # nobody is there, and the request itself would find that too
            raise
        return {}
    return said if isinstance(said, dict) else {}


def _model_in(shown: Mapping[str, Any]) -> _ModelFacts:
    info, abilities = shown.get("model_info"), shown.get("capabilities")
    length = loads = None
    if isinstance(info, dict):
        length = info.get(f"{info.get('general.architecture')}.context_length")
    for line in str(shown.get("parameters") or "").splitlines():
        match line.split():
            case ["num_ctx", number] if number.isdecimal():
                loads = int(number)
    return _ModelFacts(
        length if isinstance(length, int) and length > 0 else None,
        loads,
        frozenset(map(str, abilities)) if isinstance(abilities, list) and abilities else None,
    )


def _refusal(error: Exception) -> str:
    """What a server says of a request that it refuses; empty for any other failure."""
    response: Any = getattr(error, "response", None)
    return str(response.text) if getattr(response, "status_code", None) == 400 else ""
