"""The public keys of an authorization server (JWKS), from its URL or a file.

They are kept for some minutes, and fetched again before when a token names a key that is not among them, as after a
change of keys; but not more often than every few seconds, whatever tokens come. While the URL is away, the keys that
are known stay good.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from konstruct_mcp.config.auth import JwtSettings
from konstruct_mcp.core.errors import UnverifiedError
from konstruct_mcp.core.text import quoted

_log = logging.getLogger(__name__)

_KEPT_S = 300.0  # keys that are taken back are known no longer than this
_BETWEEN_S = 10.0  # fetches: whoever makes up key ids is no load on the authorization server
_PATIENCE_S = 5.0  # with the URL
_MOST_BYTES = 256 * 1024  # real sets have 2 to 10 KB
_MOST_KEYS = 100
_MOST_TRIED = 10  # keys that are tried for a token which names none
_LEAST_RSA_BITS = 2048  # RFC 7518, 3.3

_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}  # of keys, by how an algorithm's name begins


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key.

    Attributes:
        key: as the library that verifies takes it.
        id, kind, algorithm: `kid`, `kty` and `alg` of the set; None where it says nothing.
    """

    key: Any
    id: Any
    kind: str
    algorithm: Any

    def fits(self, algorithm: str) -> bool:
        """Whether it can have signed in this way."""
        return self.kind == _KINDS.get(algorithm[:2]) and self.algorithm in (None, algorithm)


class SigningKeys:
    """The keys of one authorization server."""

    def __init__(
        self,
        settings: JwtSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is fetched yet.

        Args:
            clock: gives seconds.
            transport: what it is fetched with; the network if None.
        """
        self._settings, self._clock, self._transport = settings, clock, transport
        self._keys: tuple[SigningKey, ...] = ()
        self._read_at = self._tried_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._failed = False

    async def find(self, key_id: str | None, algorithm: str) -> Sequence[SigningKey]:
        """The keys that a token can be signed with; empty where there is none.

        Args:
            key_id: that the token names; None where it names none.

        Raises:
            UnverifiedError: no keys were ever had, and none can be had now.
        """
        now = self._clock()
        if now - self._read_at > _KEPT_S and now - self._tried_at > _BETWEEN_S:
            await self._read()
        found = self._among(key_id, algorithm)
        if not found and self._clock() - self._tried_at > _BETWEEN_S:
            await self._read()
            found = self._among(key_id, algorithm)
        elif not found and self._reading is not None:
            await asyncio.shield(self._reading)
            found = self._among(key_id, algorithm)
        if not self._keys:
            raise UnverifiedError("access tokens cannot be verified now; try again in a few seconds")
        return found

    def _among(self, key_id: str | None, algorithm: str) -> Sequence[SigningKey]:
        fitting = [key for key in self._keys if key.fits(algorithm)]
        if key_id is None:
            return fitting[:_MOST_TRIED]
        return [key for key in fitting if key.id == key_id]

    async def _read(self) -> None:
        """Read them anew, once for all who wait."""
        if self._reading is None:
            self._tried_at = self._clock()
            self._reading = asyncio.create_task(self._read_now())
        await asyncio.shield(self._reading)

    async def _read_now(self) -> None:
        try:
            keys = _parsed(await self._document())
        # RecursionError: of a document that is nothing but brackets.
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError) as error:
            if not self._failed:
                _log.warning(
                    "the signing keys of the issuer %s cannot be read (%s)%s",
                    quoted(self._settings.issuer),
                    _why(error),
                    "; those that are known stay in use" if self._keys else "; its tokens are refused",
                )
            self._failed = True
        else:
            if self._failed:
                _log.warning("the signing keys of the issuer %s can be read again", quoted(self._settings.issuer))
            self._keys, self._read_at, self._failed = keys, self._clock(), False
        finally:
            self._reading = None

    async def _document(self) -> bytes:
        if self._settings.jwks_file is not None:
            content = await asyncio.to_thread(self._settings.jwks_file.read_bytes)
            if len(content) > _MOST_BYTES:
                raise ValueError("too large")
            return content
        assert self._settings.jwks_url is not None  # noqa: S101  the config has one of them
        # No redirect is followed: the config says where the keys are.
        async with (
            asyncio.timeout(_PATIENCE_S),
            httpx.AsyncClient(transport=self._transport) as client,
            client.stream("GET", self._settings.jwks_url) as response,
        ):
            if response.status_code != 200:
                raise ValueError(f"status {response.status_code}")
            read = bytearray()
            async for part in response.aiter_bytes():
                read += part
                if len(read) > _MOST_BYTES:
                    raise ValueError("too large")
            return bytes(read)


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "no JSON"
    if type(error) is ValueError:  # one of those above, which say what is wrong
        return str(error)
    return error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__


def _parsed(document: bytes) -> tuple[SigningKey, ...]:
    """The keys of a set. One that is of no use here is passed over.

    Raises:
        ValueError: it is no set, or one without keys.
    """
    content = json.loads(document)
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise ValueError("no set of keys")
    found = []
    for entry in entries:
        if isinstance(entry, dict) and entry.get("use", "sig") == "sig" and (key := _key(entry)) is not None:
            found.append(key)
    if not found:
        raise ValueError("no keys")
    return tuple(found)


def _key(entry: Mapping[str, Any]) -> SigningKey | None:
    # A shared secret has no place in a public set, and a private part is not needed.
    if entry.get("kty") not in ("RSA", "EC", "OKP") or "d" in entry:
        return None
    try:
        key: Any = jwt.PyJWK.from_dict(dict(entry)).key
    except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):  # the last one of `"alg": "none"`
        return None
    if entry["kty"] == "RSA" and key.key_size < _LEAST_RSA_BITS:
        return None
    return SigningKey(key, entry.get("kid"), entry["kty"], entry.get("alg"))
