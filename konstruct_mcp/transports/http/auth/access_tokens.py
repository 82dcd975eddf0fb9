"""Access tokens that an authorization server has signed (JWT, RFC 9068), and the caller that each stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jwt

from konstruct_mcp.config.auth import JwtSettings
from konstruct_mcp.core.errors import ForbiddenTokenError, InvalidTokenError
from konstruct_mcp.core.identity import OPERATOR
from konstruct_mcp.core.text import TENANT_ID, cut, quoted
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.transports.http.auth.signing_keys import SigningKey, SigningKeys

_LONGEST_SUBJECT = 200  # characters, which the log shows


class AccessTokens:
    """Verifies the tokens of some authorization servers."""

    def __init__(
        self, servers: Sequence[JwtSettings], keys_of: Callable[[JwtSettings], SigningKeys] = SigningKeys
    ) -> None:
        self._servers = {server.issuer: (server, keys_of(server)) for server in servers}

    async def caller(self, token: str) -> Caller:
        """The caller that a token stands for. Nobody has looked whether there is such a tenant.

        Raises:
            InvalidTokenError: it proves nothing.
            ForbiddenTokenError: it lacks a scope, or stands for no tenant.
            UnverifiedError: nobody can say now.
        """
        header, issuer = _unverified(token)
        if issuer not in self._servers:
            raise InvalidTokenError("this access token is of no issuer that is known here")
        settings, keys = self._servers[issuer]
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in settings.algorithms:
            raise InvalidTokenError("this access token is not signed in a way that is taken here")
        if key_id is not None and not isinstance(key_id, str):
            raise InvalidTokenError("this access token is malformed")
        claims = _verified(token, await keys.find(key_id, algorithm), algorithm, settings)
        scopes = _scopes(claims)
        if missing := [scope for scope in settings.required_scopes if scope not in scopes]:
            raise ForbiddenTokenError("this access token lacks a scope", settings.required_scopes or missing)
        subject = claims.get("sub")
        return Caller.verified(
            _tenant(claims, settings),
            subject=cut(subject, _LONGEST_SUBJECT) if isinstance(subject, str) else None,
            scopes=_granted(scopes, settings),
        )


def _unverified(token: str) -> tuple[Mapping[str, Any], str]:
    """What a token says of itself, which is believed only as far as to choose the keys that it is verified with."""
    try:
        read = jwt.api_jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidTokenError("this is neither a key nor an access token") from None
    issuer = read["payload"].get("iss")
    return read["header"], issuer if isinstance(issuer, str) else ""


def _verified(token: str, keys: Sequence[SigningKey], algorithm: str, settings: JwtSettings) -> Mapping[str, Any]:
    """The claims of a token that is signed with one of these keys, and holds now and here.

    Raises:
        InvalidTokenError: it is none.
    """
    flaw = "is not signed with a key of its issuer"
    for key in keys:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            flaw = "has expired"
        except jwt.MissingRequiredClaimError as error:
            flaw = f"lacks the claim {error.claim}"
        except jwt.InvalidAudienceError:
            flaw = "is for another audience than this server"
        except jwt.ImmatureSignatureError:
            flaw = "is not valid yet"
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        else:
            return claims
        break
    raise InvalidTokenError(f"this access token {flaw}")


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """The scopes of a token: `scope` of RFC 9068, or `scp` of Entra ID and Okta, each a text or a list."""
    found: set[str] = set()
    for claim in ("scope", "scp"):
        value = claims.get(claim)
        found |= {*value.split()} if isinstance(value, str) else set()
        found |= {one for one in value if isinstance(one, str)} if isinstance(value, list) else set()
    return frozenset(found)


def _granted(scopes: frozenset[str], settings: JwtSettings) -> frozenset[str]:
    """The same scopes, with `operator` among them only where the config says which of the issuer's that is."""
    is_operator = settings.operator_scope is not None and settings.operator_scope in scopes
    return scopes - {OPERATOR} | ({OPERATOR} if is_operator else set())


def _tenant(claims: Mapping[str, Any], settings: JwtSettings) -> str:
    """The id of the tenant that a token stands for.

    Raises:
        ForbiddenTokenError: for none.
    """
    value: Any = claims
    # A claim's whole name first: Auth0's are URLs, with dots in them.
    path = [settings.tenant_claim] if settings.tenant_claim in claims else settings.tenant_claim.split(".")
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    tenant = settings.tenants.get(value) if isinstance(value, str) and settings.tenants is not None else value
    if not isinstance(tenant, str) or not TENANT_ID.match(tenant):
        raise ForbiddenTokenError(
            f"this access token stands for no tenant here, as {_said(value, settings)}; ask whoever runs this server"
        )
    return tenant


def _said(value: Any, settings: JwtSettings) -> str:
    """What the claim says that should name a tenant: for whoever has made the token, and whoever reads the log."""
    name = f"its claim {quoted(settings.tenant_claim)}"
    if value is None:
        return f"{name} is not there"
    if isinstance(value, list):
        return f"{name} has {len(value)} values"
    if not isinstance(value, str):
        return f"{name} is no text"
    return (
        f"{name} is {quoted(value)}, which is {'not mapped' if settings.tenants is not None else 'no id of a tenant'}"
    )
