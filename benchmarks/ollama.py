"""What a genuine Ollama makes of what we send it: each setting, a tool history, a schema, a prompt that is too long.

    python3 -m uv run --group dev python benchmarks/ollama.py http://127.0.0.1:11434 MODEL [--threads THREADS]

For trying by hand, on a version that is new: `tests/providers/test_ollama.py` has the same against a fake, which
answers as this did on Ollama 0.9.3. Prints a line for each, and its status is 1 where one is not as it should be. A
small model is enough (`ollama pull smollm2:135m`); on one core with that model it takes a few minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import say
from support.default_groups import opened

from konstruct_mcp import Completion, Konstruct, KonstructError

TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"where": {"type": "string"}}}},
}
HISTORY = [
    {"role": "user", "content": "Look outside."},
    {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"where": "out"}'}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "rain"},
]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "schema": {
            "type": "object",
            "properties": {"number": {"$ref": "#/$defs/Number"}},
            "required": ["number"],
            "$defs": {"Number": {"type": "integer"}},
        },
    },
}
Check = Callable[[Completion | KonstructError], bool]


def read(most: int) -> Check:
    """Answered, by a model that has read something and written so much at most."""
    return lambda came: (
        isinstance(came, Completion)
        and came.usage is not None
        and came.usage.input_tokens > 0
        and came.usage.output_tokens <= most
    )


def noted(word: str) -> Check:
    return lambda came: isinstance(came, Completion) and any(word in note for note in came.notes)


def failed(code: str, word: str = "") -> Check:
    return lambda came: isinstance(came, KonstructError) and came.code == code and word in came.message


def is_json(came: Completion | KonstructError) -> bool:
    return isinstance(came, Completion) and came.content.lstrip().startswith("{") and '"number"' in came.content


CASES: tuple[tuple[str, dict[str, Any], Any, dict[str, Any], Check], ...] = (
    # what, litellm_params, messages, the request's arguments, what should come
    ("num_predict", {"num_predict": 4}, "Count.", {}, read(4)),
    ("max_tokens", {}, "Count.", {"max_tokens": 4}, read(4)),
    ("an address with /v1", {"api_base": "/v1"}, "Count.", {"max_tokens": 4}, read(4)),
    ("keep_alive, top_k, seed, stop", {"keep_alive": "2m", "top_k": 5, "seed": 1, "stop": "."}, "Count.", {}, read(99)),
    ("a tool history", {}, HISTORY, {"tools": [TOOL], "max_tokens": 4}, read(4)),
    ("a tool history without tools", {}, HISTORY, {"max_tokens": 4}, read(4)),
    ("a schema with references", {}, "Give a number.", {"response_format": SCHEMA, "max_tokens": 40}, is_json),
    ("a tool that must be called", {}, "Hi", {"tools": [TOOL], "tool_choice": "required"}, failed("unsupported")),
    ("effort, of a model without", {"reasoning_effort": "high"}, "Hi", {"max_tokens": 4}, noted("reasoning_effort")),
    ("a prompt in too short a window", {"num_ctx": 128}, "x1" * 180, {"max_tokens": 4}, noted("the prompt was cut")),
    ("a prompt beyond any doubt", {"num_ctx": 128}, "lorem " * 150, {"max_tokens": 4}, failed("context_overflow")),
    ("no such model", {"model": "ollama/no-such-model"}, "Hi", {}, failed("all_failed", "no such model (HTTP 404)")),
    ("nobody there", {"api_base": "http://127.0.0.1:1"}, "Hi", {}, failed("all_failed", "connection failed (refused)")),
)


async def ask(konstruct: Konstruct, group: str, messages: Any, call: dict[str, Any]) -> Completion | KonstructError:
    try:
        completion: Completion = await konstruct.complete(messages, model_group=group, **call)
        return completion
    except KonstructError as error:
        return error


async def run(url: str, model: str, threads: int | None) -> bool:
    def params(more: dict[str, Any]) -> dict[str, Any]:
        base = more.get("api_base", "")
        made = {"model": f"ollama/{model}", "num_retries": 0, "timeout": 300, "num_predict": 50, **more}
        made["api_base"] = base if base.startswith("http") else url + base
        return made if threads is None else {**made, "num_thread": threads}

    config = {
        "model_list": [{"model_name": what, "litellm_params": params(more)} for what, more, _, _, _ in CASES],
        "konstruct": {"default_group": CASES[0][0], "timeout_s": 600},
    }
    is_right = True
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), config, {"HOME": folder}) as konstruct:
            for what, _, messages, call, check in CASES:
                came = await ask(konstruct, what, messages, call)
                said = came if isinstance(came, KonstructError) else (came.content, came.usage, came.notes)
                say(f"{'ok  ' if check(came) else 'NOT '} {what}: {said}")
                is_right &= check(came)
    return is_right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, help="num_thread of each request")
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(run(given.url, given.model, given.threads)) else 1)


if __name__ == "__main__":
    main()
