"""Sessions of coding agents, the genuine programs, with this installation's console script.

Their own models are fakes that say which tools to call (`support/agent_models.py`). All are long forms, since npm has
to install them; those of `minutes` are large or slow.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.agent_models import Script
from support.agents import CLAUDE_CODE, CLINE, CODEX, CONTINUE, GEMINI, OPENCODE, Agent, Desk
from support.databases import sqlite
from support.default_groups import entry
from support.priced_config import PRICES
from support.providers import Provider, Received, Text

from konstruct_mcp.testing.connection import Connection

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]
MEETING_S = 30  # on two busy cores; agents that ask one after another never meet


@dataclass(frozen=True)
class Together(Text):
    """A completion that is held until another request has come that gets one of the same meeting.

    Where none comes, it breaks off and the test fails.
    """

    meeting: asyncio.Barrier | None = None

    async def give(self, received: Received, connection: Connection) -> None:
        if self.meeting:
            async with asyncio.timeout(MEETING_S):
                await self.meeting.wait()
        await super().give(received, connection)


def asking(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}


def config(folder: Path, openai: Provider) -> dict[str, Any]:
    params = {"model": "openai/paid", "api_base": openai.url, "api_key": "sk-test", **PRICES}
    return {
        "model_list": [entry("paid", params)],
        "router_settings": {"num_retries": 0},
        "konstruct": {"default_group": "paid", "ledger_url": sqlite(folder).url},
    }


def cases(*agents: Agent) -> pytest.MarkDecorator:
    """One for each agent."""
    slow = (CLINE, CONTINUE, OPENCODE)  # or large
    marked = [pytest.param(agent, id=agent.name, marks=[pytest.mark.minutes] * (agent in slow)) for agent in agents]
    return pytest.mark.parametrize("agent", marked)


@cases(CLAUDE_CODE, CODEX, GEMINI, OPENCODE)
async def test_an_attached_agent_asks_continues_and_asks_two_at_once(
    agent: Agent, tmp_path: Path, openai: Provider
) -> None:
    meeting = asyncio.Barrier(2) if agent.side_by_side else None
    openai.script(Text("Blue"), Text("Navy"), Together("left", meeting=meeting), Together("right", meeting=meeting))
    script = Script(
        [
            [asking("Which colour?")],
            [asking("More exactly?") | {"continue": lambda answers: answers[0]["thread"]}],
            [asking("And here?"), asking("And there?")],
        ],
        last="All is said.",
    )
    with Provider(agent.wire) as model:
        model.script(script)
        desk = Desk(agent, tmp_path, model, config(tmp_path, openai))
        before = desk.entry
        desk.attach()
        said = await desk.asked("Ask another model which colour.")
        desk.detach()
    assert [answer["content"] for answer in script.answers[:2]] == ["Blue", "Navy"]
    assert {answer["content"] for answer in script.answers[2:]} == {"left", "right"}
    assert [message["content"] for message in openai.requests[1].body["messages"]] == [
        "Which colour?",
        "Blue",
        "More exactly?",
    ]
    assert "All is said." in said
    assert len(sqlite(tmp_path).rows()) == 4
    assert desk.entry == before
