"""Threads: a call that continues an earlier answer sends only what is new, and the provider sees all of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import KEYS, entry, reaching, write
from support.providers import Provider, Text

from konstruct_mcp import Konstruct
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.gateway.threads import Threads

HOUR = 3600.0
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def two_groups(openai: Provider, anthropic: Provider, **konstruct: Any) -> dict[str, Any]:
    return {
        "model_list": [
            entry("gpt", reaching(openai, "openai/gpt-4o")),
            entry("claude", reaching(anthropic, "anthropic/claude-sonnet-4-6")),
        ],
        "konstruct": {"default_group": "gpt", **konstruct},
    }


def said(provider: Provider) -> list[tuple[str, str]]:
    """The roles and texts of the last request."""
    messages = provider.requests[-1].body["messages"]
    return [(message["role"], _text(message["content"])) for message in messages]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


@pytest.fixture(params=["memory", "disk"])
def keep(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def konstruct_of(
    folder: Path, config: dict[str, Any], clock: Clock | None = None, **options: Any
) -> AsyncIterator[Konstruct]:
    """One whose data is in this folder."""
    environ = {**KEYS, "XDG_DATA_HOME": str(folder)}
    made = load_config(write(folder, config), environ)
    threads = Threads() if clock is None else Threads(clock)
    async with Konstruct(made, environ=environ, threads=threads, **options) as konstruct:
        yield konstruct


# -- a conversation ----------------------------------------------------------------------------------------------------


async def test_only_what_is_new_is_sent_and_the_provider_sees_all(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    openai.script(Text("Blue."), Text("Air scatters it."))
    anthropic.script(Text("Rayleigh."))
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": keep})) as konstruct:
        first = await konstruct.complete([{"role": "system", "content": "Be brief."}, user("What is the sky?")])
        second = await konstruct.complete("Why?", continue_=first.thread)
        third = await konstruct.complete("Who says so?", continue_=second.thread, model_group="claude")

    assert said(openai) == [
        ("system", "Be brief."),
        ("user", "What is the sky?"),
        ("assistant", "Blue."),
        ("user", "Why?"),
    ]
    assert said(anthropic)[1:] == [
        ("assistant", "Blue."),
        ("user", "Why?"),
        ("assistant", "Air scatters it."),
        ("user", "Who says so?"),
    ]
    assert anthropic.requests[-1].body["system"] is not None
    threads = {first.thread, second.thread, third.thread}
    assert len(threads) == 3
    assert all(re.fullmatch("[a-z2-7]{26}", thread or "") for thread in threads)


async def test_continuing_an_answer_twice_forks(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    openai.script(*(Text(text) for text in ("root", "left", "right", "end", "end")))
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": keep})) as konstruct:
        root = await konstruct.complete("a")
        left, right = [await konstruct.complete(text, continue_=root.thread) for text in ("b", "c")]
        await konstruct.complete("d", continue_=left.thread)
        of_left = said(openai)
        await konstruct.complete("d", continue_=right.thread)

    texts = [[text for _, text in one] for one in (of_left, said(openai))]
    assert texts == [["a", "root", "b", "left", "d"], ["a", "root", "c", "right", "d"]]
