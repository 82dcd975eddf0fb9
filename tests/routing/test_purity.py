"""Routing is pure code: nothing in it waits, speaks to anybody, or reads a clock that it was not given."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from konstruct_mcp import routing

MODULES = sorted(Path(next(iter(routing.__path__))).glob("*.py"))
PURE = {"collections", "contextlib", "dataclasses", "enum", "hashlib", "random", "re", "statistics", "typing"}


@pytest.mark.parametrize("module", MODULES, ids=lambda file: file.stem)
def test_it_imports_only_what_does_no_io(module: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    found -= {"__future__", "konstruct_mcp"}
    if module.stem == "routes":
        found -= {"time"}  # only its default clock
    assert found <= PURE
