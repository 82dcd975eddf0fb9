"""Serves a `KonstructServer` over HTTP on loopback, with the SDK's app and tokens that this process has made up.

async with served(server, {"token-of-alice": access("alice")}) as url, over_http(url, "token-of-alice") as client:
    ...
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

from konstruct_mcp.protocol.server import KonstructServer

_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nothing here speaks TLS, and to read them takes 40 ms


def access(subject: str, *scopes: str) -> AccessToken:
    """What a verifier says of a token that was issued to somebody."""
    return AccessToken(token=f"token-of-{subject}", client_id="a client", scopes=list(scopes), subject=subject)


class _Verifier:
    def __init__(self, tokens: Mapping[str, AccessToken]) -> None:
        self._tokens = tokens

    async def verify_token(self, token: str) -> AccessToken | None:
        return self._tokens.get(token)


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C is the test run's."""
        yield


@asynccontextmanager
async def served(
    server: KonstructServer, tokens: Mapping[str, AccessToken], *, stateless: bool = False
) -> AsyncIterator[str]:
    """Gives the address; whoever has none of these tokens is refused there."""
    listening = socket.create_server(("127.0.0.1", 0))
    root = f"http://127.0.0.1:{listening.getsockname()[1]}"
    app = server.streamable_http_app(
        stateless_http=stateless,
        auth=AuthSettings.model_validate(
            {"issuer_url": root, "resource_server_url": f"{root}/mcp", "validate_token_resource": False}
        ),
        token_verifier=_Verifier(tokens),
    )
    uvicorn_server = _Uvicorn(
        uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=1, access_log=False)
    )
    serving = asyncio.create_task(uvicorn_server.serve(sockets=[listening]))
    try:
        yield f"{root}/mcp"
    finally:
        uvicorn_server.should_exit = True
        await serving
        listening.close()


@asynccontextmanager
async def over_http(url: str, token: str, era: str = "2026", **options: Any) -> AsyncIterator[Client]:
    """An MCP client with a token: `2026` speaks 2026-07-28, and `2026 unasked` without asking whether the server does;
    any other era is the handshake revision before it."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60, verify=_NO_AUTHORITIES) as http:
        transport = streamable_http_client(url, http_client=http)
        mode: Any = {"2026": "auto", "2026 unasked": "2026-07-28"}.get(era, "legacy")
        async with Client(transport, mode=mode, **options) as client:
            yield client
