"""What the tables of provider paths are made of: the paths, what is expected of a cell, what came of it.

A path is a provider as a config names it, over its fake; a row of a table. Every cell is one call of `Konstruct`, held
against the request that went out and the result that came back. `PATHS` has each provider path once.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

from support.default_groups import HELLO, entry, opened, reaching
from support.providers import OtherWire, Provider, Received, Wire

from konstruct_mcp import GroupStatus, Konstruct, KonstructError


@dataclass(frozen=True)
class Path:
    """A provider as LiteLLM is told to ask it.

    Attributes:
        name: for a reader.
        wire: what the fake speaks.
        model: as a config names it.
        thinks: the model that a reasoning effort is asked of, where it is another one.
        info: what the config says of a model that no table knows.
    """

    name: str
    wire: Wire | OtherWire
    model: str
    thinks: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


_OWN = {"supports_response_schema": True, "supports_function_calling": True, "supports_vision": True}

PATHS = (
    Path("OpenAI", "openai", "openai/gpt-4o", thinks="openai/gpt-5.1"),
    Path("OpenAI Responses", "openai", "openai/gpt-5-codex"),
    Path("Azure", "azure", "azure/gpt-4o", thinks="azure/gpt-5.1"),
    Path("Azure Responses", "azure", "azure/responses/gpt-5-codex"),
    Path("Anthropic", "anthropic", "anthropic/claude-sonnet-4-6"),
    Path("Gemini", "gemini", "gemini/gemini-3.1-pro-preview"),
    Path("Vertex Gemini", "vertex", "vertex_ai/gemini-3.1-pro-preview"),
    Path("Vertex Claude", "vertex", "vertex_ai/claude-sonnet-4-6"),
    Path("Bedrock", "bedrock", "bedrock/us.anthropic.claude-sonnet-4-6"),
    Path("Ollama", "ollama", "ollama/qwen3:8b", info=_OWN),
    Path("OpenRouter", "openrouter", "openrouter/anthropic/claude-sonnet-4.6", info=_OWN),
    Path("vLLM", "vllm", "hosted_vllm/qwen3", info=_OWN),
    Path("LM Studio", "lm_studio", "lm_studio/qwen3", info=_OWN),
    Path("llama.cpp", "llama_cpp", "openai/qwen3", info=_OWN),
    Path("Mistral", "mistral", "mistral/mistral-large-latest", thinks="mistral/mistral-medium-latest"),
    Path("Groq", "groq", "groq/openai/gpt-oss-120b"),
    Path("DeepSeek", "deepseek", "deepseek/deepseek-v4-pro"),
    Path("xAI", "xai", "xai/grok-4.3"),
    Path("Cohere", "cohere", "cohere_chat/command-a-03-2025", thinks="cohere_chat/command-a-reasoning-08-2025"),
)


# -- what is expected of a value ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Is:
    """A value for which something holds; `name` says what."""

    name: str
    holds: Callable[[Any], bool]

    def __str__(self) -> str:
        return self.name


ABSENT = Is("absent", lambda _: False)  # of a key
PRESENT = Is("…", lambda value: value not in (None, "", [], {}))


def or_absent(expected: Any) -> Is:
    """Of a key: as expected, or not there at all, which means the same to this provider."""
    return Is(f"{shown(expected)} or absent", lambda value: fits(expected, value))


def one_of(*expected: Any) -> Is:
    return Is(" or ".join(map(shown, expected)), lambda value: any(fits(each, value) for each in expected))


def says(text: str) -> Is:
    """Content that is this text, bare or as its only part."""

    def holds(value: Any) -> bool:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            value = value[0].get("text")
        return bool(value == text)

    return Is(json.dumps(text), holds)


def fits(expected: Any, found: Any) -> bool:
    """Whether a value is as expected: an object has these keys at least, a list these items and no others."""
    if isinstance(expected, Is):
        return expected.holds(found)
    if isinstance(expected, Mapping):
        return isinstance(found, Mapping) and all(_has(found, key, value) for key, value in expected.items())
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(fits, expected, found))
    return bool(expected == found) and type(expected) is type(found)


def _has(found: Mapping[str, Any], key: str, expected: Any) -> bool:
    if key in found:
        return fits(expected, found[key])
    return isinstance(expected, Is) and expected.name.endswith("absent")


def shown(expected: Any) -> str:
    """An expectation, as short as it can be understood."""
    if isinstance(expected, Mapping):
        return "{" + ", ".join(f"{key}: {shown(value)}" for key, value in expected.items()) + "}"
    if isinstance(expected, list):
        return "[" + ", ".join(map(shown, expected)) + "]"
    return str(expected) if isinstance(expected, Is) else json.dumps(expected)


# -- what is expected of a cell ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellOutcome:
    """What came of a call: the code of its error or "ok", what it says, and the requests for completions it made."""

    outcome: str
    said: str
    result: Mapping[str, Any]
    requests: tuple[Received, ...]

    @property
    def notes(self) -> str:
        return "; ".join(self.result.get("notes", ()))

    @property
    def body(self) -> Any:
        """Of its one request, in one spelling: Google's servers read their keys in two."""
        [request] = self.requests
        return _camel(request.body) if request.path.endswith(":generateContent") else request.body


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {re.sub(r"_([a-z])", lambda match: match[1].upper(), key): _camel(each) for key, each in value.items()}
    return [_camel(each) for each in value] if isinstance(value, list) else value


class Expected:
    """What a cell has to come to."""

    def flaw(self, seen: CellOutcome) -> str:
        """What is otherwise; empty where nothing is."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sent(Expected):
    """It is answered, and the one request has this in its body; `noted` is a word of its notes."""

    body: Any
    noted: str = ""

    def flaw(self, seen: CellOutcome) -> str:
        if seen.outcome != "ok":
            return seen.said
        if len(seen.requests) != 1:
            return f"{len(seen.requests)} requests"
        if not fits(self.body, seen.body):
            return f"sent {json.dumps(seen.body)}"
        return "" if self.noted in seen.notes else f"notes: {seen.notes or 'none'}"

    def __str__(self) -> str:
        return shown(self.body) + (f", noted: {self.noted}" if self.noted else "")


@dataclass(frozen=True)
class Refused(Expected):
    """Nobody is asked, and the error has this code."""

    code: str

    def flaw(self, seen: CellOutcome) -> str:
        if seen.outcome == self.code and not seen.requests:
            return ""
        return seen.said or f"sent {[request.body for request in seen.requests]}"

    def __str__(self) -> str:
        return f"refused: {self.code}"


@dataclass(frozen=True)
class Late(Expected):
    """The deployment's own time-out ends the try, and the provider is told nothing of it."""

    timeout_s: float

    def flaw(self, seen: CellOutcome) -> str:
        if f"no answer in time (within {self.timeout_s:g} s)" not in seen.said:
            return seen.said or "answered"
        return "" if len(seen.requests) == 1 and "timeout" not in seen.body else f"sent {seen.requests}"

    def __str__(self) -> str:
        return f"within {self.timeout_s:g} s, not in the body"


@dataclass(frozen=True)
class Answered(Expected):
    """The result has this ending, content, and these tool calls by name and arguments."""

    finish_reason: str
    content: str
    calls: tuple[tuple[str, Any], ...] = ()
    unpriced: bool = False

    def flaw(self, seen: CellOutcome) -> str:
        if seen.outcome != "ok":
            return seen.said
        called = tuple(
            (call["function"]["name"], json.loads(call["function"]["arguments"])) for call in seen.result["tool_calls"]
        )
        found = (seen.result["finish_reason"], seen.result["content"], called)
        if found != (self.finish_reason, self.content, self.calls):
            return f"{found}"
        return "a cost that nobody can know" if self.unpriced and seen.result["cost_usd"] else ""

    def __str__(self) -> str:
        calls = f", calls {', '.join(name for name, _ in self.calls)}" if self.calls else ""
        return f"{self.finish_reason} {json.dumps(self.content)}{calls}{', no cost' if self.unpriced else ''}"


@dataclass(frozen=True)
class Failed(Expected):
    """It was asked, the failure is this deployment's, and the reason has these words."""

    words: str
    code: str = "all_failed"

    def flaw(self, seen: CellOutcome) -> str:
        if seen.outcome == self.code and self.words in seen.said and seen.requests:
            return ""
        return seen.said or f"answered: {seen.result['finish_reason']} {seen.result['content']!r}"

    def __str__(self) -> str:
        return f"{self.code}: {self.words}"


@dataclass(frozen=True)
class Either(Expected):
    """One of several, which are as good for the user."""

    of: tuple[Expected, ...]

    def flaw(self, seen: CellOutcome) -> str:
        flaws = [each.flaw(seen) for each in self.of]
        return "" if "" in flaws else flaws[0]

    def __str__(self) -> str:
        return " | ".join(map(str, self.of))


def either(*of: Expected) -> Either:
    return Either(of)


# -- how the cells are run ---------------------------------------------------------------------------------------------


class FakedPaths:
    """One `Konstruct` over a fake provider for each path. Its groups are named `path`, or `path, variant`."""

    def __init__(self, konstruct: Konstruct, providers: Mapping[str, Provider]) -> None:
        self._konstruct = konstruct
        self.providers = providers

    async def call(self, path: Path, variant: str = "", timeout_s: float = 30, **arguments: Any) -> CellOutcome:
        provider = self.providers[path.name]
        before = len(provider.requests)
        outcome, said, result = "ok", "", {}
        try:
            completion = await self._konstruct.complete(
                **arguments, model_group=_group(path, variant), timeout_s=timeout_s
            )
            result = completion.as_dict()
        except KonstructError as error:
            outcome, said = error.code, str(error)
        asked = [request for request in provider.requests[before:] if request.completes]
        return CellOutcome(outcome, said, result, tuple(asked))

    def groups(self) -> Sequence[GroupStatus]:
        """What is known of each group."""
        return self._konstruct.groups()

    async def left_nusd(self, tenant_id: str) -> int:
        """Of the one budget of a tenant."""
        [state] = await self._konstruct.budgets(tenant_id)
        return state.left_nusd


def _group(path: Path, variant: str) -> str:
    return f"{path.name}, {variant}" if variant else path.name


@asynccontextmanager
async def faked_paths(
    paths: Sequence[Path],
    variants: Mapping[str, Callable[[Path], tuple[str, Mapping[str, Any]]]] | None = None,
    **section: Any,
) -> AsyncIterator[FakedPaths]:
    """`variants`: further groups of each path, by name: their model and further `litellm_params`. `section`: more of
    that section of the config."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        providers = {path.name: stack.enter_context(Provider(path.wire)) for path in paths}

        def deployment(path: Path, variant: str, model: str, more: Mapping[str, Any]) -> dict[str, Any]:
            params = {**reaching(providers[path.name], model), **more}
            return {**entry(_group(path, variant), params), "model_info": dict(path.info)}

        config = {
            "model_list": [
                *(deployment(path, "", path.model, {}) for path in paths),
                *(deployment(path, name, *of(path)) for path in paths for name, of in (variants or {}).items()),
            ],
            # Each cell is a try by itself, whatever came of those before it.
            "router_settings": {"num_retries": 0, "allowed_fails": 10_000, "cooldown_time": 0},
            "konstruct": {"ledger_url": f"sqlite:///{folder}/ledger.sqlite3", **section},
        }
        async with opened(File(folder), config) as konstruct:
            world = FakedPaths(konstruct, providers)
            await world.call(paths[0], messages=HELLO, timeout_s=120)  # so that no cell waits for LiteLLM
            yield world


def table(cells: Mapping[tuple[str, str], tuple[Expected | str, str]]) -> str:
    """Cells as Markdown, a line each: what is expected, and what is otherwise; and how many are right, by path."""
    lines = ["| path | | expected | came out |", "|---|---|---|---|"]
    right: dict[str, list[int]] = {}
    for (path, column), (expected, flaw) in cells.items():
        right.setdefault(path, []).append(not flaw)
        came = "✓" if not flaw else "✗ " + (flaw if len(flaw) <= 300 else flaw[:299] + "…")
        lines.append(f"| {path} | {column} | {_cell(str(expected))} | {_cell(came)} |")
    lines += ["", "| path | right | of |", "|---|---|---|"]
    lines += [f"| {path} | {sum(of)} | {len(of)} |" for path, of in right.items()]
    lines.append(f"| all | {sum(map(sum, right.values()))} | {len(cells)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
