"""One question to an agent of LangChain that has this server: COMMAND, QUESTION, and MODEL_URL."""

import asyncio
import os
import sys

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from langchain_openai import ChatOpenAI


async def main(command: str, question: str) -> None:
    model = ChatOpenAI(model="fake", base_url=os.environ["MODEL_URL"], api_key="fake")
    client = MultiServerMCPClient({"konstruct": {"transport": "stdio", "command": command, "args": []}})
    # Without a session a server is started for each call, and threads are forgotten between them.
    async with client.session("konstruct") as session:
        agent = create_agent(model, await load_mcp_tools(session))
        answer = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
    print(answer["messages"][-1].content)


asyncio.run(main(*sys.argv[1:]))
