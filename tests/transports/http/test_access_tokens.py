"""Access tokens of an authorization server: which are taken, and what others are answered. The server is a process."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from support.default_groups import entry, write
from support.fork_server import ForkServer
from support.http_process import HttpProcess, headers_for, message
from support.replicas import free_port

from konstruct_mcp.config.auth import JwtSettings
from konstruct_mcp.core.errors import ForbiddenTokenError, InvalidTokenError, UnverifiedError
from konstruct_mcp.transports.http.auth.access_tokens import AccessTokens
from konstruct_mcp.transports.http.auth.signing_keys import SigningKeys

ISSUER, AUDIENCE = "https://login.example.com/", "https://konstruct.example.com/mcp"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_set(**keys: Any) -> dict[str, Any]:
    """The public parts of keys, as a set, by their ids."""
    makers: dict[Any, Any] = {
        rsa.RSAPublicKey: RSAAlgorithm,
        ec.EllipticCurvePublicKey: ECAlgorithm,
        ed25519.Ed25519PublicKey: OKPAlgorithm,
    }
    found = []
    for key_id, key in keys.items():
        public = key.public_key()
        (maker,) = [maker for kind, maker in makers.items() if isinstance(public, kind)]
        found.append({**json.loads(maker.to_jwk(public)), "kid": key_id, "use": "sig"})
    return {"keys": found}


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "auth0|7",
        "iat": now,
        "exp": now + 300,
        "scope": "models",
        "org": "acme",
    }
    return {key: value for key, value in {**made, **more}.items() if value is not None}


def signed(key: Any = RSA_KEY, algorithm: str = "RS256", key_id: str | None = "rsa", **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm=algorithm, headers={} if key_id is None else {"kid": key_id})


def unsigned() -> str:
    return jwt.encode(claims(), "", algorithm="none")


def signed_with_the_public_key() -> str:
    """As an attacker does, who hopes that a public key is taken for a shared secret. The library would not sign so."""
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = _part({"alg": "HS256", "typ": "JWT", "kid": "rsa"})
    content = f"{header}.{_part(claims())}"
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return f"{content}.{_text(algorithm.sign(content.encode(), pem))}"


def _part(value: Mapping[str, Any]) -> str:
    return _text(json.dumps(value).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def tampered() -> str:
    header, _, signature = signed().split(".")
    return f"{header}.{_part(claims(org='other'))}.{signature}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer | None) -> Iterator[HttpProcess]:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "jwks.json").write_text(json.dumps(key_set(rsa=RSA_KEY, ec=EC_KEY, ed=ED_KEY)))
    issuer = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks_file": str(folder / "jwks.json"),
        "tenant_claim": "org",
        "tenants": {"acme": "ann", "gone": "nobody"},
        "required_scopes": ["models"],
        "operator_scope": "models:admin",
    }
    settings = {
        "model_list": [entry("free", {"model": "ollama/none"}), entry("other", {"model": "ollama/none"})],
        "konstruct": {
            "ledger_url": f"sqlite:///{folder / 'ledger.sqlite3'}",
            "tenants": {"ann": {"groups": ["free"]}, "default": None},
            "http": {"public_url": AUDIENCE, "pause_s": 0},
            "auth": {"jwt": issuer},
        },
    }
    port = free_port()
    with HttpProcess(write(folder, settings), listen=f"127.0.0.1:{port}", fork_server=fork_server) as made:
        made.url = f"http://127.0.0.1:{port}/mcp"  # it has said its public one
        yield made


def answer(server: HttpProcess, token: str) -> httpx2.Response:
    sent = message("tools/list")
    headers = {**headers_for(sent, "2026"), "authorization": f"Bearer {token}"}
    return httpx2.post(server.url, json=sent, headers=headers, timeout=60)


PAST, FUTURE = int(time.time()) - 3600, int(time.time()) + 3600
TAKEN: dict[str, Callable[[], str]] = {
    "RS256": signed,
    "ES256": lambda: signed(EC_KEY, "ES256", "ec"),
    "EdDSA": lambda: signed(ED_KEY, "EdDSA", "ed"),
    "without a key id": lambda: signed(key_id=None),
    "one audience of several": lambda: signed(aud=["https://elsewhere", AUDIENCE]),
    "scopes as a list": lambda: signed(scope=None, scp=["models"]),
    "clocks that differ a little": lambda: signed(nbf=int(time.time()) + 5, iat=int(time.time()) + 5),
}
REFUSED: dict[str, tuple[Callable[[], str], int]] = {
    "garbage": (lambda: "a.b.c", 401),
    "expired": (lambda: signed(exp=PAST), 401),
    "never expires": (lambda: signed(exp=None), 401),
    "wrong audience": (lambda: signed(aud="https://elsewhere"), 401),
    "no audience": (lambda: signed(aud=None), 401),
    "wrong issuer": (lambda: signed(iss="https://elsewhere/"), 401),
    "no issuer": (lambda: signed(iss=None), 401),
    "wrong key": (lambda: signed(OTHER_KEY), 401),
    "unknown key": (lambda: signed(OTHER_KEY, key_id="new"), 401),
    "key of another kind": (lambda: signed(EC_KEY, "ES256", "rsa"), 401),
    "other claims": (tampered, 401),
    "alg none": (unsigned, 401),
    "HS256 with the public key": (signed_with_the_public_key, 401),
    "algorithm not listed": (lambda: signed(algorithm="RS512"), 401),
    "nbf in the future": (lambda: signed(nbf=FUTURE), 401),
    "iat in the future": (lambda: signed(iat=FUTURE, exp=FUTURE + 300), 401),
    "missing scope": (lambda: signed(scope="something else"), 403),
    "missing claim": (lambda: signed(org=None), 403),
    "claim of another type": (lambda: signed(org={"acme": 1}), 403),
    "claim without a tenant": (lambda: signed(org="unheard of"), 403),
    "tenant that there is not": (lambda: signed(org="gone"), 403),
}


class TestATokenIs:
    @pytest.mark.parametrize("what", TAKEN)
    def test_taken(self, server: HttpProcess, what: str) -> None:
        taken = answer(server, TAKEN[what]())
        assert taken.status_code == 200, taken.text
        assert '"free"' in taken.text
        assert '"other"' not in taken.text

    @pytest.mark.parametrize("what", REFUSED)
    def test_refused(self, server: HttpProcess, what: str) -> None:
        make, status = REFUSED[what]
        token = make()
        refused = answer(server, token)
        assert refused.status_code == status, refused.text
        assert "jsonrpc" not in refused.text
        assert token not in refused.text
        told = refused.headers["www-authenticate"]
        if status == 401:
            assert 'error="invalid_token"' in told
        assert ('error="insufficient_scope"' in told) is (what == "missing scope")

    def test_told_where_to_log_in(self, server: HttpProcess) -> None:
        sent = message("tools/list")
        refused = httpx2.post(server.url, json=sent, headers=headers_for(sent, "2026"))
        assert refused.status_code == 401
        metadata = "https://konstruct.example.com/.well-known/oauth-protected-resource/mcp"
        assert refused.headers["www-authenticate"] == f'Bearer scope="models", resource_metadata="{metadata}"'
        for path in ("", "/mcp"):
            found = httpx2.get(f"{server.root}/.well-known/oauth-protected-resource{path}")
            assert found.json() == {
                "resource": AUDIENCE,
                "authorization_servers": [ISSUER],
                "scopes_supported": ["models"],
                "bearer_methods_supported": ["header"],
                "resource_name": "Konstruct",
            }

    def test_an_operators_only_by_the_scope_that_the_config_names(self, server: HttpProcess) -> None:
        for scope, sees_all in (("models operator", False), ("models models:admin", True)):
            sent = message(
                "completion/complete",
                {
                    "ref": {"type": "ref/resource", "uri": "konstruct://usage/{tenant_id}"},
                    "argument": {"name": "tenant_id", "value": ""},
                },
            )
            headers = {**headers_for(sent, "2026"), "authorization": f"Bearer {signed(scope=scope)}"}
            found = httpx2.post(server.url, json=sent, headers=headers)
            assert ('"default"' in found.text) is sees_all, found.text

    def test_no_login_to_the_operators_page_where_it_is_longer_than_a_browser_keeps(self, server: HttpProcess) -> None:
        for groups, status in ((["short"], 303), (["long" * 1200], 400)):
            token = signed(scope="models models:admin", groups=groups)
            answered = httpx2.post(f"{server.root}/login", data={"token": token})
            assert answered.status_code == status, answered.text
            assert ("set-cookie" in answered.headers) is (status == 303)
        assert "longer than a browser keeps" in answered.text


# -- without a process: many shapes of claims, and keys that change ---------------------------------------------------


def settings(**more: Any) -> JwtSettings:
    given: dict[str, Any] = {"issuer": ISSUER, "audience": (AUDIENCE,), "jwks_url": "https://login.example.com/jwks"}
    return JwtSettings(**{**given, **more})


class Issuer(httpx.AsyncBaseTransport):
    """What fetches keys: an authorization server that has these, or is away."""

    def __init__(self, **keys: Any) -> None:
        self.keys, self.fetched, self.is_away = keys, 0, False
        self.document: bytes | None = None  # in place of the keys

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.fetched += 1
        if self.is_away:
            raise httpx.ConnectError("away")
        if self.document is not None:
            return httpx.Response(200, content=self.document)
        return httpx.Response(200, json=key_set(**self.keys))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestSigningKeys:
    def made(self, issuer: Issuer) -> tuple[AccessTokens, Clock]:
        clock = Clock()
        made = AccessTokens([settings(tenant_claim="org")], lambda one: SigningKeys(one, clock=clock, transport=issuer))
        return made, clock

    async def test_are_fetched_once(self) -> None:
        tokens, _ = self.made(issuer := Issuer(rsa=RSA_KEY))
        await asyncio.gather(*(tokens.caller(signed()) for _ in range(20)))
        assert issuer.fetched == 1

    async def test_that_are_new_are_fetched(self) -> None:
        tokens, clock = self.made(issuer := Issuer(rsa=RSA_KEY))
        await tokens.caller(signed())
        issuer.keys = {"rsa": RSA_KEY, "new": OTHER_KEY}
        clock.now += 11
        assert (await tokens.caller(signed(OTHER_KEY, key_id="new"))).tenant == "acme"
        assert issuer.fetched == 2

    async def test_that_nobody_has_are_no_load(self) -> None:
        tokens, clock = self.made(issuer := Issuer(rsa=RSA_KEY))
        await tokens.caller(signed())
        clock.now += 11
        for number in range(50):
            with pytest.raises(InvalidTokenError):
                await tokens.caller(signed(OTHER_KEY, key_id=f"made-up-{number}"))
        assert issuer.fetched == 2

    async def test_that_are_taken_back_are_forgotten(self) -> None:
        tokens, clock = self.made(issuer := Issuer(rsa=RSA_KEY, new=OTHER_KEY))
        await tokens.caller(signed())
        issuer.keys = {"new": OTHER_KEY}
        clock.now += 301
        with pytest.raises(InvalidTokenError):
            await tokens.caller(signed())

    async def test_stay_good_while_the_issuer_is_away(self, caplog: pytest.LogCaptureFixture) -> None:
        tokens, clock = self.made(issuer := Issuer(rsa=RSA_KEY))
        await tokens.caller(signed())
        issuer.is_away = True
        for _ in range(5):
            clock.now += 400
            assert (await tokens.caller(signed())).tenant == "acme"
        assert caplog.text.count(f'the signing keys of the issuer "{ISSUER}" cannot be read (ConnectError); ') == 1

    @pytest.mark.parametrize(
        ("document", "why"),
        [
            (b"", "no JSON"),
            (b"[]", "no set of keys"),
            (b"{}", "no set of keys"),
            (b"[" * 200_000, "no JSON"),
            (b'{"keys": [{"kty": "RSA"}, 1]}', "no keys"),
            (b"\xff", "no JSON"),
            (b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "alg": "none"}]}', "no keys"),
        ],
    )
    async def test_that_are_none_leave_those_that_are_known(
        self, document: bytes, why: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        tokens, clock = self.made(issuer := Issuer(rsa=RSA_KEY))
        await tokens.caller(signed())
        issuer.document = document
        clock.now += 400
        assert (await tokens.caller(signed())).tenant == "acme"
        assert issuer.fetched == 2
        assert f"cannot be read ({why}); those that are known stay in use" in caplog.text

    async def test_that_were_never_had_make_no_token_bad(self) -> None:
        tokens, clock = self.made(issuer := Issuer(rsa=RSA_KEY))
        issuer.is_away = True
        with pytest.raises(UnverifiedError):
            await tokens.caller(signed())
        issuer.is_away = False
        clock.now += 11
        assert (await tokens.caller(signed())).tenant == "acme"


@pytest.mark.parametrize(
    ("claim", "mapping", "said", "tenant"),
    [
        ("https://example.com/tenant", None, {"https://example.com/tenant": "acme"}, "acme"),  # Auth0
        ("tid", {"9188": "acme"}, {"tid": "9188"}, "acme"),  # Entra ID
        ("organization.acme.id", None, {"organization": {"acme": {"id": "acme"}}}, "acme"),  # Keycloak
        ("groups", {"/acme": "acme"}, {"groups": ["/acme"]}, "acme"),
        ("groups", {"/acme": "acme"}, {"groups": ["/acme", "/other"]}, 'its claim "groups" has 2 values;'),
        ("groups", {"/acme": "acme"}, {"groups": "/other"}, 'its claim "groups" is "/other", which is not mapped;'),
        ("sub", {"auth0|7": "ann"}, {}, "ann"),
        ("sub", None, {}, 'its claim "sub" is "auth0|7", which is no id of a tenant;'),
        ("org.id", None, {"org": "acme"}, 'its claim "org.id" is not there;'),
        ("org", None, {"org": {"id": "acme"}}, 'its claim "org" is no text;'),
    ],
)
async def test_the_tenant_is_what_a_claim_says(
    tmp_path: Path, claim: str, mapping: dict[str, str] | None, said: dict[str, Any], tenant: str
) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(key_set(rsa=RSA_KEY)))
    tokens = AccessTokens([settings(jwks_url=None, jwks_file=file, tenant_claim=claim, tenants=mapping)])
    token = signed(**{"org": None, **said})
    if tenant.endswith(";"):  # no tenant, but why it is none
        with pytest.raises(ForbiddenTokenError, match=re.escape(tenant)):
            await tokens.caller(token)
    else:
        caller = await tokens.caller(token)
        assert (caller.tenant, caller.is_verified, caller.subject) == (tenant, True, "auth0|7")
