"""The section `konstruct.auth`: what is read of it, what is refused, and who is asked who they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import entry, write

from konstruct_mcp import Config, ConfigError
from konstruct_mcp.config.reading import load_config

ISSUER: dict[str, Any] = {"issuer": "https://a.example/", "audience": "b", "jwks_url": "https://a.example/jwks"}


def loaded(folder: Path, **konstruct: Any) -> Config:
    return load_config(
        write(folder, {"model_list": [entry("free", {"model": "ollama/none"})], "konstruct": konstruct}), {}
    )


def test_one_issuer_is_a_list_of_one(tmp_path: Path) -> None:
    one = loaded(tmp_path, auth={"jwt": ISSUER}).auth
    assert one == loaded(tmp_path, auth={"jwt": [ISSUER]}).auth
    assert (one.jwt[0].audience, one.jwt[0].algorithms) == (("b",), ("RS256", "ES256", "EdDSA"))


@pytest.mark.parametrize(
    ("auth", "fault"),
    [
        ({"jwt": {**ISSUER, "algorithms": ["HS256"]}}, "jwt[0].algorithms[0]"),
        ({"jwt": {**ISSUER, "algorithms": ["none"]}}, "jwt[0].algorithms[0]"),
        ({"jwt": {**ISSUER, "algorithms": []}}, "jwt[0].algorithms"),
        ({"jwt": {**ISSUER, "audience": []}}, "jwt[0].audience"),
        ({"jwt": {**ISSUER, "jwks_url": "http://a.example/jwks"}}, "should be a URL with https://"),
        ({"jwt": {**ISSUER, "jwks_url": "https://a.example/\x01"}}, "should be a URL with https://"),
        ({"jwt": {**ISSUER, "jwks_file": "keys.json"}}, "jwks_url or jwks_file"),
        ({"jwt": {"issuer": "a", "audience": "b"}}, "jwks_url or jwks_file"),
        ({"jwt": {**ISSUER, "tenants": {"auth0|1": "auth0|1"}}}, "letters, digits"),
        ({"jwt": {**ISSUER, "required_scope": "x"}}, "required_scope"),
        ({"jwt": [ISSUER, ISSUER]}, "each issuer once"),
        ({"recheck_s": 60}, "recheck_s"),
        ({"key": True}, "did you mean keys?"),
        ("yes", "konstruct.auth"),
    ],
)
def test_what_would_verify_nobody_or_anybody_is_refused(tmp_path: Path, auth: Any, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, auth=auth)
    assert fault in refused.value.message


@pytest.mark.parametrize(
    ("http", "auth", "is_needed"),
    [
        ({}, {}, False),
        ({}, {"jwt": ISSUER}, True),
        ({}, {"required": True}, True),
        ({"public_url": "https://models.example/mcp"}, {}, True),
        ({"trusted_proxies": ["127.0.0.1"]}, {}, True),
        ({"public_url": "https://models.example/mcp"}, {"required": False}, False),
        ({"listen": "0.0.0.0:8321"}, {}, True),
        ({"listen": "0.0.0.0:8321"}, {"required": False}, True),
    ],
)
def test_whoever_comes_from_elsewhere_is_verified(
    tmp_path: Path, http: dict[str, Any], auth: dict[str, Any], is_needed: bool
) -> None:
    config = loaded(tmp_path, http=http, auth=auth)
    assert config.auth.is_needed(config.http) is is_needed


def test_not_everybody_whom_an_issuer_knows_is_a_tenant(tmp_path: Path) -> None:
    assert loaded(tmp_path).allow_unknown
    assert not loaded(tmp_path, auth={"jwt": ISSUER}).allow_unknown
    assert loaded(tmp_path, auth={"jwt": ISSUER}, allow_unknown=True).allow_unknown


@pytest.mark.parametrize(
    "url", ["https://[bad/mcp", "https://a.example:port/mcp", "ftp://a.example/mcp", "models.example"]
)
def test_an_address_that_no_client_can_use_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("konstruct.http.public_url")):
        loaded(tmp_path, http={"public_url": url})


@pytest.mark.parametrize(
    "path", ["", "/", "//", "mcp", "/healthz/", "/login", "/charts.js", "/.well-known/mcp", "/m p"]
)
def test_a_path_that_the_server_has_for_something_else_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"konstruct\.http\.path: should be a path such as /mcp"):
        loaded(tmp_path, http={"path": path})
    assert loaded(tmp_path, http={"path": "/team/mcp/"}).http.path == "/team/mcp"
