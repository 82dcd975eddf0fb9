"""Sessions of coding agents, the genuine programs, with this installation's console script.

Their own models are fakes that say which tools to call (`support/agent_models.py`). All are long forms, since they
have to be installed; those of `minutes` take longer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.agent_models import Script
from support.agents import (
    CLAUDE_CODE,
    CLINE,
    CODEX,
    CONTINUE,
    COPILOT,
    GEMINI,
    GOOGLE_ADK,
    LANGCHAIN,
    OPENAI_AGENTS,
    OPENCODE,
    Agent,
    Desk,
)
from support.databases import sqlite
from support.default_groups import entry
from support.priced_config import PRICES
from support.providers import Provider, Received, Text

from konstruct_mcp.testing.connection import Connection

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]
# What takes more room in JSON, in bytes, and in JSON that is in JSON.
LONG = 'for name in ("a", "b"):\n\tprint(f"{name}\\\\n")  # größer, 更大, \N{WAVING HAND SIGN}. Then on.\n' * 1500
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


def config(folder: Path, openai: Provider, agent: Agent, **konstruct: Any) -> dict[str, Any]:
    """With the folder of the project open; of an entry in a project, `attach` opens it."""
    params = {"model": "openai/paid", "api_base": openai.url, "api_key": "sk-test", **PRICES}
    return {
        "model_list": [entry("paid", params)],
        "router_settings": {"num_retries": 0},
        "konstruct": {
            "default_group": "paid",
            "ledger_url": sqlite(folder).url,
            "files": {"roots": [str(folder / "project")] if agent.scope == "user" else []},
            **konstruct,
        },
    }


def cases(*agents: Agent) -> pytest.MarkDecorator:
    """One for each agent."""
    slow = [agent for agent in agents if agent not in (CLAUDE_CODE, CODEX, GEMINI)]
    marked = [pytest.param(agent, id=agent.name, marks=[pytest.mark.minutes] * (agent in slow)) for agent in agents]
    return pytest.mark.parametrize("agent", marked)


@cases(CLAUDE_CODE, CLINE, CODEX, CONTINUE, COPILOT, GEMINI, GOOGLE_ADK, LANGCHAIN, OPENAI_AGENTS, OPENCODE)
async def test_a_session(agent: Agent, tmp_path: Path, openai: Provider) -> None:
    """Attached, a call with a file, one that continues it, two at once, a long answer, detached.

    The long answer is cut by nobody but us: its model is shown all of a result, in valid JSON, and the rest by `read`
    where it is offered that.
    """
    meeting = asyncio.Barrier(2) if agent.side_by_side else None
    openai.script(
        *(Text("Blue"), Text("Navy")),
        *(Together("left", meeting=meeting), Together("right", meeting=meeting)),
        Text(LONG, usage=(1, 1)),  # costs so little that programs write it in several ways
    )
    reading_on = {
        "read": lambda answers: answers[4]["truncated"]["uri"],
        "offset": lambda answers: answers[4]["truncated"]["next_offset"],
    }
    script = Script(
        [
            [asking("Which colour?") | {"files": [str(tmp_path / "project" / "sky.py")]}],
            [asking("More exactly?") | {"continue": lambda answers: answers[0]["thread"]}],
            [asking("And here?"), asking("And there?")],
            [asking("In detail?")],
            *([[reading_on]] if agent.reads_on else []),
        ],
        last="All is said.",
    )
    with Provider(agent.wire) as model:
        model.script(script)
        desk = Desk(agent, tmp_path, model, config(tmp_path, openai, agent))
        (desk.project / "sky.py").write_text("COLOUR = 0x0000ff\n")
        before = desk.entry
        desk.attach()
        said = await desk.asked("Ask another model which colour.")
        desk.detach()
    assert [answer["content"] for answer in script.answers[:2]] == ["Blue", "Navy"]
    assert {answer["content"] for answer in script.answers[2:4]} == {"left", "right"}
    pages = [answer["content"] for answer in script.answers[4:]]
    assert len(pages) == 1 + agent.reads_on
    assert LONG.startswith("".join(pages))
    assert min(map(len, pages)) > 2000
    copies = 2 if agent in (CLINE, GOOGLE_ADK) else 1  # these show both, and have room for them
    assert [result.count("next_offset") for result in script.results[4:]] == [copies] * len(pages)
    assert script.answers[0]["files"] == [{"path": "sky.py", "bytes": 18}]
    first, second = (request.body["messages"] for request in openai.requests[:2])
    assert "COLOUR = 0x0000ff" in str(first)
    assert second == [*first, {"role": "assistant", "content": "Blue"}, *asking("More exactly?")["messages"]]
    assert "All is said." in said
    assert len(sqlite(tmp_path).rows()) == 5
    assert desk.entry == before


@pytest.mark.parametrize(
    ("agent", "parallel_calls", "asked"),
    [
        pytest.param(CODEX, True, 1, id="codex"),
        pytest.param(CODEX, False, 0, id="codex, one after another"),
        pytest.param(CLAUDE_CODE, True, 0, id="claude-code", marks=pytest.mark.minutes),
        pytest.param(GEMINI, True, 0, id="gemini", marks=pytest.mark.minutes),
        pytest.param(OPENCODE, False, 1, id="opencode, one after another", marks=pytest.mark.minutes),
    ],
)
async def test_what_goes_out_without_approval_where_nobody_can_be_asked(
    agent: Agent, parallel_calls: bool, asked: int, tmp_path: Path, openai: Provider
) -> None:
    with Provider(agent.wire) as model:
        model.script(Script([[asking("Which colour?")]]))
        desk = Desk(agent, tmp_path, model, config(tmp_path, openai, agent, parallel_calls=parallel_calls))
        desk.attach(approve=False)
        await desk.asked("Ask another model which colour.")
        assert model.calls
    assert openai.calls == asked
