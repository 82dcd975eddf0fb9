"""The section `konstruct.auth`: whose requests over HTTP are answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from konstruct_mcp.config.environment import is_url
from konstruct_mcp.config.http import HttpSettings, is_loopback
from konstruct_mcp.config.sections import Section
from konstruct_mcp.core.text import TENANT_ID, TENANT_ID_RULE

# Of a pair of keys only. With a shared secret (HS256 …) whoever can verify a token can make one.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """An authorization server, and what its tokens say.

    Attributes:
        issuer: the claim `iss` of its tokens, which is also its address.
        audience: values of the claim `aud`, of which a token needs one.
        jwks_url, jwks_file: where its public keys are; one of them is given.
        algorithms: that its tokens may be signed with.
        tenant_claim: the claim that says for whom a token stands; `a.b` is the member `b` of the claim `a`.
        tenants: value of that claim → tenant; None where the value is the tenant's id.
        required_scopes: those that a token needs.
        operator_scope: the scope that makes its bearer an operator; None where no token does.
        leeway_s: by how much clocks may differ.
    """

    issuer: str
    audience: tuple[str, ...]
    jwks_url: str | None = None
    jwks_file: Path | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    tenant_claim: str = "tenant"
    tenants: Mapping[str, str] | None = field(default=None, hash=False)
    required_scopes: tuple[str, ...] = ()
    operator_scope: str | None = None
    leeway_s: float = 30.0


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How callers over HTTP are verified.

    Attributes:
        keys: whether keys of the ledger's database are taken.
        jwt: the authorization servers whose tokens are taken.
        recheck_s: after how many seconds a key, or what the database says of a tenant, is looked up again.
        required: whether nobody is served without a key or a token; None where the place says so: see `is_needed`.
    """

    keys: bool = True
    jwt: tuple[JwtSettings, ...] = ()
    required: bool | None = None
    recheck_s: float = 10.0

    def is_needed(self, http: HttpSettings) -> bool:
        """Whether callers are verified: always, where anybody else can reach the server, be it through a proxy; else
        where the config wants it, or names an authorization server."""
        if not http.is_loopback:
            return True
        if self.required is None:
            return bool(self.jwt or http.public_url is not None or http.trusted_proxies)
        return self.required

    def can_verify(self) -> bool:
        """Whether there is anything that a caller could be verified with."""
        return self.keys or bool(self.jwt)


def _keys_url(text: str) -> str:
    if is_url(text):
        parts = urlsplit(text)
        if parts.scheme == "https" or is_loopback(parts.hostname or ""):
            return text
    raise ValueError("should be a URL with https://, since whoever changes these keys can be anybody")


def _tenant(text: str) -> str:
    if not TENANT_ID.match(text):
        raise ValueError(TENANT_ID_RULE)
    return text


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str | dict) else given


_Text = Annotated[str, Field(min_length=1, max_length=2000)]
_Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$", max_length=200)]  # as in RFC 6749
_OF_A_SERVER = JwtSettings("", ())


class JwtSection(Section):
    """An entry of `konstruct.auth.jwt`; see `JwtSettings`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    issuer: _Text
    audience: Annotated[tuple[_Text, ...], BeforeValidator(_as_list), Field(min_length=1)]
    jwks_url: Annotated[str, AfterValidator(_keys_url)] | None = None
    jwks_file: _Text | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256", "EdDSA")
    tenant_claim: _Text = _OF_A_SERVER.tenant_claim
    tenants: dict[str, Annotated[str, AfterValidator(_tenant)]] | None = None
    required_scopes: tuple[_Scope, ...] = ()
    operator_scope: _Scope | None = None
    leeway_s: Annotated[float, Field(ge=0, le=300)] = _OF_A_SERVER.leeway_s

    @model_validator(mode="after")
    def _has_keys(self) -> JwtSection:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("should name jwks_url or jwks_file")
        return self

    def settings(self) -> JwtSettings:
        given = {one.name: getattr(self, one.name) for one in fields(JwtSettings)}
        return JwtSettings(**given | {"jwks_file": None if self.jwks_file is None else Path(self.jwks_file)})


class AuthSection(Section):
    """`konstruct.auth`; see `AuthSettings`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    keys: bool = True
    jwt: Annotated[tuple[JwtSection, ...], BeforeValidator(_as_list)] = ()
    required: bool | None = None
    # So that a revocation holds everywhere within 15 s, whatever is configured.
    recheck_s: Annotated[float, Field(ge=0, le=15)] = AuthSettings().recheck_s

    @model_validator(mode="after")
    def _issuers_differ(self) -> AuthSection:
        issuers = [one.issuer for one in self.jwt]
        if len({*issuers}) < len(issuers):
            raise ValueError("jwt: should name each issuer once")
        return self

    def settings(self) -> AuthSettings:
        return AuthSettings(self.keys, tuple(one.settings() for one in self.jwt), self.required, self.recheck_s)
