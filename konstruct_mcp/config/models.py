"""What is known of models: prices, windows, the longest answer, abilities, when one is retired.

Tables of such data are in LiteLLM's shape: a model's name in LiteLLM's words → an entry of fields. `Models` looks a
deployment's model up in the user's own table first, then in the one that ships with us, then in that of the installed
LiteLLM, and finds it under the other names that tables have for it. `entry` is the outcome for a deployment, in which
the config's own `model_info` has the last word. Plain data: what a field means for a call is said where it is used.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from konstruct_mcp.config.litellm_keys import meant
from konstruct_mcp.core.errors import ModelDataError
from konstruct_mcp.core.files import make_folder, new_file
from konstruct_mcp.core.text import cut, is_day

if TYPE_CHECKING:
    from konstruct_mcp.config.model import Deployment

Entry = Mapping[str, Any]


def entry(deployment: Deployment) -> Entry:
    """What is known of the deployment's model, in LiteLLM's field names; empty where nothing is. A field of another
    type than its kind has is not in it."""
    return deployment.data


# -- fields ------------------------------------------------------------------------------------------------------------

_PRICE = re.compile(r"_cost_per_|_token_cost(_|\Z)")
# Never billed for one of our calls: what is asked in bulk, and what is a note in another currency.
_OTHER_BILLS = re.compile(r"_batches\Z|_decisions\Z|_dbu_|search_context|_per_query\Z|_per_session\Z")
# By the kind of their values. A field that is none of these is nobody's here, and not kept.
_FLAGS = re.compile(r"supports_\w+|thinking_\w+|use_\w+|bedrock_(?!output_config_effort_ceiling)\w+")
_COUNTS = re.compile(r"max_(input|output)_tokens|prompt_cache_min_tokens")
_WORDS = re.compile(
    r"mode|litellm_provider|alias_of|successor_model|default_reasoning_effort|bedrock_output_config_effort_ceiling"
)
_LISTS = re.compile(r"reasoning_(effort_levels|modes|contexts)|supported_(endpoints|modalities|output_modalities)")
_FACTORS = re.compile(r"\w+_uplift_multiplier\w*")
_ALSO_FIELDS = frozenset(("max_tokens", "source", "comment", "metadata", "rpm", "tpm"))  # of LiteLLM's, read by nobody
_CHATS = ("chat", "completion", "responses")


def is_price(key: str) -> bool:
    """Whether this key of litellm_params, model_info or a table is a price."""
    return _PRICE.search(key) is not None


_MOST = 1e300  # what fits a float, which not every integer of JSON does


def is_number(value: Any) -> bool:
    """Whether it is one that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _are_prices(prices: Entry) -> bool:
    return all(flaw(key, value) is None for key, value in prices.items() if is_price(key))


def flaw(key: str, value: Any) -> str | None:
    """What is wrong with a field's value, as the end of a sentence; None for one that is right or that nobody reads."""
    if value is None:  # takes back what a later table says
        return None
    if is_price(key):
        return (
            None if (is_number(value) and value >= 0) or isinstance(value, dict) else "should be US dollars, 0 or more"
        )
    if _FLAGS.fullmatch(key):
        return None if isinstance(value, bool) else "should be true or false"
    if _COUNTS.fullmatch(key):
        return None if is_number(value) and value >= 0 and value == int(value) else "should be a number of tokens"
    if _FACTORS.fullmatch(key):
        return None if is_number(value) and value > 0 else "should be a factor above 0"
    if _WORDS.fullmatch(key):
        return None if isinstance(value, str) else "should be text"
    if _LISTS.fullmatch(key):
        is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return None if is_list else "should be a list of words"
    if key == "deprecation_date":
        return None if isinstance(value, str) and is_day(value) else "should be a date like 2026-01-31"
    if key == "tiered_pricing":
        sound_tiers = isinstance(value, list) and all(_is_table(tier) and _are_prices(tier) for tier in value)
        return None if sound_tiers else "should be a list of tiers, with prices in US dollars"
    if key == "off_peak_pricing":
        windows = value.get("windows", []) if _is_table(value) else None
        sound_days = isinstance(windows, list) and all(
            _is_table(window) and isinstance(window.get("weekdays", []), list) for window in windows
        )
        return (
            None
            if sound_days and _are_prices(value)
            else "should be a mapping of prices, with the windows in which they hold"
        )
    if key == "provider_specific_entry":
        sound_factors = _is_table(value) and all(factor > 0 for factor in value.values() if is_number(factor))
        return None if sound_factors else "should be a mapping of factors above 0"
    return None


def _is_kept(key: str) -> bool:
    if is_price(key):
        return _OTHER_BILLS.search(key) is None
    return key in ("deprecation_date", "tiered_pricing", "off_peak_pricing", "provider_specific_entry") or any(
        kind.fullmatch(key) for kind in (_FLAGS, _COUNTS, _FACTORS, _WORDS, _LISTS)
    )


def sound(raw: Entry) -> dict[str, Any]:
    """The fields of an entry that are read here and are what they should be."""
    found = {}
    for key, value in raw.items():
        if _is_kept(key) and flaw(key, value) is None:
            if not _COUNTS.fullmatch(key) or value is None:
                found[key] = value
            elif value:  # LiteLLM has some as floats, and 0 for those of no length
                found[key] = int(value)
    return found


def merged(upper: Entry, lower: Entry) -> dict[str, Any]:
    """One entry over another: its fields stand in their place, and null takes one back.

    Another price stands in place of all that the lower one says of that side, input or output: a price for long
    prompts or a faster answer that belongs to another price is none at all.
    """
    return {key: value for key, value in _over(upper, lower).items() if value is not None}


def _over(upper: Entry, lower: Entry) -> dict[str, Any]:
    """The same with what is taken back, as null."""
    below = dict(lower)
    for side in ("input", "output"):
        price = f"{side}_cost_per_token"
        if price in upper and upper[price] != lower.get(price):
            for key in lower:
                of_side = is_price(key) and key.startswith("output_") == (side == "output")
                if of_side or key in ("tiered_pricing", "off_peak_pricing"):
                    below.pop(key, None)
    return {**below, **upper}


# -- tables ------------------------------------------------------------------------------------------------------------

_DIGEST = "sha256"
_ABOUT = "_about"  # the key of a table under which it says where it is from
_LITELLMS_OWN = "model_prices_and_context_window_backup.json"


class Lines(Mapping[str, Entry]):
    """Entries as `written`, one on each line and in order, each parsed when it is asked for: a server reads a handful
    of thousands."""

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
    """One table of model data: where it is from (`litellm`, its version or branch; `date`, ISO; `source`), which is
    empty where it does not say, its entries by name, and one line for each key of it that looks misspelt."""

    about: Mapping[str, str]
    entries: Mapping[str, Entry] = field(repr=False)
    slips: tuple[str, ...] = ()


def models_of(table: Mapping[str, Any]) -> dict[str, Entry]:
    """The models of a table of LiteLLM's, without what is none."""
    return {
        name: fields
        for name, fields in table.items()
        if isinstance(fields, dict) and {"litellm_provider", "alias_of"} & fields.keys() and not _is_sample(fields)
    }


def slim(raw: Entry) -> dict[str, Any]:
    """What is read here of an entry. Of a model that is not for chat that is what it is for: a config that names one is
    to be told so."""
    kept = sound(raw)
    if kept.get("mode", "chat") not in _CHATS:
        return {key: kept[key] for key in ("litellm_provider", "mode", "deprecation_date") if key in kept}
    return kept


def written(table: Mapping[str, Any], about: Mapping[str, str]) -> str:
    """A table as JSON, with one model on each line, and a digest by which it is known to be as it was written."""
    entries = sorted((_key(name), json.dumps(table[name], separators=(",", ":"), sort_keys=True)) for name in table)
    lines = ",\n".join(f'"{key.decode()}":{kept}' for key, kept in entries) + "\n}\n"
    said = {**about, _DIGEST: hashlib.sha256(lines.encode()).hexdigest()}
    return f'{{\n"{_ABOUT}":{json.dumps(said)}' + (",\n" if entries else "\n") + lines.lstrip()


def _as_written(data: bytes) -> Table | None:
    """A table that is as it was written, which need not be parsed and looked through as a whole; None for another."""
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
    """A table of a user's, or LiteLLM's own.

    Raises:
        ValueError: it is none; its text says why, for each fault in a line.
    """
    if table := _as_written(data):
        return table
    about, raw = _parsed(data)
    if faults := [fault for faults in _faults(raw).values() for fault in faults]:
        raise ValueError(_told_faults(faults))
    return Table(
        about, {name: sound(fields) for name, fields in raw.items() if not _is_sample(fields)}, tuple(_slips(raw))
    )


def _parsed(data: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """What a table says of itself, and the rest of it."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"is not JSON{at}") from None
    if not isinstance(raw, dict):
        raise ValueError("should be a mapping of models")  # noqa: TRY004  one kind for whoever catches it
    about = raw.pop(_ABOUT, {})
    said = about if _is_table(about) else {}
    return {k: cut(value) for k, value in said.items() if isinstance(value, str) and k != _DIGEST}, raw


def _faults(raw: Mapping[str, Any]) -> dict[str, list[str]]:
    """Model → a line on each of its fields that is wrong, for those that have one."""
    found = {}
    for name, fields in raw.items():
        if not isinstance(fields, dict):
            found[name] = [f"{cut(name)}: should be a mapping of fields"]
        elif not _is_sample(fields):
            wrong = [f"{cut(name)}.{cut(key)}: {fault}" for key, value in fields.items() if (fault := flaw(key, value))]
            found |= {name: wrong} if wrong else {}
    return found


def _told_faults(faults: list[str]) -> str:
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
    """Whether this is what a model may be for, by the table that ships: `chat`, `embedding` …"""
    return b'"mode":' + json.dumps(word).encode() in _shipped_text()


def embeds(model: str) -> bool:
    """Whether the table that ships has models of this name, whoever serves them, and all of them embed or rank: so a
    server of one's own that has `nomic-embed-text` is known for what it is, too."""
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
    """LiteLLM's description of an entry, in the place of one."""
    return " " in str(fields.get("mode", ""))


def read_file(path: Path) -> Table:
    """The table in a file.

    Raises:
        ValueError: as `read`; also where the file cannot be read.
    """
    return read(_bytes_of(path))


def _bytes_of(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe could keep us waiting for ever
            raise ValueError("cannot be read: it is not a regular file")
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(_TOO_LARGE)
    return data


MOST_BYTES = 32 << 20  # LiteLLM's has 3.5 MB
_TOO_LARGE = f"is larger than {MOST_BYTES >> 20} MiB"
_MOST_FAULTS = 10


@functools.cache
def shipped() -> Table:
    """The one that ships with us."""
    table, _, _ = _split(_shipped_text())
    return table


@functools.cache
def _shipped_text() -> bytes:
    return (files(__package__) / "models.json").read_bytes()


@functools.cache
def _litellms_own() -> Table:
    """That of the installed LiteLLM, read without importing it; only where no other table knows a model."""
    spec = importlib.util.find_spec("litellm")
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        return Table({}, {})
    entries: dict[str, Entry] = json.loads(Path(folders[0], _LITELLMS_OWN).read_text(encoding="utf-8"))
    return Table({}, entries)


# -- names -------------------------------------------------------------------------------------------------------------

# What tables call a provider where LiteLLM's models have another prefix.
_ALSO = {"cohere_chat": "cohere", "vertex_ai_beta": "vertex_ai", "bedrock_converse": "bedrock", "azure_text": "azure"}
_ROUTES = re.compile(r"(responses|converse|converse_like|invoke|chat_completions|mantle|openai|nova|nova-2)/")
_REGION = re.compile(r"(?<![a-z-])([a-z]{2}(?:-[a-z]+)++-\d)/")
_GEOGRAPHY = re.compile(r"([a-z]{2}(?:-gov)?|apac|emea|global)\.(?=[a-z0-9]+\.)")
_GEOGRAPHIES = ("us", "us-gov", "eu", "apac", "jp", "au", "in", "ca", "global")  # that tables have
_GOV_REGIONS = "us-gov-"  # whose models are dearer than those of the same name elsewhere
_IN_ARN = re.compile(r"arn:[^:/]*:bedrock:([a-z0-9-]+):")
_PROFILE = re.compile(r"arn:[^/]*:(?:inference-profile|foundation-model)/(.+)")
_SNAPSHOT = re.compile(r"@[^/]*\Z|:\d+k\Z")  # Vertex's versions; Bedrock's of a certain context length
_TUNED = re.compile(r"(ft:[^:]+):.*")
_MOST_ALIASES = 4


def _family(provider: str) -> str:
    """The provider that tables divide by how or whose its models are: `vertex_ai-language-models`, `cohere_chat`."""
    provider = provider.removeprefix("text-completion-")
    return "vertex_ai" if provider.startswith("vertex_ai") else _ALSO.get(provider, provider)


def _bare_names(provider: str, name: str) -> Iterator[str]:
    """The names that a provider's model may have in a table, without the provider, the closest first."""
    yield name
    while match := _ROUTES.match(name):
        name = name[match.end() :]
        yield name
    if _family(provider) == "bedrock":
        if profile := _PROFILE.match(name):
            name = profile[1]
            yield name
        if match := _REGION.match(name):
            name = name[match.end() :]
            yield name
    if provider == "fireworks_ai" and "/" not in name:
        yield f"accounts/fireworks/models/{name}"
    if tuned := _TUNED.match(name):
        yield tuned[1]
    if (unversioned := _SNAPSHOT.sub("", name)) != name:
        name = unversioned
        yield name


def _siblings(name: str) -> tuple[str, ...]:
    """The names in tables of a Bedrock model in other geographies, and in none."""
    match = _GEOGRAPHY.match(name)
    if match is None:
        return ()
    bare = name[match.end() :]
    return (bare, *(f"{geography}.{bare}" for geography in _GEOGRAPHIES))


def _region(name: str, params: Mapping[str, Any]) -> str:
    """Where a model of Bedrock runs; "" where nobody says."""
    told, named = params.get("aws_region_name"), _IN_ARN.search(name) or _REGION.search(name)
    return told if isinstance(told, str) else named[1] if named else ""


def _names(model: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Where to look, the best first: a name, and of which provider its entry has to be, None for any."""
    provider, slash, name = model.partition("/")
    if not slash:
        yield model, None
        return
    provider = _ALSO.get(provider, provider)
    family = _family(provider)
    region = _region(name, params) if family == "bedrock" else ""
    base = params.get("base_model")
    if isinstance(base, str) and base:  # by which a deployment with a name of its own is priced
        name = base.removeprefix(f"{provider}/")
        if region:
            yield f"{provider}/{region}/{name}", None
        yield f"{provider}/{base}", None
        yield base, None
    for bare in _bare_names(provider, name):
        if region:
            yield f"{provider}/{region}/{bare}", None
        if region.startswith(_GOV_REGIONS):
            yield f"us-gov.{bare}", family
        yield f"{provider}/{bare}", None
        yield bare, family


# Whose models a provider that only hands on asks: its word for the maker → what tables have before the name.
_MAKERS = {
    **{"anthropic": "", "openai": "", "google": "gemini/", "x-ai": "xai/", "z-ai": "zai/", "qwen": "dashscope/"},
    **{"moonshotai": "moonshot/", "mistralai": "mistral/", "deepseek": "deepseek/", "minimax": "minimax/"},
    **{"cohere": "", "perplexity": "perplexity/"},
}
_ABILITIES = (_FLAGS, _COUNTS, re.compile(r"reasoning_effort_levels|supported_(output_)?modalities"))


def _behind(model: str) -> Iterator[tuple[str, str | None]]:
    """Where to look for the model that OpenRouter hands on to: `openrouter/maker/name`, perhaps with a variant."""
    provider, _, name = model.partition("/")
    if provider != "openrouter":
        return
    plain = name.partition(":")[0]  # `:free`, `:thinking`, `:nitro` … are ways to the same model
    if plain != name:
        yield f"{provider}/{plain}", None
    maker, slash, own = plain.lstrip("~").partition("/")
    if slash and (before := _MAKERS.get(maker)) is not None:
        for spelled in dict.fromkeys((own, own.replace(".", "-"))):
            yield f"{before}{spelled}", None if before else _family(maker)


def _abilities(found: Entry) -> dict[str, Any]:
    """What holds of a model wherever it is asked: never what it costs there, nor until when it is there."""
    kept = {key: value for key, value in found.items() if any(kind.fullmatch(key) for kind in _ABILITIES)}
    return {**kept, "mode": "chat"} if kept else {}


@dataclass(frozen=True, slots=True)
class Models:
    """The tables that a config stands on, the first that knows a model before the others."""

    own: Table | None = None  # the user's

    def find(self, model: str, params: Mapping[str, Any]) -> Entry:
        """What the tables say of a deployment's model, `provider/model` as users read it; empty where they say nothing.

        `params` are its litellm_params with environment references resolved; `base_model` may be among them.
        """
        names = list(_names(model, params))
        tables = [shipped()] if self.own is None else [shipped(), self.own]
        found = [_look_up(table, names) for table in tables]
        if not any(found):
            found = [_dearest(table, names) for table in tables]
        lower, upper = found[0], found[1] if len(found) > 1 else None
        if lower is None and model.partition("/")[0] not in ("ollama", "embedded"):  # which run what a user has made
            lower = sound(_look_up(_litellms_own(), names) or {})
        if behind := list(_behind(model)):
            own = None if self.own is None else _look_up(self.own, behind)
            there = _look_up(shipped(), behind) or sound(_look_up(_litellms_own(), behind) or {})
            lower = merged(lower or {}, _abilities(merged(own or {}, there)))
        return merged(upper or {}, lower or {})

    def named(self, name: str) -> Entry:
        """What the user's table and the one that ships say under just this name."""
        return merged((self.own and self.own.entries.get(name)) or {}, shipped().entries.get(name) or {})

    def known(self) -> Iterator[str]:
        """The names in the user's table and in the one that ships with us."""
        yield from dict.fromkeys((*(() if self.own is None else self.own.entries), *shipped().entries))


@dataclass(frozen=True, slots=True)
class Update:
    """What a newer table would change in what is known.

    Attributes:
        text: what the user's file would hold.
        models: how many models the newer table has.
        new: the names that no table had.
        changes: model → one line for each field that would be another.
        doubtful: one line for each price that would become 0 or unknown, or move more than tenfold from what was known
            or what ships with us.
        left: one line for each field that is wrong: its whole model stays as it was known.
    """

    text: str = field(repr=False)
    models: int
    new: tuple[str, ...]
    changes: Mapping[str, tuple[str, ...]]
    doubtful: tuple[str, ...]
    left: tuple[str, ...] = ()


_MOST_CHANGE = 10  # times; a price that moves further is a slip more often than a price


def _is_far(price: Any, now: Any) -> bool:
    """Whether a known price is left for none, or for one that is another more often by a slip."""
    if not is_number(price) or not price:
        return False
    return not is_number(now) or not price / _MOST_CHANGE <= now <= price * _MOST_CHANGE


def update(own: Table | None, newer: Mapping[str, Any], about: Mapping[str, str]) -> Update:
    """What becomes of the user's table when a newer one of LiteLLM's is put into it, field by field: models and fields
    that the newer one does not have stay as they were known, but for those that `merged` drops with a price."""
    entries: dict[str, Any] = {} if own is None else {name: dict(fields) for name, fields in own.entries.items()}
    old = Models(own)
    new, changes, doubtful = [], {}, []
    for name, raw in newer.items():
        below = shipped().entries.get(name) or {}
        before, kept, had = old.named(name), slim(raw), entries.get(name, {})
        # Not one over another where only one of them stands for another model.
        entries[name] = _over(kept, had) if ("alias_of" in kept) == ("alias_of" in had) else kept
        after = merged(entries[name], below)
        if not before:
            new.append(name)
            continue
        lines = []
        for key in sorted(before.keys() | after.keys()):
            was, now = before.get(key), after.get(key)
            if was != now:
                lines.append(f"{key} {_told(was)} → {_told(now)}")
                if is_price(key) and key in raw and any(_is_far(price, now) for price in (was, below.get(key))):
                    doubtful.append(f"{name}: {lines[-1]}")
        if lines:
            changes[name] = tuple(lines)
        doubtful += [f"{name}: {line}" for line in _doubts(dict(_figures(before)), dict(_figures(after)))]
    return Update(written(entries, about), len(newer), tuple(new), changes, tuple(dict.fromkeys(doubtful)))


def _doubts(before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[str]:
    for place, now in after.items():
        was = before.get(place)
        if was is None:  # a price of 0 that stands in the place of another
            is_doubtful = now == 0 and any(price and place.startswith(key) for key, price in before.items())
            is_doubtful = is_doubtful or (now == 0 and "." in place)
        else:
            is_doubtful = was != now and bool(was) and not was / _MOST_CHANGE <= now <= was * _MOST_CHANGE
        if is_doubtful:
            yield f"{place} {_told(was)} → {_told(now)}"


def _figures(fields: Entry, within: str = "") -> Iterator[tuple[str, float]]:
    """What of an entry is reckoned with, by its place: prices, those of tiers and hours too, and factors."""
    for key, value in fields.items():
        place = f"{within}{key}"
        if key == "tiered_pricing":
            for tier in value:
                first, *_ = tier["range"] if isinstance(tier.get("range"), list) and tier["range"] else (None,)
                yield from _figures(tier, f"{place}.{first}.")
        elif key in ("off_peak_pricing", "provider_specific_entry"):
            yield from _figures(value, f"{place}.")
        elif is_number(value) and (is_price(key) or _FACTORS.fullmatch(key) or within == "provider_specific_entry."):
            yield place, value


def update_from(where: str, own: Table | None) -> Update:
    """What the table at a URL, or in a file, would change.

    Raises:
        ModelDataError: it cannot be had, or is no table of models.
    """
    is_url = "://" in where
    place = cut(where.partition("?")[0].rpartition("@")[2] if is_url else Path(where).name, 200)
    try:
        about, raw = _parsed(_fetched(where) if is_url else _bytes_of(Path(where).expanduser()))
        faults = _faults(raw)  # one wrong model of thousands is to keep nobody from the others
        left = [fault for faults_of_one in faults.values() for fault in faults_of_one]
        models = {name: fields for name, fields in models_of(raw).items() if name not in faults}
        if not models:
            raise ValueError(_told_faults(left) or "holds no model: each has to say its litellm_provider")
    except (ValueError, RuntimeError) as error:
        why = str(error).splitlines() or ["cannot be read"]
        raise ModelDataError("; ".join(f"{place}: {fault}" for fault in why)) from None
    said = {
        "litellm": "main" if where == PUBLIC_TABLE else "",
        "date": datetime.now(UTC).date().isoformat(),
        "source": place,
    }
    found = update(own, models, {**{key: value for key, value in said.items() if value}, **about})
    return replace(found, left=tuple(left))


def _fetched(url: str) -> bytes:
    """What is at a URL. Not where it points to: that is not what the user has named.

    Raises:
        ValueError: it cannot be had; its text says why.
    """
    import httpx  # by this command alone

    try:
        with httpx.stream("GET", url, timeout=_PATIENCE_S, headers={"accept-encoding": "gzip"}) as response:
            if response.is_redirect:
                raise ValueError(f"points somewhere else (HTTP {response.status_code}); name that with --from")
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"cannot be fetched: HTTP {response.status_code}")
            data = bytearray()
            for part in response.iter_bytes():
                data += part
                if len(data) > MOST_BYTES:
                    raise ValueError(_TOO_LARGE)
            return bytes(data)
    except (httpx.NetworkError, httpx.TimeoutException, httpx.ProxyError) as error:
        host = cut(httpx.URL(url).host, 200)
        what = "no answer in time from" if isinstance(error, httpx.ReadTimeout) else "no connection to"
        raise ValueError(f"cannot be fetched: {what} {host}; fetch it elsewhere and pass --from FILE") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"cannot be fetched: {type(error).__name__}") from None


def write_file(path: Path, text: str, *, keep: bool = False) -> Path | None:
    """Put a table in the place of another in one step: whoever reads it meanwhile has all of one of them.

    To `keep` the other, which cannot be used but may hold what somebody has written, is to move it to the path that is
    returned.

    Raises:
        ModelDataError: it cannot be written.
    """
    path = path.resolve()  # a link stays one
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    aside = path.with_name(f"{path.name}.broken") if keep else None
    try:
        make_folder(path.parent)
        beside.unlink(missing_ok=True)
        try:
            with new_file(beside, _FOR_ALL_TO_READ) as stream:
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
            if aside is not None:
                path.replace(aside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ModelDataError(f"{path.name} cannot be written: {error.strerror}") from None
    return aside


_FOR_ALL_TO_READ = 0o644  # as far as the umask allows
PUBLIC_TABLE = "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json"
_PATIENCE_S = 60.0  # without a byte


def _told(value: Any) -> str:
    return "unknown" if value is None else cut(json.dumps(value))


def _look_up(table: Table, names: Iterable[tuple[str, str | None]]) -> Entry | None:
    for name, family in names:
        found = table.entries.get(name)
        if found is not None:
            found = _followed(table, found)
            # A user's own may leave out whose it is.
            provider = found.get("litellm_provider") or (shipped().entries.get(name) or {}).get("litellm_provider")
            if family is None or provider is None or _family(provider) == family:
                return found
    return None


def _dearest(table: Table, names: Iterable[tuple[str, str | None]]) -> Entry | None:
    """Of a model that the table has in other geographies only: the one of these that costs most."""
    found = [
        entry
        for name, family in names
        if family == "bedrock"
        for sibling in _siblings(name)
        if (entry := _look_up(table, [(sibling, family)])) is not None
    ]
    return max(found, key=lambda entry: entry.get("input_cost_per_token") or 0, default=None)


def _followed(table: Table, found: Entry) -> Entry:
    """The entry that an alias stands for."""
    for _ in range(_MOST_ALIASES):
        if "alias_of" not in found:
            break
        found = table.entries.get(str(found["alias_of"]), {})
    return found
