"""The server in a process where a library misbehaves: run as a script in place of `python -m konstruct_mcp`.

LiteLLM's own extension point is used, a custom provider named `stray`. Its model `cancel` raises a cancellation that
nobody asked for; `print` writes to stdout in every way there is, and answers.
"""

import asyncio
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"
os.environ["LITELLM_MODE"] = "PRODUCTION"

import litellm

from konstruct_mcp.cli.main import main


class Stray(litellm.CustomLLM):  # type: ignore[name-defined,misc]  # it does not export its own extension point
    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs["model"] == "cancel":
            raise asyncio.CancelledError
        print("stray print")
        os.write(1, b"stray write\n")
        os.system("echo stray child")  # noqa: ASYNC221  # blocking the loop for a moment is part of misbehaving
        sys.stdout.flush()
        return litellm.completion(model="gpt-4o", messages=[], mock_response="printed")


litellm.custom_provider_map = [{"provider": "stray", "custom_handler": Stray()}]
litellm.utils.custom_llm_setup()  # type: ignore[no-untyped-call]
main()
