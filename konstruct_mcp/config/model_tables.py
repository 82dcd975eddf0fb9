"""Tables of model data: how they are read from files, checked, and written.

A table is in LiteLLM's shape: a model's name in LiteLLM's words → an entry of fields. There are three: the user's own,
the one that ships with konstruct-mcp (`models.json`), and that of the installed LiteLLM.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from konstruct_mcp.config.litellm_keys import meant
from konstruct_mcp.config.model_fields import Entry, flaw, is_object, sound
from konstruct_mcp.core.text import cut

_DIGEST = "sha256"
_ABOUT = "_about"  # the key of a table under which it says where it is from
_LITELLMS_OWN = "model_prices_and_context_window_backup.json"
_ALSO_FIELDS = frozenset(("max_tokens", "source", "comment", "metadata", "rpm", "tpm"))  # LiteLLM's, not read here
MOST_BYTES = 32 << 20  # LiteLLM's has 3.5 MB
TOO_LARGE = f"is larger than {MOST_BYTES >> 20} MiB"
_MOST_FAULTS = 10  # that are listed: nobody reads more
CHAT_MODES = ("chat", "completion", "responses")


class Lines(Mapping[str, Entry]):
    """The entries of a table in the form that `written` gives it: one on each line, sorted by name.

    An entry is found by bisection and parsed when it is looked up, because a server needs a handful of thousands.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text

    def __getitem__(self, name: str) -> Entry:
        wanted = _key(name)
        first, end = 0, len(self._text)
        while first < end:
            line = max(first, self._text.rfind(b"\n", first, (first + end) // 2) + 1)
            after = self._text.find(b"\n", line) + 1 or len(self._text)
            key, _, value = self._text[line:after].partition(b'":')
            if key[1:] == wanted:
                found: Entry = json.loads(value.rstrip().removesuffix(b","))
                return found
            first, end = (after, end) if key[1:] < wanted else (first, line)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        for line in self._text.splitlines():
            name: str = json.loads(line.partition(b'":')[0] + b'"')
            yield name

    def __len__(self) -> int:
        return len(self._text.splitlines())


def _key(name: str) -> bytes:
    return json.dumps(name)[1:-1].encode()


@dataclass(frozen=True, slots=True)
class Table:
    """One table of model data.

    Attributes:
        about: where it is from, by `litellm` (version or branch), `date` (ISO) and `source`; without those that the
            table does not give.
        entries: by the model's name.
        slips: one line for each key of an entry that looks misspelt.
    """

    about: Mapping[str, str]
    entries: Mapping[str, Entry] = field(repr=False)
    slips: tuple[str, ...] = ()


def models_of(table: Mapping[str, Any]) -> dict[str, Entry]:
    """The entries of a table of LiteLLM's that describe models; it has a few others, such as a sample."""
    return {
        name: fields
        for name, fields in table.items()
        if isinstance(fields, dict) and {"litellm_provider", "alias_of"} & fields.keys() and not _is_sample(fields)
    }


def slim(raw: Entry) -> dict[str, Any]:
    """An entry without the fields that are not read here.

    Of a model that is not for chat little more than its mode is kept, by which a config that names one is warned.
    """
    kept = sound(raw)
    if kept.get("mode", "chat") not in CHAT_MODES:
        return {key: kept[key] for key in ("litellm_provider", "mode", "deprecation_date") if key in kept}
    return kept


def written(table: Mapping[str, Any], about: Mapping[str, str]) -> str:
    """A table as JSON, one model on each line, with a digest that shows whether it has been edited since."""
    entries = sorted((_key(name), json.dumps(table[name], separators=(",", ":"), sort_keys=True)) for name in table)
    lines = ",\n".join(f'"{key.decode()}":{kept}' for key, kept in entries) + "\n}\n"
    said = {**about, _DIGEST: hashlib.sha256(lines.encode()).hexdigest()}
    return f'{{\n"{_ABOUT}":{json.dumps(said)}' + (",\n" if entries else "\n") + lines.lstrip()


def _unchanged(data: bytes) -> Table | None:
    """The table that `written` wrote, if its digest says that nobody has edited it: then it need not be checked, nor
    parsed as a whole. None otherwise."""
    try:
        table, digest, entries = _split(data)
        return table if digest == hashlib.sha256(entries).hexdigest() else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _split(data: bytes) -> tuple[Table, str, bytes]:
    first, line, entries = data.split(b"\n", 2)
    about: dict[str, str] = json.loads(first + line.removesuffix(b",") + b"}")[_ABOUT]
    return Table(about, Lines(entries.removesuffix(b"}\n"))), about.pop(_DIGEST), entries


def read(data: bytes) -> Table:
    """The table that these bytes of JSON hold.

    Raises:
        ValueError: it is no sound table; the text of the error has a line for each fault.
    """
    if table := _unchanged(data):
        return table
    about, raw = parsed(data)
    if faults := [fault for faults in faults_in(raw).values() for fault in faults]:
        raise ValueError(as_lines(faults))
    return Table(
        about, {name: sound(fields) for name, fields in raw.items() if not _is_sample(fields)}, tuple(_slips(raw))
    )


def parsed(data: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """A table's own `about`, and its entries as they are written.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"is not JSON{at}") from None
    if not isinstance(raw, dict):
        raise ValueError("should be a mapping of models")  # noqa: TRY004  one kind for whoever catches it
    about = raw.pop(_ABOUT, {})
    said = about if is_object(about) else {}
    return {k: cut(value) for k, value in said.items() if isinstance(value, str) and k != _DIGEST}, raw


def faults_in(raw: Mapping[str, Any]) -> dict[str, list[str]]:
    """The faults of a table: model → a line for each of its fields that is wrong."""
    found = {}
    for name, fields in raw.items():
        if not isinstance(fields, dict):
            found[name] = [f"{cut(name)}: should be a mapping of fields"]
        elif not _is_sample(fields):
            wrong = [f"{cut(name)}.{cut(key)}: {fault}" for key, value in fields.items() if (fault := flaw(key, value))]
            found |= {name: wrong} if wrong else {}
    return found


def as_lines(faults: list[str]) -> str:
    more = f"\n… and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
    return "\n".join(faults[:_MOST_FAULTS]) + more


def _slips(raw: Mapping[str, Entry]) -> Iterator[str]:
    shipped_text = _shipped_text()
    places: dict[str, list[str]] = {}  # key that the table that ships does not have → the models
    for name, fields in raw.items():
        for key in fields:
            if json.dumps(key).encode() + b":" not in shipped_text:
                places.setdefault(key, []).append(name)
    if not places:
        return
    known = frozenset(key.decode() for key in re.findall(rb'"(\w+)":', shipped_text)) | _ALSO_FIELDS
    for key, names in places.items():
        if close := meant(key, known):
            more = f" and of {len(names) - 1} more" if len(names) > 1 else ""
            yield f"{cut(names[0])}.{cut(key)}{more}: unknown key; did you mean {close}?"


@functools.cache
def is_mode(word: str) -> bool:
    """Whether the table that ships has models of this mode: `chat`, `embedding` …"""
    return b'"mode":' + json.dumps(word).encode() in _shipped_text()


def embeds(model: str) -> bool:
    """Whether a model of this name is for embedding or reranking, whoever serves it.

    That is so where the table that ships has models of the name, of any provider, and all of them are for that. So
    `nomic-embed-text` on the user's own server is recognised too.
    """
    return re.split("[:@]", model.rpartition("/")[2].lower(), maxsplit=1)[0] in _embedders()


@functools.cache
def _embedders() -> frozenset[str]:
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for line in _shipped_text().lower().splitlines()[2:-1]:
        key, _, fields = line.partition(b'":')
        is_one = b'"mode":"embedding"' in fields or b'"mode":"rerank"' in fields
        names[is_one].add(key.rpartition(b"/")[2].removeprefix(b'"').decode())
    return frozenset(name for name in names[True] - names[False] if "-" in name)  # `ada` may be anybody's


def _is_sample(fields: Entry) -> bool:
    """Whether this is the sample entry of LiteLLM's table, which describes the fields in words."""
    return " " in str(fields.get("mode", ""))


def read_file(path: Path) -> Table:
    """The table in a file.

    Raises:
        ValueError: it cannot be read, or `read` finds no sound table in it.
    """
    return read(bytes_of(path))


def bytes_of(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe could keep us waiting for ever
            raise ValueError("cannot be read: it is not a regular file")
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(TOO_LARGE)
    return data


@functools.cache
def shipped() -> Table:
    """The table that ships with konstruct-mcp."""
    table, _, _ = _split(_shipped_text())
    return table


@functools.cache
def _shipped_text() -> bytes:
    return (files(__package__) / "models.json").read_bytes()


@functools.cache
def litellms_own() -> Table:
    """The table of the installed LiteLLM, read without importing LiteLLM. It takes longest to read, so it is looked at
    only where no other table has a model."""
    spec = importlib.util.find_spec("litellm")
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        return Table({}, {})
    entries: dict[str, Entry] = json.loads(Path(folders[0], _LITELLMS_OWN).read_text(encoding="utf-8"))
    return Table({}, entries)
