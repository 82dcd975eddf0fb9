"""Finds the config, reads it with the files that it includes, and notices when one of them changes.

No message holds a path: only a file's own name is shown.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import platformdirs

from konstruct_mcp.config.mapping import plain_document
from konstruct_mcp.config.yaml import parse
from konstruct_mcp.core.errors import ConfigError
from konstruct_mcp.core.text import cut, quoted

Given = Path | Mapping[str, Any] | None  # a config's file, a config itself, or none
NO_FOLDER = "should be an absolute path, since this config is in no folder"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A config as it was found.

    Attributes:
        origin: what to call it in messages; of its path only the file's own name.
        path: the file's absolute path; None for the built-in config, and for one that a program gave.
        document: its sections, as plain data, with those of the files that it includes.
        files: the absolute paths of the file and of all that it includes.
        borrowed: section that is a list → the included files that have added to it, each with the position of its first
            item.
        warnings: a line for each value of the text that is lost.
        is_built_in: whether it is the built-in config.
    """

    origin: str
    path: str | None
    document: dict[str, Any]
    files: tuple[Path, ...] = ()
    borrowed: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    is_built_in: bool = False

    def place(self, section: str, position: int) -> str:
        """Where an item of a list is written: `model_list[3]`, or `models.yaml: model_list[0]`."""
        for name, first in reversed(self.borrowed.get(section, ())):
            if position >= first:
                return f"{name}: {section}[{position - first}]"
        return f"{section}[{position}]"


def read_source(given: Given, environ: Mapping[str, str]) -> Source:
    """The config that is given, else `$KONSTRUCT_CONFIG`, else in the user's config folder, else the built-in one.

    The current folder is never looked at: a cloned repository must not be able to send keys to its own addresses.

    Raises:
        ConfigError: it, or a file that it includes, cannot be read or is no plain YAML mapping.
    """
    if isinstance(given, Mapping):
        origin = "the given config"
        return _with_included(Source(origin, None, plain_document(given, origin)), None)
    origin, file = _locate(given, environ)
    if file is None:
        text = (files(__package__) / "default_config.yaml").read_text("utf-8")
        return Source(origin, None, parse(text, origin, "")[0], is_built_in=True)
    main, text = _read(file, origin)
    document, warnings = parse(text, origin, "")
    return _with_included(Source(origin, str(main), document, (main,), {}, tuple(warnings)), main.parent)


_MOST_FILES = 100  # that one config is made of


def _with_included(source: Source, folder: Path | None) -> Source:
    """The source joined with the files that it includes. Without a folder, these have to have absolute paths.

    As in LiteLLM, a list is added to the list that is there already, and any other value replaces it. Files that an
    included file includes are looked for in the folder of the first one too.
    """
    document, read, warnings = source.document, list(source.files), list(source.warnings)
    borrowed: dict[str, list[tuple[str, int]]] = {}
    ahead = document.get("include")
    if ahead is None:
        return source
    if not isinstance(ahead, list) or not all(isinstance(name, str) and name.strip() for name in ahead):
        raise ConfigError(["include: should be a list of files"], source=source.origin)
    for position, name in enumerate(ahead):  # grows while included files name others
        shown = cut(Path(name).name)
        if folder is None and not Path(name).is_absolute():
            raise ConfigError([f"include[{position}] ({shown}): {NO_FOLDER}"], source=source.origin)
        wanted = (folder or Path()) / name
        try:
            file, text = _read(wanted, source.origin)
        except ConfigError as error:
            raise ConfigError(
                [f"include[{position}] ({shown}): {fault}" for fault in error.faults],
                source=source.origin,
                files=(*read, wanted),
            ) from None
        if file in read:
            continue
        if len(read) == _MOST_FILES:
            raise ConfigError([f"include: more than {_MOST_FILES} files"], source=source.origin)
        read.append(file)
        try:
            included, lost = parse(text, source.origin, f"{shown}: ", may_be_empty=True)
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


def located(given: Given, environ: Mapping[str, str]) -> Path | None:
    """The file that `read_source` reads, whether or not there is one; None where it reads none."""
    if isinstance(given, Mapping):
        return None
    _, file = _locate(given, environ)
    try:
        return None if file is None else file.expanduser().absolute()
    except RuntimeError:  # the home of an unknown user
        return None


def place(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Where the config file is, or would be if there were one; None for a user without a config folder."""
    if (file := located(path, environ)) is not None:
        return file
    folder = config_folder(environ)
    return None if folder is None else folder / "config.yaml"


# A file is read once it has not changed for this long: an editor may empty it first and write it then.
_SETTLED_MS = 100
# The files are also looked at this often, for changes that the system does not report: on a network drive, or just
# before the watch began.
_LOOK_MS = 2000


async def changes(files: Callable[[], Iterable[Path]], until: anyio.Event) -> AsyncGenerator[None, None]:
    """Yields whenever one of a config's files may have changed, and once at the beginning.

    Their folders are watched, because editors replace files, and the folders that links lead to. Where a folder is not
    there yet, the one that it will be made in is watched. Files that `files` names later are only looked at every
    `_LOOK_MS`.

    Args:
        files: gives the paths of the files, as they are now.
        until: ends it.
    """
    from watchfiles import awatch  # needed by a server alone

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
    """What differs after a change of the file; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return file, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# ---- finding and reading the file ------------------------------------------------------------------------------------

_MAX_BYTES = 1 << 20  # a thousand deployments take a quarter of it; PyYAML needs seconds for more


def _locate(path: Path | None, environ: Mapping[str, str]) -> tuple[str, Path | None]:
    """What to call the config in messages, and its file: None for the built-in one."""
    if path is not None:
        return f"the config file{_named(Path(path))}", Path(path)
    if named := environ.get("KONSTRUCT_CONFIG", "").strip():
        return f"the file that KONSTRUCT_CONFIG names{_named(Path(named))}", Path(named)
    folder = config_folder(environ)
    # `lexists`, so that a link gone dead is a fault and not the built-in config in silence.
    if folder is not None and os.path.lexists(file := folder / "config.yaml"):
        return "config.yaml in the user's config folder", file
    return "the built-in config", None


def _named(path: Path) -> str:
    return f" {quoted(path.name)}" if path.name else ""


def config_folder(environ: Mapping[str, str]) -> Path | None:
    """Where this user's config is; None for a user without a home."""
    return _users_folder(environ, "XDG_CONFIG_HOME", platformdirs.user_config_path)


def data_folder(environ: Mapping[str, str]) -> Path | None:
    """Where this user's data is kept; None for a user without a home."""
    return _users_folder(environ, "XDG_DATA_HOME", platformdirs.user_data_path)


def _users_folder(environ: Mapping[str, str], variable: str, usual: Callable[[str], Path]) -> Path | None:
    """Our folder within the one that the variable names, else where the platform keeps such folders.

    A relative name is ignored, as the XDG specification says: it would be looked up in the current folder.
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
