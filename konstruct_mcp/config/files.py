"""The section `konstruct.files`: the folders that a caller's files may be in, and what is never read there.

A *root* is a folder of this machine. Those of the section are for the process's own client; a tenant's own are in its
entry, and a caller over HTTP has no others.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

from pydantic import ConfigDict, Field

from konstruct_mcp.config.environment import is_file_reference, is_unexpanded, reference, shown_name
from konstruct_mcp.config.sections import Section
from konstruct_mcp.core.file_names import is_kept_back
from konstruct_mcp.core.secrets import SECRET_KEY, passwords_in
from konstruct_mcp.core.text import cut

if TYPE_CHECKING:
    from konstruct_mcp.config.findings import Findings
    from konstruct_mcp.config.references import References

MAX_BYTES = 2_000_000  # some 500,000 tokens of text: more than most windows hold
_VARIABLE = "KONSTRUCT_FILE_ROOTS"
_NO_ROOT = "should be an absolute path of a folder"
_SYSTEM = ("/proc", "/sys", "/dev")  # what is read there is made up by the kernel, secrets of processes among it
_LEAST_KEY = 12  # characters: a shorter word is in too many texts
_SECRET_VARIABLE = re.compile(rf"{SECRET_KEY.pattern}|_pat\Z", re.IGNORECASE)
_HEADERS = "_HEADERS"  # ends the name of a variable that holds headers, a key among them
# A key that may begin like a path, as one in 64 of Amazon's does. What is as long and has no dot and no dash, and has
# letters of both cases and digits, is hardly a path.
_BASE64 = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[A-Za-z0-9+/]{32,}={0,2}")
_NOT_SECRET = re.compile(r"author|keyboard|_sock\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Which files may be sent to models.

    Attributes:
        roots: the folders of the process's own client.
        max_bytes: of all files of a call together.
        deny: the operator's patterns of names that are never read, beside those of `core.file_names`.
        own: our own files and folders, which are never read: the config, the ledger and what is beside it.
        keys: secrets that this server holds; a file with one of them is never sent.
    """

    roots: tuple[Path, ...] = ()
    max_bytes: int = MAX_BYTES
    deny: tuple[str, ...] = ()
    own: tuple[Path, ...] = field(default=(), repr=False, compare=False)
    keys: frozenset[str] = field(default=frozenset(), repr=False, compare=False)


class FilesSection(Section):
    model_config = ConfigDict(extra="forbid", defer_build=True)

    roots: list[str] = Field(default_factory=list)
    max_bytes: Annotated[int, Field(ge=1, le=2**53)] = MAX_BYTES
    deny: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(default_factory=list)


def file_settings(
    given: Any, references: References, findings: Findings, own: Iterable[Path], keys: frozenset[str]
) -> FileSettings:
    """The settings of the section, with the roots that the environment names instead of the section's, if it does.

    A root that refers to a variable which is not set is left out: one config serves clients that set it and others. So
    is one whose variable names no folder that can be a root, which is a loss and no fault: a client that is started in
    `/` says that it is there.
    """
    place = "konstruct.files"
    section = (findings.parse(FilesSection, given, place) if given else None) or FilesSection()
    written = [(f"{place}.roots[{position}]", root) for position, root in enumerate(section.roots)]
    if (named := references.value(_VARIABLE)) is not None:
        written = [(_VARIABLE, root) for root in named.split(os.pathsep) if root]
    roots: list[Path] = []
    for where, root in written:
        resolved, here, say = root, where, findings.fault
        if name := reference(root):
            here = f"{where} ({cut(shown_name(name))})"
            if is_file_reference(name):
                findings.fault(here, _NO_ROOT)
                continue
            resolved, say = references.value(name) or "", findings.loss
        if resolved and not is_unexpanded(resolved) and (found := checked_root(resolved, here, say)) is not None:
            roots.append(found)
    return FileSettings(tuple(dict.fromkeys(roots)), section.max_bytes, tuple(section.deny), tuple(own), keys)


def checked_roots(given: Sequence[str], place: str, findings: Findings) -> tuple[Path, ...]:
    """The roots of a tenant."""
    found = (checked_root(root, f"{place}[{position}]", findings.fault) for position, root in enumerate(given))
    return tuple(dict.fromkeys(root for root in found if root is not None))


def checked_root(given: str, place: str, say: Callable[[str, str], None]) -> Path | None:
    """A root, if it can be one; what is wrong with it is said of its place."""
    try:
        root = Path(os.path.normpath(Path(given.strip()).expanduser()))
        if not root.is_absolute() or "\0" in given:
            raise ValueError(_NO_ROOT)
    except (RuntimeError, ValueError):
        say(place, _NO_ROOT)
        return None
    real = Path(os.path.realpath(root))
    if real.parent == real:
        say(place, "is everything there is; name the folders that may be read")
    elif any(real.is_relative_to(folder) for folder in _SYSTEM):
        say(place, "is no folder of files")
    elif is_kept_back(real.parts[1:]):
        say(place, "is where secrets are kept, of which nothing is read")
    else:
        return root  # there may be no such folder yet, of which `check` tells
    return None


def is_system_path(path: Path) -> bool:
    """Whether a path is one under which the kernel shows processes and devices."""
    return any(path.is_relative_to(folder) for folder in _SYSTEM)


# -- the keys that are held -------------------------------------------------------------------------------------------


def held_keys(params: Iterable[Mapping[str, Any]], environ: Mapping[str, str], urls: Iterable[str]) -> frozenset[str]:
    """The secrets that this server holds, as far as they are long enough to be told from ordinary words.

    Args:
        params: of the deployments.
        environ: variables; those that are named like a secret are.
        urls: of databases, which may hold a password, as any other value may that is a URL.
    """
    found = [text for one in params for text in _secrets_in(one)]
    for name, value in environ.items():
        if name.endswith(_HEADERS):  # as OpenTelemetry has them: `name=value,name=value`, each value quoted as in a URL
            found += (word for pair in value.split(",") for word in unquote(pair.partition("=")[2]).split())
        else:
            is_secret = _SECRET_VARIABLE.search(name) is not None and _NOT_SECRET.search(name) is None
            found += _secrets_in(value, certain=is_secret)
    found += itertools.chain.from_iterable(map(passwords_in, urls))
    return frozenset(filter(_is_key, found))


def _secrets_in(value: Any, *, certain: bool = False) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secrets_in(item, certain=certain or SECRET_KEY.search(str(name)) is not None)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets_in(item, certain=certain)
    elif isinstance(value, str):
        if certain and value.lstrip().startswith("{"):
            try:
                yield from _secrets_in(json.loads(value))
            except (ValueError, RecursionError):
                pass
            else:
                return
        for word in value.split():
            if "://" in word:
                yield from passwords_in(word)
            elif certain:
                yield word


def _is_key(text: str) -> bool:
    is_place = text.startswith(("/", "~", ".", "\\")) and _BASE64.fullmatch(text) is None
    is_mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    return len(text) >= _LEAST_KEY and is_mixed and not is_place
