"""Values for a while, compressed, under keys with a time to live."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Sequence

from konstruct_mcp.shared.connection import AwayError, Connection

_MOST_BYTES = 4 * 2**20  # of a value as it is read
_MOST_SENT = 512 * 1024  # of one as it is sent, which the server answers within a tenth of a second over a slow network
# ARGV: seconds.
_RENEW = "for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end"
_SMALL = 32 * 1024  # which is compressed faster than a thread is found


class ValkeyValues:
    """Values that all servers read. Larger ones than 4 MiB, or 512 KiB compressed, are not kept."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        if len(value) > _MOST_BYTES or self._connection.is_away:
            return False
        packed = zlib.compress(value, 1) if len(value) <= _SMALL else await asyncio.to_thread(zlib.compress, value, 1)
        if len(packed) > _MOST_SENT:
            return False
        with contextlib.suppress(AwayError):
            await self._connection.run("SET", self._key(key), packed, "PX", max(1, round(ttl_s * 1000)))
            return True
        return False

    async def renew(self, keys: Sequence[str], ttl_s: float) -> None:
        names = [self._key(key) for key in keys]
        with contextlib.suppress(AwayError):
            if names:
                await self._connection.run("EVAL", _RENEW, len(names), *names, max(1, round(ttl_s)))

    async def get(self, key: str) -> bytes | None:
        return (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        found: object = None
        if keys:
            with contextlib.suppress(AwayError):
                found = await self._connection.run("MGET", *map(self._key, keys))
        if not isinstance(found, list) or len(found) != len(keys):
            return [None] * len(keys)
        if sum(len(packed) for packed in found if isinstance(packed, bytes)) <= _SMALL:
            return [_unpacked(packed) for packed in found]
        return await asyncio.to_thread(lambda: [_unpacked(packed) for packed in found])

    def _key(self, key: str) -> str:
        return self._connection.key(f"value:{key}")


def _unpacked(packed: object) -> bytes | None:
    """A value; None for what is none of ours, or would be too large."""
    if not isinstance(packed, bytes) or len(packed) > _MOST_SENT:
        return None
    unpacking = zlib.decompressobj()
    try:
        value = unpacking.decompress(packed, _MOST_BYTES)
    except zlib.error:
        return None
    return value if unpacking.eof else None
