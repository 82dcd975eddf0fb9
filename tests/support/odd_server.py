"""Another server on our stdio loop, run as a script: its handlers do what those of the product never should.

x:half   has a lone surrogate in it, and so has its progress
x:deep   fails with an error that is nested too deeply to be written as JSON
x:slow   is answered after SIGUSR1; tells stderr when it is asked for
x:talk   reports progress a thousand times, 100 kB each; tells stderr each time
"""

import signal
import sys
from typing import Any

import anyio
from mcp import types
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError

from konstruct_mcp.transports.stdio.serve import serve_stdio

released = anyio.Event()


async def read(ctx: ServerRequestContext[Any], params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    match params.uri:
        case "x:half":
            await ctx.session.report_progress(1, message="half \ud83d")
        case "x:deep":
            nested: list[Any] = []
            for _ in range(300):
                nested = [nested]
            raise MCPError(types.INTERNAL_ERROR, "deep", nested)
        case "x:slow":
            print("asked", file=sys.stderr, flush=True)
            await released.wait()
        case "x:talk":
            for n in range(1, 1001):
                await ctx.session.report_progress(n, message="x" * 100_000)
                print("said", file=sys.stderr, flush=True)
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, text="half \ud83d")])


async def main() -> None:
    async def release() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            async for _ in signals:
                released.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        await serve_stdio(Server("odd_server", on_read_resource=read), anyio.sleep_forever, lambda: None)
        tasks.cancel_scope.cancel()


anyio.run(main)
