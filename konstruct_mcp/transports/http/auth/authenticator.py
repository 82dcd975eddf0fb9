"""From a key or an access token to the caller that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from konstruct_mcp.config.auth import JwtSettings
from konstruct_mcp.core.errors import InvalidTokenError
from konstruct_mcp.core.identity import KEY_MARK
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.konstruct import Konstruct

if TYPE_CHECKING:
    from konstruct_mcp.transports.http.auth.access_tokens import AccessTokens

_LONGEST_TOKEN = 16_384  # characters: tokens with many groups have 8,000, and each is parsed before it is verified


def _access_tokens(servers: Sequence[JwtSettings]) -> AccessTokens:
    # PyJWT and cryptography take 80 ms to import, and with keys alone nobody needs them.
    from konstruct_mcp.transports.http.auth.access_tokens import AccessTokens

    return AccessTokens(servers)


class Authenticator:
    """Verifies callers by the config that is in use now."""

    def __init__(
        self,
        konstruct: Konstruct,
        access_tokens: Callable[[Sequence[JwtSettings]], AccessTokens] = _access_tokens,
    ) -> None:
        """`access_tokens` makes what verifies the tokens of some authorization servers."""
        self._konstruct, self._make = konstruct, access_tokens
        self._made: tuple[Sequence[JwtSettings], AccessTokens] | None = None

    @property
    def issuers(self) -> tuple[str, ...]:
        """The authorization servers whose tokens are taken."""
        return tuple(server.issuer for server in self._konstruct.config.auth.jwt)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that one of them, or each, wants of a token."""
        servers = self._konstruct.config.auth.jwt
        return tuple(dict.fromkeys(scope for server in servers for scope in server.required_scopes))

    async def caller(self, token: str) -> Caller:
        """The caller that a token stands for, who may ask here.

        Raises:
            InvalidTokenError: it proves nothing.
            ForbiddenTokenError: whom it stands for may not ask here.
            UnverifiedError: nobody can say now.
        """
        auth = self._konstruct.config.auth
        if len(token) > _LONGEST_TOKEN:
            raise InvalidTokenError("this token is too long")
        if auth.keys and token.startswith(KEY_MARK):
            return await self._konstruct.verify_key(token)
        if not auth.jwt:
            raise InvalidTokenError("this is no key")
        if self._made is None or self._made[0] != auth.jwt:
            self._made = auth.jwt, self._make(auth.jwt)
        return await self._konstruct.admitted(await self._made[1].caller(token))
