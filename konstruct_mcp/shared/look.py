"""A look at the Valkey or Redis server by who is no server himself: whether servers can use it, and why not."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any

import redis.exceptions
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from konstruct_mcp.config.redis import RedisPlace
from konstruct_mcp.core.sharing import Look
from konstruct_mcp.shared.connection import GONE_S, new_client, said

_PATIENCE_S = 3.0  # a person waits, and the server may be far away

# A write, since one that takes none counts as away; and how many servers there are, without counting this process.
_LOOK = """
redis.call('SET', KEYS[1], '1', 'PX', 1000)
if redis.call('TYPE', KEYS[2]).ok ~= 'zset' then return 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', redis.call('TIME')[1] - ARGV[1])
return redis.call('ZCARD', KEYS[2])
"""


async def look(place: RedisPlace) -> Look:
    """Whether servers can use it. Nothing that is said of it holds an address or a password."""
    client: Any = new_client(place.url, _PATIENCE_S)  # whose methods have types in part
    try:
        async with asyncio.timeout(_PATIENCE_S):
            keys = f"{place.prefix}look", f"{place.prefix}replicas"
            count = await client.execute_command("EVAL", _LOOK, len(keys), *keys, round(GONE_S))
            async with client.pubsub() as messages:  # which a user may be forbidden who may do all else
                await messages.subscribe(f"{place.prefix}messages")
                await messages.get_message(timeout=_PATIENCE_S)
    except (RedisError, OSError, TimeoutError) as error:
        return Look(_why(error))
    finally:
        await client.aclose()
    return Look(None, count if isinstance(count, int) else 0)


def _why(error: Exception) -> str:
    if isinstance(error, AuthenticationError):
        return "it refuses the login: the user or the password is wrong, or missing"
    if isinstance(error, NoPermissionError):
        return "its user lacks a right that servers need"
    if isinstance(error, OutOfMemoryError):
        return "it is full"
    if isinstance(error, ReadOnlyError):
        return "it takes no writes"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "it does not speak TLS as this does"
        if isinstance(cause, socket.gaierror):
            return "there is no host of its name"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ResponseError):
        return f"it refuses a command ({said(error)})"
    if isinstance(error, TimeoutError | redis.exceptions.TimeoutError):
        return "no answer in time"
    return f"it does not answer as Valkey or Redis does ({type(error).__name__})"
