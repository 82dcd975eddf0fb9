"""Where a config says that the Valkey server is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.default_groups import entry, write

from konstruct_mcp.config.reading import load_config
from konstruct_mcp.config.redis import RedisPlace
from konstruct_mcp.core.errors import ConfigError

MODELS = [entry("it", {"model": "openai/x", "api_key": "sk-test", "api_base": "http://127.0.0.1:1"})]


def place(folder: Path, environ: dict[str, str] | None = None, **sections: Any) -> RedisPlace | None:
    return load_config(write(folder, {"model_list": MODELS, **sections}), environ or {}).redis


def test_there_is_none_where_none_is_named(tmp_path: Path) -> None:
    assert place(tmp_path) is None


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("redis://host", "redis://host"),
        ("rediss://user:pass@host:6380/2", "rediss://user:pass@host:6380/2"),
        ("valkeys://host:6380", "rediss://host:6380"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
        ("unix:///run/valkey.sock?db=2&password=pass", "unix:///run/valkey.sock?db=2&password=pass"),
        (
            "rediss://host?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=false",
            "rediss://host?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=false",
        ),
        ("os.environ/PLACE", "redis://of-the-environment/1"),
    ],
)
def test_the_config_names_it(tmp_path: Path, given: str, url: str) -> None:
    found = place(tmp_path, {"PLACE": "redis://of-the-environment/1"}, konstruct={"redis_url": given})
    assert found == RedisPlace(url)
    assert "pass" not in repr(found)


def test_the_environment_wins_and_the_prefix_and_the_number_of_servers_are_the_configs(tmp_path: Path) -> None:
    ours = {"redis_url": "redis://config", "redis_prefix": "team:", "replicas": 3}
    found = place(tmp_path, {"KONSTRUCT_REDIS_URL": "redis://environment"}, konstruct=ours)
    assert found == RedisPlace("redis://environment", "team:", 3)


@pytest.mark.parametrize(
    "given",
    ["http://secret-7f3a9c", "redis://", "redis://host:secret-7f3a9c", "redis://h/secret-7f3a9c", "os.environ/NO"],
)
def test_what_is_no_address_is_a_fault_that_does_not_show_it(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match=r"konstruct\.redis_url") as raised:
        place(tmp_path, konstruct={"redis_url": given})
    assert "secret-7f3a9c" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        "ssl_ca_cert=secret-7f3a9c",
        "ssl_cert_reqs=secret-7f3a9c",
        "db=secret-7f3a9c",
        "secret-7f3a9c",
        "socket_timeout=9",
    ],
)
def test_an_option_that_there_is_not_is_a_fault_and_no_server_that_is_away(tmp_path: Path, options: str) -> None:
    with pytest.raises(ConfigError, match=r"konstruct\.redis_url: may have the options db, .*ssl_ca_certs") as raised:
        place(tmp_path, konstruct={"redis_url": f"rediss://host/0?{options}"})
    assert "secret-7f3a9c" not in str(raised.value)
    with pytest.raises(ConfigError, match="ssl_… with rediss only"):
        place(tmp_path, konstruct={"redis_url": "redis://host/0?ssl_ca_certs=/ca.pem"})


@pytest.mark.parametrize(
    ("sections", "url"),
    [
        ({"router_settings": {"redis_url": "redis://a:1/0"}}, "redis://a:1/0"),
        ({"router_settings": {"redis_host": "a"}}, "redis://a:6379/0"),
        (
            {
                "router_settings": {
                    "redis_host": "a",
                    "redis_port": "1",
                    "redis_password": "os.environ/PASS",
                    "redis_db": 2,
                }
            },
            "redis://:p%40%2F@a:1/2",
        ),
        (
            {
                "litellm_settings": {
                    "cache": True,
                    "cache_params": {"type": "redis", "host": "os.environ/HOST", "ssl": True},
                }
            },
            "rediss://b:6379/0",
        ),
        ({"litellm_settings": {"cache_params": {"type": "s3", "host": "b"}}}, None),
        ({"router_settings": {"redis_host": "os.environ/NO"}}, None),
    ],
)
def test_litellms_own_keys_name_it_too(tmp_path: Path, sections: dict[str, Any], url: str | None) -> None:
    found = place(tmp_path, {"PASS": "p@/", "HOST": "b"}, **sections)
    assert found == (None if url is None else RedisPlace(url))


def test_our_own_key_counts_before_litellms(tmp_path: Path) -> None:
    found = place(tmp_path, konstruct={"redis_url": "redis://ours"}, router_settings={"redis_host": "theirs"})
    assert found == RedisPlace("redis://ours")
