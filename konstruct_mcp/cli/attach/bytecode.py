"""Compiles this installation's bytecode, which uv and pipx leave to the first start: a client would wait for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.util import cache_from_source, find_spec
from pathlib import Path

_LATEST = ("mcp", "litellm")  # what a server imports first and last: where both are compiled, it has been started once
_LIMIT_S = 300  # it takes some seconds; what is left then is compiled by the first start
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def compile_installation() -> None:
    """Compile this package and those that it needs, if it was never started."""
    found = [find_spec(name) for name in _LATEST]
    if any(spec and spec.origin and _is_missing(Path(spec.origin)) for spec in found):
        compile_missing(_packages())


def compile_missing(packages: Iterable[Path]) -> int:
    """Compile the packages that were never imported.

    Args:
        packages: the folder of each, or the file of a module that is in none.

    Returns:
        how many there were. None are touched where Python is told to write no bytecode, or may not.
    """
    found = [path for path in packages if _is_missing(path if path.suffix == ".py" else path / "__init__.py")]
    if found:
        command = [sys.executable, "-m", "compileall", "-qq", "-j", "0", *map(str, found)]
        try:
            subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)  # noqa: S603  our own interpreter
        except (OSError, subprocess.TimeoutExpired):
            return 0
    return len(found)


def _is_missing(source: Path) -> bool:
    if sys.dont_write_bytecode or not source.is_file():
        return False
    return not Path(cache_from_source(str(source))).exists() and os.access(source.parent, os.W_OK)


def _packages() -> Iterator[Path]:
    for distribution in _needed("konstruct-mcp", {}):
        names = {file.parts[0] for file in distribution.files or () if file.suffix == ".py" and file.parts[0] != ".."}
        yield from (Path(str(distribution.locate_file(name))) for name in names)


def _needed(name: str, known: dict[str, None]) -> Iterator[metadata.Distribution]:
    """A distribution and all that it needs, as far as it is installed."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in known:
        return
    known[key] = None
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:  # of another system, or of an extra that nobody wants
        return
    yield distribution
    for requirement in distribution.requires or ():
        is_extra = "extra ==" in requirement and len(known) > 1  # of another package than this one
        if not is_extra and (match := _NAME.match(requirement)):
            yield from _needed(match[0], known)
