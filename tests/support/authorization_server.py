"""An OAuth 2.1 authorization server on loopback: metadata, registration of clients, codes with PKCE, and signed tokens.

    async with AuthorizationServer({"tenant": "ann"}) as issuer:
        ...  # `issuer.url`, and its keys at `issuer.jwks_url`

Nobody is asked for a password: whoever comes to authorize a client is the user, whose claims the tokens carry. Its HTTP
is the MCP SDK's own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import ClientRegistrationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from support.http_server import _Uvicorn

KEY_ID = "first"
_VALID_S = 300


class AuthorizationServer(OAuthAuthorizationServerProvider[AuthorizationCode, RefreshToken, AccessToken]):
    """An authorization server whose one user has these claims.

    Attributes:
        url: its issuer identifier.
        jwks_url: where its public keys are.
        codes: how many codes have become tokens, each with its PKCE verifier.
    """

    def __init__(self, claims: Mapping[str, Any], *, subject: str = "somebody", scopes: tuple[str, ...] = ()) -> None:
        self._claims, self._subject, self._scopes = claims, subject, list(scopes)
        self._clients: dict[str, OAuthClientInformationFull] = {}
        self._codes: dict[str, AuthorizationCode] = {}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.codes = 0

    async def __aenter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"  # the SDK writes it so, with the slash
        self.jwks_url = f"{self.url}jwks"
        registration = ClientRegistrationOptions(enabled=True)
        routes = create_auth_routes(self, AnyHttpUrl(self.url), client_registration_options=registration)
        app = Starlette(routes=[*routes, Route("/jwks", self._keys)])
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        self._server = _Uvicorn(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listening]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        await self._serving
        self._listening.close()

    def token(self, audience: str, **claims: Any) -> str:
        """An access token for the user; `claims` stand above the user's own."""
        now = int(time.time())
        whole = {"iss": self.url, "sub": self._subject, "aud": audience, "iat": now, "exp": now + _VALID_S}
        whole |= {"scope": " ".join(self._scopes), **self._claims, **claims}
        return jwt.encode(whole, self._key, algorithm="RS256", headers={"kid": KEY_ID})

    async def _keys(self, _: Request) -> JSONResponse:
        public = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        return JSONResponse({"keys": [{**public, "kid": KEY_ID, "use": "sig", "alg": "RS256"}]})

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self._clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        assert client_info.client_id is not None
        self._clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        code = secrets.token_urlsafe(32)
        self._codes[code] = AuthorizationCode(
            code=code,
            scopes=params.scopes or self._scopes,
            expires_at=time.time() + _VALID_S,
            client_id=str(client.client_id),
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
            subject=self._subject,
        )
        return construct_redirect_uri(str(params.redirect_uri), code=code, state=params.state, iss=self.url)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self._codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self._codes[authorization_code.code]
        self.codes += 1
        return OAuthToken(access_token=self.token(authorization_code.resource or ""), expires_in=_VALID_S)

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        return None

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        raise NotImplementedError("no refresh tokens are given")

    async def load_access_token(self, token: str) -> AccessToken | None:
        return None

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        raise NotImplementedError("nothing is revoked")
