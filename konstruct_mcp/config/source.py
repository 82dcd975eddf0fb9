"""Where the config is, and what it says: finds the file and reads its YAML into plain data.

The file is trusted to be the user's own, and not to be right: what could run, repeat or explode is refused, each with
its line. Any value in it may be a secret, so no message quotes one, and none holds a path.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import anyio
import platformdirs
import yaml

from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.core.text import cut, quoted

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A config as it was found.

    Attributes:
        origin: how to speak of it; holds no path but the file's own name.
        path: the file's absolute path, None for the built-in config.
        document: its sections, as plain data, with those of the files that it includes.
        files: the absolute paths of it and of all that it includes.
        borrowed: a list of the document → the included files that have added to it, each with the position from which
            the items are its own.
        warnings: what of the text is lost, a line each.
    """

    origin: str
    path: str | None
    document: dict[str, Any]
    files: tuple[Path, ...] = ()
    borrowed: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def place(self, section: str, position: int) -> str:
        """Where an item of a list is written: `model_list[3]`, or `models.yaml: model_list[0]`."""
        for name, first in reversed(self.borrowed.get(section, ())):
            if position >= first:
                return f"{name}: {section}[{position - first}]"
        return f"{section}[{position}]"


def read_source(path: Path | None, environ: Mapping[str, str]) -> Source:
    """The config at `path`, else `$KONSTRUCT_CONFIG`, else in the user's config folder, else the built-in one.

    Never the current folder's: a cloned repository must not be able to send keys to its own addresses.

    Raises:
        ConfigError: it cannot be read, or is no plain YAML mapping, or what it includes is not.
    """
    origin, file = _locate(path, environ)
    if file is None:
        text = (files(__package__) / "default_config.yaml").read_text("utf-8")
        return Source(origin, None, _parse(text, origin, "")[0])
    main, text = _read(file, origin)
    document, warnings = _parse(text, origin, "")
    return _with_included(Source(origin, str(main), document, (main,), {}, tuple(warnings)), main.parent)


_MOST_FILES = 100  # that one config is made of


def _with_included(source: Source, folder: Path) -> Source:
    """The same with the files that it includes, as LiteLLM joins them: a list is added to one that is there, anything
    else stands in its place. What an included file includes is looked for in the first one's folder, too."""
    document, read, warnings = source.document, list(source.files), list(source.warnings)
    borrowed: dict[str, list[tuple[str, int]]] = {}
    ahead = document.get("include")
    if ahead is None:
        return source
    if not isinstance(ahead, list) or not all(isinstance(name, str) and name.strip() for name in ahead):
        raise ConfigError(["include: should be a list of files"], source=source.origin)
    for position, name in enumerate(ahead):  # which grows
        shown = cut(Path(name).name)
        try:
            file, text = _read(folder / name, source.origin)
        except ConfigError as error:
            raise ConfigError(
                [f"include[{position}] ({shown}): {fault}" for fault in error.faults],
                source=source.origin,
                files=(*read, folder / name),
            ) from None
        if file in read:
            continue
        if len(read) == _MOST_FILES:
            raise ConfigError([f"include: more than {_MOST_FILES} files"], source=source.origin)
        read.append(file)
        try:
            included, lost = _parse(text, source.origin, f"{shown}: ", may_be_empty=True)
        except ConfigError as error:
            raise ConfigError(error.faults, source=source.origin, files=read) from None
        warnings += lost
        for key, value in included.items():
            there = document.get(key)
            if isinstance(value, list) and isinstance(there, list):
                borrowed.setdefault(key, []).append((shown, len(there)))
                there += value
            else:
                if there is not None:
                    warnings.append(f"{shown}: {cut(key)} stands in place of what was there before")
                elif isinstance(value, list):
                    borrowed.setdefault(key, []).append((shown, 0))
                document[key] = value
        if not all(isinstance(name, str) and name.strip() for name in ahead):
            raise ConfigError([f"{shown}: include: should be a list of files"], source=source.origin)
    del document["include"]
    places = {key: tuple(parts) for key, parts in borrowed.items()}
    return Source(source.origin, source.path, document, tuple(read), places, tuple(warnings))


def located(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that `read_source` reads, whether or not there is one; None for the built-in config."""
    _, file = _locate(path, environ)
    try:
        return None if file is None else file.expanduser().absolute()
    except RuntimeError:  # the home of an unknown user
        return None


# A file is read once nothing has happened to it for so long: an editor may empty it first and write it then.
_SETTLED_MS = 100
# What no notice comes of (a network drive, a change just before the watch began) is seen by a look as often as this.
_LOOK_MS = 2000


async def changes(files: Callable[[], Iterable[Path]], until: anyio.Event) -> AsyncGenerator[None, None]:
    """Yields whenever one of a config's files may have changed, and once at the beginning, until the event.

    Their folders are watched rather than the files, which editors replace; and those that links lead to. Where there is
    no such folder yet, the one that it will be made in. The folder of a file that is named later is looked at now and
    then.
    """
    from watchfiles import awatch  # by a server alone

    seen: tuple[object, ...] | None = None
    watched = {_nearest(folder) for file in files() for folder in (file.parent, file.resolve().parent)}
    try:
        async for _ in awatch(
            *watched,
            watch_filter=None,
            recursive=False,
            step=_SETTLED_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            stop_event=until,
        ):
            if (found := tuple(map(_signature, files()))) != seen:
                seen = found
                yield
    except (OSError, RuntimeError) as error:  # the folder is gone; the system watches no more than so many
        _log.warning("the config file cannot be watched (%s); a change takes effect at the next start", error)


def _nearest(folder: Path) -> Path:
    return next((place for place in (folder, *folder.parents) if place.is_dir()), folder)


def _signature(file: Path) -> tuple[object, ...] | None:
    """What is another after a change; None where there is no file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return file, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# ---- finding and reading the file ------------------------------------------------------------------------------------

_MAX_BYTES = 1 << 20  # a thousand deployments take a quarter of it; PyYAML needs seconds for more


def _locate(path: Path | None, environ: Mapping[str, str]) -> tuple[str, Path | None]:
    """How to speak of the config (an error holds no path but the file's own name), and its file: None for the built-in
    one."""
    if path is not None:
        return f"the config file{_named(Path(path))}", Path(path)
    if named := environ.get("KONSTRUCT_CONFIG", "").strip():
        return f"the file that KONSTRUCT_CONFIG names{_named(Path(named))}", Path(named)
    folder = _users_folder(environ, "XDG_CONFIG_HOME", platformdirs.user_config_path)
    # `lexists`, so that a link gone dead is a fault and not the built-in config in silence.
    if folder is not None and os.path.lexists(file := folder / "config.yaml"):
        return "config.yaml in the user's config folder", file
    return "the built-in config", None


def _named(path: Path) -> str:
    return f" {quoted(path.name)}" if path.name else ""


def data_folder(environ: Mapping[str, str]) -> Path | None:
    """Where this user's data is kept; None for a user without a home."""
    return _users_folder(environ, "XDG_DATA_HOME", platformdirs.user_data_path)


def _users_folder(environ: Mapping[str, str], variable: str, usual: Callable[[str], Path]) -> Path | None:
    """Ours in the folder that the variable names, else where the platform has it.

    A relative name counts as none, as its specification wants it: it would be looked up in the current folder.
    """
    if (given := Path(environ.get(variable, ""))).is_absolute():
        return given / "konstruct-mcp"
    try:
        folder = usual("konstruct-mcp")
    except RuntimeError:  # whose home nobody knows
        return None
    return folder if folder.is_absolute() else None


def _read(path: Path, origin: str) -> tuple[Path, str]:
    """The absolute path and the text of a file."""
    try:
        path = path.expanduser().absolute()
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe could keep us waiting for ever
            raise ConfigError(["cannot be read: it is not a regular file"], source=origin)
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(["cannot be read: it is larger than 1 MiB"], source=origin)
        return path, data.decode("utf-8-sig")
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except OSError as error:
        reason = error.strerror or type(error).__name__  # str(error) holds the path
    except (ValueError, RuntimeError):  # a NUL in the name; the home of an unknown user
        reason = "there can be no such path"
    raise ConfigError([f"cannot be read: {reason}"], source=origin)


# ---- YAML ------------------------------------------------------------------------------------------------------------

_MAX_VALUES = 50_000  # aliases expanded; a thousand deployments have about 15,000, and PyYAML reads 15,000 a second
_LONG_TEXT = 100  # characters that weigh as much as one more value, so that aliases cannot multiply one huge text
_MAX_DEPTH = 50  # aliases expanded; every step that walks the data recurses, and LiteLLM's files are six deep
_MAX_NUMBER = 1e300  # what fits a float; also keeps out infinities and integers that Python refuses to print
_MOST_REPEATED = 20  # keys that are told: nobody reads more
_LONGEST_NUMBER = 100  # characters: YAML's numbers of base sixty (`1:30:00`) take ever longer with each of their parts
_LONGEST_KEY = 1000  # characters
_YAML = "tag:yaml.org,2002:"
_TAGS = frozenset(_YAML + name for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge"))

_NUMBERS = (_YAML + "int", _YAML + "float")


class _Loader(yaml.SafeLoader):
    """Plain data only: no tags, no second document, nothing that explodes when aliases expand. Of two equal keys the
    last one counts, and `repeated` has a line on each that does not.

    The rules are checked as nodes are composed, thus before anything is constructed. Every key is text, as written:
    a group called `no` or `8` is not a boolean or a number. Dates stay text too (Azure's `api_version: 2024-06-01`).
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  the stubs make it an instance's, which a ClassVar cannot override
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._extents: dict[yaml.Node, tuple[int, int]] = {}  # complete nodes → values and levels, aliases expanded
        self._level = 0
        self.repeated: list[str] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        self._level += 1
        if self._level > _MAX_DEPTH:
            raise _refusal("nested too deep", event)
        node = cast(yaml.Node, super().compose_node(parent, index))  # None only where there is no document
        self._level -= 1
        if node in self._extents:  # an alias
            return node
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("an alias inside what it stands for", event)
        if node.tag not in _TAGS:
            raise _refusal("a tag; only plain YAML is read", event)
        if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            raise _refusal(f"a number of more than {_LONGEST_NUMBER} characters", event)
        match node:
            case yaml.MappingNode():
                below = [self._extents[child] for pair in node.value for child in pair]
            case yaml.SequenceNode():
                below = [self._extents[child] for child in node.value]
            case _:
                below = [(len(node.value) // _LONG_TEXT, 0)]
        values = 1 + sum(values for values, _ in below)
        levels = 1 + max((levels for _, levels in below), default=0)
        if max(values, len(self._extents)) > _MAX_VALUES:
            raise _refusal(f"more than {_MAX_VALUES} values, aliases expanded", event)
        if levels > _MAX_DEPTH:
            raise _refusal("nested too deep", event)
        self._extents[node] = values, levels
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for position, (key, value) in enumerate(node.value):
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key that is not plain text", key)
            if len(key.value) > _LONGEST_KEY:
                raise _refusal(f"a key of more than {_LONGEST_KEY:,} characters", key)
            if key.value in seen and key.tag != _YAML + "merge" and len(self.repeated) < _MOST_REPEATED:
                place = f"line {key.start_mark.line + 1}, column {key.start_mark.column + 1}"
                self.repeated.append(f"{place}: the key {quoted(key.value)} is there twice; the last one counts")
            seen.add(key.value)
            if key.tag != _YAML + "merge":
                text = yaml.ScalarNode(_YAML + "str", key.value, key.start_mark, key.end_mark)
                self._extents[text] = self._extents[key]
                node.value[position] = text, value
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # an escape can spell half a surrogate pair, which no output takes
            elif isinstance(value, int | float) and not abs(value) < _MAX_NUMBER:
                raise ValueError
        except (ValueError, LookupError):  # PyYAML's own for `!!int x`, `!!bool x`
            raise _refusal("a value that cannot be read", node) from None
        return value


def _refusal(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _parse(text: str, origin: str, prefix: str, *, may_be_empty: bool = False) -> tuple[dict[str, Any], list[str]]:
    """The mapping that the text holds, and a line on each value of it that is lost. PyYAML's messages are not repeated
    where they quote the text. `prefix` says which file it is."""
    place, problem = "", "not valid YAML"
    try:
        loader = _Loader(text)
        document = loader.get_single_data()
        if document is None and may_be_empty:
            document = {}
        if isinstance(document, dict):
            return document, [f"{prefix}{line}" for line in loader.repeated]
        problem = "is empty" if document is None else "should be a mapping of sections"
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"line {before.count(chr(10)) + 1}, column {error.position - before.rfind(chr(10))}: "
        problem = "a character that YAML does not allow"
    except yaml.MarkedYAMLError as error:
        if mark := error.problem_mark:
            place = f"line {mark.line + 1}, column {mark.column + 1}: "
        said = (error.problem or problem).removeprefix("but ")
        # Besides our own, quotes are safe around one character and around the kind of a token: '<scalar>'.
        unquoted = re.sub(r"'(?:<[a-z ]+>|[^'\\]|\\[nrt])'", "", said)
        if type(error) is yaml.MarkedYAMLError or not re.search("['\"]", unquoted):
            problem = said
    except (ValueError, OverflowError):  # the escape \UFFFFFFFF, a %YAML 1.99…: PyYAML passes these on unchecked
        pass
    raise ConfigError([prefix + place + problem], source=origin)
