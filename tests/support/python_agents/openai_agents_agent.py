"""One question to an agent of openai-agents that has this server: COMMAND, QUESTION, and MODEL_URL."""

import asyncio
import os
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai import AsyncOpenAI


async def main(command: str, question: str) -> None:
    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel(
        model="fake", openai_client=AsyncOpenAI(base_url=os.environ["MODEL_URL"], api_key="fake")
    )
    # Without it a call is given up after 5 seconds.
    async with MCPServerStdio(params={"command": command}, client_session_timeout_seconds=330) as konstruct:
        agent = Agent(name="agent", model=model, mcp_servers=[konstruct])
        print((await Runner.run(agent, question)).final_output)


asyncio.run(main(*sys.argv[1:]))
