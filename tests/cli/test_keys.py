"""What an operator does to keys and tenants of the database: `konstruct-mcp keys` and `konstruct-mcp tenants`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.commands import Ran, run
from support.databases import sqlite
from support.default_groups import write
from support.priced_config import priced_config
from support.providers import Provider

KEY = re.compile(r"ks_[A-Za-z0-9]{43}\n")


@pytest.fixture
def config(tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> Path:
    tenants = {"default": None, "ann": {"groups": ["paid"], "note": "of the config"}}
    made = priced_config(
        sqlite(tmp_path), openai, anthropic, ollama, tenants=tenants, budgets=[{"usd": 3, "per": "day"}]
    )
    return write(tmp_path, made)


def done(config: Path, *words: str) -> str:
    ran = run("--config", config, *words)
    assert ran.code == 0, ran
    return ran.out


def refused(config: Path, *words: str) -> str:
    ran: Ran = run("--config", config, *words)
    assert (ran.code, ran.out) == (2, ""), ran
    return ran.err


class TestKeys:
    def test_are_shown_once(self, config: Path) -> None:
        ran = run("--config", config, "keys", "create", "--tenant", "ann", "--expires", "90d", "--note", "laptop")
        key = ran.out
        assert KEY.fullmatch(key)
        assert key.strip() not in ran.err
        assert "audit: key created" in ran.err
        listed = done(config, "keys", "list")
        assert key[:11] in listed
        assert key.strip() not in listed
        [found] = json.loads(done(config, "keys", "list", "--json"))["keys"]
        assert (found["prefix"], found["tenant"], found["note"]) == (key[:11], "ann", "laptop")
        assert found["expires"] > found["created"]
        assert json.loads(done(config, "keys", "list", "--json", "--tenant", "default")) == {"keys": []}

    def test_are_revoked_by_their_beginning_or_as_a_whole(self, config: Path) -> None:
        first, second = (done(config, "keys", "create", "--tenant", "ann").strip() for _ in range(2))
        done(config, "keys", "revoke", first[:11])
        done(config, "keys", "revoke", second)
        assert all(key["revoked"] for key in json.loads(done(config, "keys", "list", "--json"))["keys"])
        assert "revoked" in done(config, "keys", "list")

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (("create", "--tenant", "nobody"), 'no tenant "nobody"; `konstruct-mcp tenants create` makes one'),
            (("create", "--tenant", "ann", "--expires", "soon"), "30m, 12h, 90d"),
            (("create", "--tenant", "ann", "--expires", "0d"), "in the future"),
            (("create", "--tenant", "ann", "--expires", "999999w"), "too far away"),
            (("create", "--tenant", "ann", "--scope", "root"), "operator"),
            (("create", "--tenant", "ann", "--note", "two\nlines"), "one line"),
            (("create",), "--tenant"),
            (("revoke", "ks_nobody"), "no key begins with"),
        ],
    )
    def test_are_refused(self, config: Path, words: tuple[str, ...], why: str) -> None:
        assert why in refused(config, "keys", *words)


class TestTenants:
    def test_are_made_changed_and_listed(self, config: Path) -> None:
        done(config, "tenants", "create", "carl", "--group", "paid", "--budget", "5/day", "--budget", "$2.5/total:paid")
        done(
            config,
            "tenants",
            "set",
            "carl",
            "--rpm",
            "60",
            "--max-concurrency",
            "3",
            "--max-effort",
            "low",
            "--files",
            "/srv/papers",
            "--note",
            "night shift",
        )
        _, default, *_, shown = done(config, "tenants", "list").splitlines()
        assert "  $3/day" in default
        assert "  $5/day, $2.5/total:paid" in shown
        *_, carl = json.loads(done(config, "tenants", "list", "--json"))["tenants"]
        assert carl == {
            "id": "carl",
            "from": "database",
            "disabled": False,
            "flaw": None,
            "groups": ["paid"],
            "budgets": [{"usd": 5, "per": "day"}, {"usd": 2.5, "per": "total", "groups": ["paid"]}],
            "rpm": 60,
            "max_concurrency": 3,
            "max_effort": "low",
            "files": ["/srv/papers"],
            "note": "night shift",
        }
        assert "carl" in done(config, "budgets", "--tenant", "carl")
        assert "tenants.carl.files[0]: is everything there is" in refused(
            config, "tenants", "set", "carl", "--files", "/"
        )
        done(config, "tenants", "set", "carl", "--all-groups", "--no-budgets", "--no-files", "--no-limits")
        done(config, "tenants", "disable", "carl")
        lines = {line.split()[0]: line for line in done(config, "tenants", "list").splitlines()}
        assert lines["carl"].split() == ["carl", "database", "disabled", "all", "none", "night", "shift"]
        assert "of the config" in lines["ann"]
        assert 'no tenant "carl"' in refused(config, "keys", "create", "--tenant", "carl")
        done(config, "tenants", "enable", "carl")
        done(config, "keys", "create", "--tenant", "carl")

    def test_that_a_config_has_no_use_for_are_told(self, config: Path) -> None:
        done(config, "tenants", "create", "carl", "--group", "free")
        config.write_text(
            config.read_text().replace("model_name: free", "model_name: gone").replace("- free", "- gone")
        )
        assert 'no group "free"' in done(config, "tenants", "list")
        assert 'no tenant "carl"' in refused(config, "keys", "create", "--tenant", "carl")

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (("create", "carl", "--group", "nope"), 'tenants.carl.groups[0]: no group "nope"'),
            (("create", "carl", "--budget", "much/day"), "tenants.carl.budgets[0].usd: should be a number"),
            (("create", "carl", "--budget", "5"), "DOLLARS/PER"),
            (("create", "carl", "--rpm", "0"), "tenants.carl.rpm"),
            (("create", "no id"), "letters, digits"),
            (("create", "ann"), "the config has an entry"),
            (("create", "default"), "calls that name none"),
            (("set", "carl", "--rpm", "1"), 'no tenant "carl"'),
            (("set", "ann", "--rpm", "1"), "is the config's"),
            (("set", "carl"), "name what to change"),
            (("set", "carl", "--group", "paid", "--all-groups"), "one at a time"),
            (("disable", "ann"), "is the config's"),
        ],
    )
    def test_are_refused(self, config: Path, words: tuple[str, ...], why: str) -> None:
        assert why in refused(config, "tenants", *words)
