"""One question to an agent of google-adk that has this server: COMMAND, QUESTION, and MODEL_URL."""

import asyncio
import os
import sys

from google.adk.agents import Agent
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StdioConnectionParams
from mcp import StdioServerParameters


async def main(command: str, question: str) -> None:
    os.environ |= {"GOOGLE_GEMINI_BASE_URL": os.environ["MODEL_URL"], "GOOGLE_API_KEY": "fake"}
    # Without `timeout` a call is given up after 5 seconds.
    params = StdioConnectionParams(server_params=StdioServerParameters(command=command), timeout=330)
    toolset = McpToolset(connection_params=params)
    agent = Agent(name="agent", model="gemini-2.5-pro", tools=[toolset])
    events = await InMemoryRunner(agent=agent).run_debug(question, quiet=True)
    print(events[-1].content.parts[0].text)
    await toolset.close()


asyncio.run(main(*sys.argv[1:]))
