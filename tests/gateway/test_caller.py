"""Who makes a request, and what follows from it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import entry, write

from konstruct_mcp import Config, InvalidArgumentError, UnknownGroupError, UnknownTenantError
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.gateway.caller import Caller, group_of

ACME = Caller.verified("acme")


def config(folder: Path, environ: dict[str, str] | None = None, **konstruct: Any) -> Config:
    tenants = {"acme": {"groups": ["one", "wild-*"]}, "globex": {"groups": ["two"]}}
    models = [
        *(entry(name, {"model": f"openai/{name}", "api_key": "k"}) for name in ("one", "two")),
        entry("wild-*", {"model": "openai/*", "api_key": "k"}),
    ]
    return load_config(
        write(folder, {"model_list": models, "konstruct": {"tenants": tenants, **konstruct}}), environ or {}
    )


class TestACaller:
    def test_is_the_process_by_default_and_cannot_be_changed(self) -> None:
        caller = Caller()
        assert (caller.tenant, caller.established, caller.is_verified) == (None, "process", False)
        with pytest.raises(FrozenInstanceError):
            caller.tenant = "acme"  # type: ignore[misc]  # that it is refused is the point

    @pytest.mark.parametrize("tenant", ["", "a b", "auth0|1", "x" * 129])
    def test_has_a_well_formed_tenant(self, tenant: str) -> None:
        with pytest.raises(InvalidArgumentError, match="should be 1 to 128 letters"):
            Caller.verified(tenant)

    def test_that_a_token_has_verified_has_a_tenant(self) -> None:
        with pytest.raises(InvalidArgumentError, match="a caller has one if, and only if"):
            Caller(None, "token")

    def test_of_the_process_has_none_of_its_own(self) -> None:
        """Else it would be on one account and be shown everybody's."""
        with pytest.raises(InvalidArgumentError, match="a caller has one if, and only if"):
            Caller("alice")


class TestTheAccount:
    def test_is_the_one_that_a_call_of_the_process_names(self, tmp_path: Path) -> None:
        loaded = config(tmp_path, default_tenant="globex")
        assert Caller().account(loaded).id == "globex"
        assert Caller().naming("acme").account(loaded).id == "acme"
        assert Caller().naming("acme").established == "call"

    def test_is_the_callers_own_where_it_is_verified(self, tmp_path: Path) -> None:
        loaded = config(tmp_path, default_tenant="globex")
        assert ACME.naming(None).account(loaded).id == ACME.naming("acme").account(loaded).id == "acme"

    @pytest.mark.parametrize("other", ["globex", "nobody"])
    def test_is_no_other_ones_whatever_a_verified_call_says(self, other: str) -> None:
        with pytest.raises(UnknownTenantError) as refused:
            ACME.naming(other)
        assert refused.value.message == f'no tenant "{other}" here; leave tenant_id out'

    def test_is_refused_to_a_verified_caller_whom_the_config_does_not_name(self, tmp_path: Path) -> None:
        stranger = Caller.verified("initech")
        for decide in (stranger.account, stranger.shown):
            with pytest.raises(UnknownTenantError, match='no tenant "initech" here, which your access token'):
                decide(config(tmp_path))
        assert stranger.account(config(tmp_path, allow_unknown=True)).groups == ("one", "two")

    def test_is_the_servers_own_where_it_is_pinned(self, tmp_path: Path) -> None:
        pinned = config(tmp_path, {"KONSTRUCT_TENANT_ID": "acme"}, allow_unknown=True)
        assert ACME.account(pinned).id == "acme"
        for other in ("globex", "initech"):
            with pytest.raises(UnknownTenantError):
                Caller.verified(other).account(pinned)


class TestWhatIsShown:
    def test_are_all_groups_where_the_process_has_no_tenant(self, tmp_path: Path) -> None:
        assert Caller().shown(config(tmp_path)).groups == ("one", "two")
        assert ACME.shown(config(tmp_path)).groups == ("one",)

    def test_is_read_by_whose_it_is(self, tmp_path: Path) -> None:
        operators = config(tmp_path)
        of_globex = config(tmp_path, {"KONSTRUCT_TENANT_ID": "globex"})
        assert (Caller().only(operators), Caller().only(of_globex), ACME.only(operators)) == (None, "globex", "acme")
        assert Caller().may_read(operators, "acme")
        assert not Caller().may_read(of_globex, "acme")
        assert ACME.may_read(operators, "acme")
        assert not ACME.may_read(operators, "globex")

    def test_is_not_more_where_a_call_names_another(self, tmp_path: Path) -> None:
        of_globex = config(tmp_path, {"KONSTRUCT_TENANT_ID": "globex"}, pin_tenant=False)
        assert not Caller().naming("acme").may_read(of_globex, "acme")


class TestTheGroup:
    def test_is_the_first_that_the_tenant_may_use(self, tmp_path: Path) -> None:
        loaded = config(tmp_path, default_group="two")
        assert group_of(loaded, None, loaded.tenants["acme"]) == "one"
        assert group_of(loaded, None, loaded.tenants["globex"]) == "two"

    def test_may_match_a_wildcard_of_the_tenants(self, tmp_path: Path) -> None:
        loaded = config(tmp_path)
        assert group_of(loaded, "wild-gpt-4o", loaded.tenants["acme"]) == "wild-gpt-4o"
        for tenant in (loaded.tenants["globex"], None):
            with pytest.raises(UnknownGroupError):
                group_of(loaded, "wild-gpt-4o", tenant)

    def test_of_another_is_refused_with_the_own_ones(self, tmp_path: Path) -> None:
        loaded = config(tmp_path)
        with pytest.raises(UnknownGroupError) as refused:
            group_of(loaded, "two", loaded.tenants["acme"])
        assert refused.value.message == 'no group "two"; groups: one, or a chat model\'s name that matches wild-*'
